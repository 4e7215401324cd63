"""Ingest: records of the stream become rows, with the effect of exactly once.

One batch is one transaction: its events (ON CONFLICT DO NOTHING), the rollup of the cells they touch, its bad
events as dead letters, and the stream's offsets by compare-and-set. If that fails anywhere, nothing of it
happened, and the batch is read again from the stored offset.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, Table, select, update

from armlift.days import Calendar
from armlift.durations import LATENESS, milliseconds
from armlift.errors import StreamError
from armlift.events import Alias, Codec, Event, Exposure, Feedback, Impression, request_day
from armlift.lateness import MOST_AHEAD, Arrivals
from armlift.rollup import Cell, Exposed, Merged, Subject, roll_up
from armlift.store import tables
from armlift.store.database import writing
from armlift.streams.stream import EventStream, Record

BATCH = 5_000
"""Records a transaction takes at most; a record is a message of about twelve events."""
GROUP = "ingest"

Subjects = Callable[[Connection, set[str]], Sequence[Subject]]
"""Give the experiments whose metrics the events of these runs count in."""


class Ingested(NamedTuple):
    """What a batch brought: records, events, and how many of them were bad."""

    records: int
    events: int
    bad: int


class PartitionLostError(Exception):
    """The stored offset is not where this ingester left it: another one owns the partition now."""


class _Batch:
    """The rows of a batch, by table, and the cells they touch."""

    def __init__(self, calendar: Calendar, lateness: int) -> None:
        self.arrivals = Arrivals(lateness)
        self.exposures: list[tuple[object, ...]] = []
        self.impressions: list[tuple[object, ...]] = []
        self.feedback: list[tuple[object, ...]] = []
        self.aliases: list[tuple[object, ...]] = []
        self.dead: list[tuple[object, ...]] = []
        self.cells: set[Cell] = set()
        self.exposed: list[Exposed] = []
        self.merged: set[Merged] = set()
        self.runs: set[str] = set()
        self._day = calendar.day

    def add(self, event: Event, partition: int, arrived: int) -> None:
        """Take in one valid event and the time (UTC milliseconds) of its arrival."""
        day = self._day(event.ts)
        self.arrivals.add(partition, event.run, day, event.ts, arrived)
        self.runs.add(event.run)
        head = (request_day(event.event_id), event.event_id, event.run, day, event.ts, event.unit_id)
        if type(event) is Feedback:
            self.cells.add((event.run, event.unit_id, day))
            self.feedback.append(
                (*head, event.request_id, event.item_id, event.kind, event.value, event.ordinal)
            )
        elif type(event) is Impression:
            self.cells.add((event.run, event.unit_id, day))
            self.impressions.append(
                (
                    *head,
                    event.request_id,
                    event.arm,
                    event.arm_version,
                    event.item_id,
                    event.position,
                    event.step,
                    event.score,
                    event.propensity,
                    event.fallback,
                )
            )
        elif type(event) is Exposure:
            self.exposed.append(Exposed(event.run, event.experiment, event.unit_id, event.arm, event.ts))
            self.exposures.append(
                (
                    *head,
                    event.experiment,
                    event.generation,
                    event.phase,
                    event.arm,
                    event.arm_version,
                    event.forced,
                    event.fallback,
                )
            )
        elif type(event) is Alias:
            self.merged.add(Merged(event.run, event.anonymous_id))
            self.aliases.append((event.run, event.anonymous_id, event.ts, event.unit_id))

    @property
    def events(self) -> int:
        """Count the events of the batch."""
        return sum(map(len, (self.exposures, self.impressions, self.feedback, self.aliases)))


class Ingester:
    """Moves records of one stream into one database; use it from one thread.

    `subjects` names the experiments a run's events count in (see `runs.Subjects`); a transaction takes at
    most `batch` records. An event is late after `lateness` milliseconds; where the stream does not know when
    a record came, `clock` tells (UTC milliseconds).
    """

    def __init__(
        self,
        engine: Engine,
        stream: EventStream,
        codec: Codec,
        calendar: Calendar,
        subjects: Subjects,
        *,
        batch: int = BATCH,
        lateness: int = milliseconds(LATENESS),
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._codec = codec
        self._calendar = calendar
        self._subjects = subjects
        self._batch = batch
        self._lateness = lateness
        self._clock = clock
        self._next: dict[int, int] = {}
        self.total: Counter[str] = Counter()
        stream.subscribe(GROUP, self._assigned, self._revoked)

    def step(self, timeout: float = 0.5) -> Ingested:
        """Move one batch; waits up to `timeout` seconds for records.

        Raises StreamError when the stored offset is not in the stream.
        """
        records = self._stream.poll(self._batch, timeout)
        if not records:
            return Ingested(0, 0, 0)
        reached = {record.partition: record.offset + 1 for record in records}
        try:
            batch = self._read(records)
            with writing(self._engine) as connection:
                self._move_offsets(connection, reached)
                self._write(connection, batch)
        except BaseException as error:
            # Nothing was stored: the next poll must bring these records again, also those of partitions that
            # are still ours when the stored offsets cannot be read now.
            for record in reversed(records):
                self._stream.seek(record.partition, record.offset)
            if not isinstance(error, PartitionLostError):
                raise
            self._return_to_stored(reached)
            return Ingested(0, 0, 0)
        self._next.update(reached)
        done = Ingested(len(records), batch.events, len(batch.dead))
        self.total.update(done._asdict())
        return done

    def drain(self, *, wait: float = 60.0) -> Ingested:
        """Move everything up to the stream's present end, also what another ingester of the group moves.

        Raises TimeoutError when nothing moves for `wait` seconds, StreamError when the stored offset is not
        in the stream.
        """
        ends = self._ends()
        before = Counter(self.total)
        moved_at, seen = time.monotonic(), -1
        while True:
            stored = self.stored()
            if all(stored.get(partition, 0) >= end for partition, end in ends.items()):
                moved = self.total - before
                return Ingested(moved["records"], moved["events"], moved["bad"])
            self.step(timeout=0.05)
            if (here := sum(stored.values())) != seen:
                moved_at, seen = time.monotonic(), here
            elif time.monotonic() - moved_at > wait:
                raise TimeoutError(f"no record of {self._stream.stream_id} was ingested for {wait:g} s")

    def _ends(self) -> dict[int, int]:
        """Give the end of each partition that has records; what is stored must lie in the stream."""
        # In this order, as all three only grow while others publish, ingest and expire.
        beginnings = self._stream.beginning_offsets()
        stored = self.stored()
        ends = self._stream.end_offsets()
        for partition, offset in stored.items():
            first, end = beginnings.get(partition, 0), ends.get(partition, 0)
            if not first <= offset <= end:
                raise StreamError(
                    f"{self._stream.stream_id}: stored offset {offset} of partition {partition} is out of "
                    f"range, must be {first} to {end}"
                )
        return {partition: end for partition, end in ends.items() if end > beginnings[partition]}

    def stored(self) -> dict[int, int]:
        """Read the stored offsets of this stream, by partition."""
        offsets = tables.stream_offsets
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(offsets.c.partition, offsets.c.next).where(
                    offsets.c.stream_id == self._stream.stream_id
                )
            )
            return {row[0]: row[1] for row in rows}

    def _assigned(self, partitions: Sequence[int]) -> None:
        self._return_to_stored(partitions)

    def _revoked(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)

    def _return_to_stored(self, partitions: Sequence[int] | Mapping[int, int]) -> None:
        """Read on where the tables end; what was never read begins at its beginning."""
        stored, beginnings = self.stored(), self._stream.beginning_offsets()
        for partition in partitions:
            self._next[partition] = stored.get(partition, 0)
            self._stream.seek(partition, stored.get(partition, beginnings[partition]))

    def _read(self, records: Sequence[Record]) -> _Batch:
        batch, now = _Batch(self._calendar, self._lateness), self._clock()
        for record in records:
            arrived = now if record.timestamp is None else record.timestamp
            events, bad = self._codec.decode(record.value, arrived + MOST_AHEAD)
            for event in events:
                batch.add(event, record.partition, arrived)
            for index, reason, raw in bad:
                batch.dead.append(
                    (self._stream.stream_id, record.partition, record.offset, index, reason, raw)
                )
        return batch

    def _move_offsets(self, connection: Connection, reached: Mapping[int, int]) -> None:
        """Move each partition's offset from where we left it, or find that somebody else did."""
        offsets = tables.stream_offsets
        # In one order for all, so that two ingesters wait for each other instead of deadlocking.
        for partition, end in sorted(reached.items()):
            expected = self._next.get(partition, 0)
            if not expected:
                add(connection, offsets, [(self._stream.stream_id, partition, 0)])
            place = (offsets.c.stream_id == self._stream.stream_id, offsets.c.partition == partition)
            moved = connection.execute(
                update(offsets).where(*place, offsets.c.next == expected).values(next=end)
            )
            if not moved.rowcount:
                raise PartitionLostError(partition)

    def _write(self, connection: Connection, batch: _Batch) -> None:
        add(connection, tables.exposures, batch.exposures)
        add(connection, tables.impressions, batch.impressions)
        add(connection, tables.feedback, batch.feedback)
        add(connection, tables.aliases, batch.aliases)
        batch.arrivals.write(connection, self._stream.stream_id)
        add(connection, tables.dead_letters, batch.dead)
        if batch.events:
            subjects = self._subjects(connection, batch.runs)
            roll_up(connection, subjects, list(batch.cells), batch.exposed, list(batch.merged))


def add(connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows in the order of the table's columns; those that are there already change nothing."""
    if not rows:
        return
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(map(quote, table.c.keys()))
    marks = ", ".join([mark] * len(table.c))
    # Handed to the driver as it is: a batch has tens of thousands of rows.
    connection.exec_driver_sql(
        f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING", list(rows)
    )
