"""The status of ingest: how far each partition is, who moves it and how fast, and what was not stored."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from armlift import dead_letters
from armlift.forgotten import dropped_events
from armlift.ingest import stored_offsets
from armlift.ingesters import State, states
from armlift.rollup import waiting
from armlift.streams.stream import EventStream

REASONS = 10
"""Reasons of dead letters that are shown, the most frequent ones."""


class Progress(NamedTuple):
    """How far a partition is: offsets of the next record to store and to publish, and records between."""

    partition: int
    stored: int
    end: int
    lag: int


class Status(NamedTuple):
    """The status of a stream's ingest into a database; `marks` count cells the rollup has yet to compute,
    `forgotten` events of forgotten units that came late and were not stored.
    """

    stream_id: str
    partitions: list[Progress]
    ingesters: list[State]
    marks: int
    dead: int
    reasons: Mapping[str, int]
    forgotten: int = 0

    @property
    def lag(self) -> int:
        """Count the records of all partitions that are not stored."""
        return sum(one.lag for one in self.partitions)

    def document(self) -> dict[str, object]:
        """Give it as plain data."""
        return {
            "stream": self.stream_id,
            "partitions": [one._asdict() for one in self.partitions],
            "lag": self.lag,
            "ingesters": [_ingester(one) for one in self.ingesters],
            "waiting_marks": self.marks,
            "dead_letters": self.dead,
            "reasons": [{"reason": name, "dead_letters": count} for name, count in self.reasons.items()],
            "forgotten_events": self.forgotten,
        }


def status(connection: Connection, stream: EventStream | None) -> Status:
    """Read the status; what retention took before it was stored is no lag.

    Without a stream it is what the database alone knows: no partitions, and the ingesters of all streams.
    """
    identity = None if stream is None else stream.stream_id
    partitions = [] if stream is None else _progress(connection, stream)
    dead = dead_letters.listing(connection, limit=REASONS)
    running = states(connection, identity)
    late = dropped_events(connection)
    return Status(identity or "", partitions, running, waiting(connection), dead.total, dead.reasons, late)


def _progress(connection: Connection, stream: EventStream) -> list[Progress]:
    beginnings = stream.beginning_offsets()
    stored = stored_offsets(connection, stream.stream_id)
    partitions = []
    for partition, end in sorted(stream.end_offsets().items()):
        reached = stored.get(partition, 0)
        behind = max(0, end - max(reached, beginnings[partition]))
        partitions.append(Progress(partition, reached, end, behind))
    return partitions


def _ingester(one: State) -> dict[str, object]:
    return {
        "host": one.host,
        "pid": one.pid,
        "state": "gone" if one.gone else "running",
        "started_seconds_ago": one.age,
        "seen_seconds_ago": one.silent,
        **one.figures._asdict(),
        **one.rates(),
    }


def render(found: Status) -> str:
    """Write the status for people."""
    lines = [
        f"partition {number}: {stored:,} of {end:,} records stored, lag {lag:,} records"
        for number, stored, end, lag in found.partitions
    ]
    for one in found.ingesters:
        lines += _render_ingester(one)
    if not any(not one.gone for one in found.ingesters):
        lines.append("no ingester is running")
    lines.append(f"{found.marks:,} marks wait for the rollup")
    lines.append(f"{found.dead:,} dead letters")
    lines += [f"  {count:,} × {dead_letters.printable(reason)}" for reason, count in found.reasons.items()]
    if rest := found.dead - sum(found.reasons.values()):
        lines.append(f"  {rest:,} with other reasons; see `armlift dead-letters list`")
    if found.forgotten:
        lines.append(f"{found.forgotten:,} events of forgotten units came late, and were not stored")
    return "\n".join(lines)


def _render_ingester(one: State) -> list[str]:
    rates, ever = one.rates(), one.figures
    failures = ", ".join(f"{count:,} {kind}" for kind, count in ever.failures.items() if count) or "none"
    error = f"; the last: {dead_letters.printable(ever.last_error)}" if ever.last_error else ""
    seen = "gone, " if one.gone else ""
    lines = [
        f"ingester {one.host}:{one.pid}: {seen}started {one.age:,.0f} s ago, seen {one.silent:,.0f} s ago",
        f"  {ever.records:,} records, {ever.events:,} events ({ever.new:,} new), {ever.bad:,} dead letters, "
        f"{ever.batches:,} batches",
    ]
    if not one.gone:
        lines.append(
            "  lately   {records_per_second:,.0f} records/s, {events_per_second:,.0f} events/s, "
            "{seconds_per_batch:.3f} s a batch".format(**rates)
        )
    lines.append(
        "  overall  {mean_records_per_second:,.0f} records/s, {mean_events_per_second:,.0f} events/s, "
        "{mean_seconds_per_batch:.3f} s a batch".format(**rates)
    )
    return [*lines, f"  failures: {failures}{error}"]
