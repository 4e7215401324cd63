"""Metrics of an ingester, for Prometheus and for the sign of life it gives in the database."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from sqlalchemy.exc import SQLAlchemyError

from armlift.errors import InputError, StreamError
from armlift.ingest import Ingested, PartitionLostError

PREFIX = "armlift_ingest"
FAILURES = ("database", "stream", "partition_lost", "other")
"""The kinds of failures: `partition_lost` is another ingester's doing and harmless, `other` a bug of ours."""
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds of the histogram of batch times."""
ERROR = 500
"""Characters of an error that are kept."""


class Figures(NamedTuple):
    """What an ingester did since its start; `batch_seconds` is the time of all its batches together."""

    records: int
    events: int
    bad: int
    new: int
    batches: int
    batch_seconds: float
    failures: dict[str, int]
    last_error: str | None


class IngestMetrics:
    """Counts what one ingester does; `registry` is where Prometheus finds it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._last_error: str | None = None
        self._owned: set[int] = set()

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", says, labels, registry=registry)

        def gauge(name: str, says: str, *labels: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", says, labels, registry=registry)

        self._records = counter("records", "Records stored, or kept as dead letters.")
        self._events = counter("events", "Valid events of these records, redelivered ones too.", "table")
        self._bad = counter("bad_events", "Dead letters: bad events, and records that are no message.")
        self._forgotten = counter(
            "forgotten_events", "Events that were not stored: of units from before they were forgotten."
        )
        self._new = counter("new_rows", "Events that were not in the database before.")
        self._failures = counter("failures", "Batches that were not stored, by kind.", "kind")
        self._seconds = Histogram(
            f"{PREFIX}_batch_seconds",
            "Seconds a batch took from its records to its commit.",
            buckets=SECONDS,
            registry=registry,
        )
        self._lag = gauge(
            "lag_records", "Records published and not stored, of owned partitions.", "partition"
        )
        self._last = gauge("last_batch_timestamp_seconds", "When the last batch was committed (Unix time).")
        for kind in FAILURES:
            self._failures.labels(kind)

    def batch(self, done: Ingested, by_table: Mapping[str, int], new: int, seconds: float) -> None:
        """Count a batch that was committed: its events by table, and how many of them were new."""
        self._records.inc(done.records)
        for table, events in by_table.items():
            self._events.labels(table).inc(events)
        self._bad.inc(done.bad)
        self._forgotten.inc(done.forgotten)
        self._new.inc(new)
        self._seconds.observe(seconds)
        self._last.set(time.time())

    def failed(self, error: Exception) -> None:
        """Count a batch that was not stored, by what went wrong."""
        self._failures.labels(failure_kind(error)).inc()
        # SQLAlchemy's own text holds the rows of the statement.
        text = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
        self._last_error = " ".join(text.replace("\0", "").split())[:ERROR]

    def lag(self, records: Mapping[int, int]) -> None:
        """Set the lag of the partitions that are owned now; others' lag is their owners' to tell."""
        for partition in self._owned - records.keys():
            self._lag.remove(str(partition))
        self._owned = set(records)
        for partition, behind in records.items():
            self._lag.labels(str(partition)).set(behind)

    def figures(self) -> Figures:
        """Give the totals since the start."""
        tables = ("exposures", "impressions", "feedback")
        return Figures(
            records=int(self._value("records_total")),
            events=int(sum(self._value("events_total", table=table) for table in tables)),
            bad=int(self._value("bad_events_total")),
            new=int(self._value("new_rows_total")),
            batches=int(self._value("batch_seconds_count")),
            batch_seconds=self._value("batch_seconds_sum"),
            failures={kind: int(self._value("failures_total", kind=kind)) for kind in FAILURES},
            last_error=self._last_error,
        )

    def _value(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(f"{PREFIX}_{name}", labels) or 0.0

    @contextmanager
    def serve(self, port: int, host: str = "127.0.0.1") -> Iterator[int]:
        """Answer Prometheus at http://HOST:PORT/metrics; gives the port, the system's choice for 0.

        Raises InputError for an address that cannot be taken.
        """
        try:
            server, thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise InputError(
                f"--metrics-host {host} --metrics-port {port}: {error.strerror or error}, must be free"
            ) from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def failure_kind(error: Exception) -> str:
    """Name the kind of a failure: one of FAILURES."""
    kinds = {PartitionLostError: "partition_lost", StreamError: "stream", SQLAlchemyError: "database"}
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "other")
