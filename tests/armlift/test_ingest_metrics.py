"""Metrics of an ingester: what Prometheus reads is what was done."""

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError

from armlift import ingest, runs
from armlift.days import Calendar
from armlift.errors import InputError, StreamError
from armlift.events import KINDS, Codec, Event, Exposure, Feedback, Impression
from armlift.ingest import Ingested, Ingester, PartitionLostError
from armlift.ingest_metrics import ERROR, FAILURES, SECONDS, IngestMetrics, failure_kind
from armlift.store import tables
from armlift.store.database import writing
from armlift.streams.embedded import EmbeddedStream

TS = 1_650_000_000_123


def identity(number: int) -> str:
    return f"01802ba9f47b{number:020x}"


def message(number: int) -> bytes:
    """Write a message of an exposure, two impressions, a click, and an event that is bad."""
    head = ("r1", TS)
    events: list[Event] = [
        Exposure(identity(10 * number), *head, "u1", "demo", 0, 0, "a", "1"),
        *(
            Impression(
                identity(10 * number + n), *head, identity(1), "u1", "a", "1", f"v{n}", n, 0, 0.5, None
            )
            for n in (1, 2)
        ),
        Feedback(identity(10 * number + 3), *head, identity(1), "u1", "v1", "click", 1.0),
        Feedback(identity(10 * number + 4), *head, identity(1), "u1", "v1", "wink", 1.0),
    ]
    return Codec(KINDS).encode(events)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Read the metrics as Prometheus does: a name with its labels, and the value."""
    text = generate_latest(registry).decode()
    return {
        "|".join((one.name.removeprefix("armlift_ingest_"), *one.labels.values())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


@pytest.fixture
def metrics() -> IngestMetrics:
    return IngestMetrics(CollectorRegistry())


def test_an_ingester_tells_what_it_does(engine: Engine, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    with EmbeddedStream(tmp_path, 2) as stream:
        for number in range(6):
            stream.publish(f"u{number}", message(number))
        stream.publish("u0", b"no message")
        stream.publish("u1", message(1))
        stream.flush()
        one = Ingester(
            engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=3, metrics=metrics
        )
        one.step(timeout=1)
        metrics.lag(one.lag())
        assert sum(value for name, value in samples(registry).items() if name.startswith("lag")) == 5
        done = one.drain(wait=5)
        metrics.lag(one.lag())
    found = samples(registry)
    assert done.records == 5
    assert found["records_total"] == 8
    assert found["events_total|exposures"] == 7
    assert found["events_total|impressions"] == 14
    assert found["events_total|feedback"] == 7
    assert found["bad_events_total"] == 8
    assert found["new_rows_total"] == 24
    assert found["batch_seconds_count"] >= 3
    assert 0 < found["batch_seconds_sum"] < 10
    assert found["batch_seconds_bucket|+Inf"] == found["batch_seconds_count"]
    assert {name for name in found if name.startswith("lag")} == {"lag_records|0", "lag_records|1"}
    assert found["lag_records|0"] == found["lag_records|1"] == 0
    assert found["last_batch_timestamp_seconds"] > 1.7e9
    assert {name: found[f"failures_total|{name}"] for name in FAILURES} == dict.fromkeys(FAILURES, 0)
    figures = metrics.figures()
    assert (figures.records, figures.events, figures.bad, figures.new) == (8, 28, 8, 24)
    assert figures.batches == found["batch_seconds_count"]
    assert figures.last_error is None


def test_an_ingester_tells_of_its_failures(
    engine: Engine, tmp_path: Path, metrics: IngestMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedStream(tmp_path, 1) as stream:
        for number in range(4):
            stream.publish("u1", message(number))
        stream.flush()
        one = Ingester(
            engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=2, metrics=metrics
        )
        one.step(timeout=1)
        with writing(engine) as connection:
            connection.execute(update(tables.stream_offsets).values(next=1))
        assert one.step(timeout=1) == Ingested(0, 0, 0)
        with monkeypatch.context() as patch:
            patch.setattr(ingest, "write", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                one.step(timeout=1)
        with monkeypatch.context() as patch:
            patch.setattr(stream, "poll", lambda *_: (_ for _ in ()).throw(StreamError("torn\n at 7")))
            with pytest.raises(StreamError):
                one.step(timeout=1)
        one.drain(wait=5)
    figures = metrics.figures()
    assert figures.failures == {"database": 0, "stream": 1, "partition_lost": 1, "other": 1}
    assert figures.last_error == "StreamError: torn at 7"
    assert (figures.records, figures.new) == (5, 16)


def test_a_database_failure_shows_no_rows(metrics: IngestMetrics) -> None:
    error = OperationalError(
        "INSERT", {"unit_id": "u1"}, Exception("server closed\nthe connection" + "x" * 900)
    )
    assert failure_kind(error) == "database"
    assert failure_kind(PartitionLostError(1)) == "partition_lost"
    metrics.failed(error)
    figures = metrics.figures()
    assert figures.failures["database"] == 1
    assert figures.last_error
    assert figures.last_error.startswith("OperationalError: server closed the connection")
    assert "u1" not in figures.last_error
    assert len(figures.last_error) == ERROR


def test_a_lost_partition_has_no_lag(metrics: IngestMetrics) -> None:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    for told in ({0: 5, 1: 7}, {1: 6, 2: 0}):
        metrics.lag(told)
        assert {name for name in samples(registry) if name.startswith("lag")} == {
            f"lag_records|{partition}" for partition in told
        }
    assert samples(registry)["lag_records|1"] == 6


def test_prometheus_is_answered(metrics: IngestMetrics) -> None:
    metrics.batch(Ingested(3, 12, 1), {"feedback": 12}, 10, 0.2)
    with metrics.serve(0) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        with pytest.raises(InputError) as caught, metrics.serve(port):
            pass
    assert "armlift_ingest_records_total 3.0" in text
    assert 'armlift_ingest_batch_seconds_bucket{le="0.25"} 1.0' in text
    assert str(caught.value) == (
        f"--metrics-host 127.0.0.1 --metrics-port {port}: Address already in use, must be free"
    )
    with metrics.serve(port) as again:
        assert again == port


def test_the_document_names_every_metric(root: Path, metrics: IngestMetrics) -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    kinds: dict[str, Any] = {"counter": "_total", "histogram": "", "gauge": ""}
    for family in registry.collect():
        assert f"`{family.name}{kinds[family.type]}" in text
    assert all(f"`{kind}`" in text for kind in FAILURES)
    assert list(SECONDS) == sorted(SECONDS)
