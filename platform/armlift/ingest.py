"""Ingest: records of the stream become rows, with the effect of exactly once.

One batch is one transaction: its events (ON CONFLICT DO NOTHING), marks on the cells of the rollup that they
touch, its bad events as dead letters, and the stream's offsets by compare-and-set. If that fails anywhere,
nothing of it happened, and the batch is read again from the stored offset. Marked cells are computed soon
after, in transactions of their own: a cell that many batches touch is computed once for them all.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, Engine, select, update

from armlift.days import Calendar
from armlift.durations import LATENESS, milliseconds
from armlift.errors import StreamError
from armlift.events import Alias, BadEvent, Codec, Event, Exposure, Feedback, Impression, request_day
from armlift.lateness import MOST_AHEAD, Arrivals
from armlift.rollup import Subjects, roll_up, roll_up_all
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.partitions import Partitions, oldest
from armlift.store.sink import append, insert_new
from armlift.streams.stream import EventStream, Record

if TYPE_CHECKING:
    from armlift.ingest_metrics import IngestMetrics

BATCH = 5_000
"""Records a transaction takes at most; a record is a message of about twelve events."""
GROUP = "ingest"
ROLL_SECONDS = 1.0
"""Seconds between two computations of the rollup, at least, while records come in."""


class Ingested(NamedTuple):
    """What a batch brought: records, events, and how many of them were bad."""

    records: int
    events: int
    bad: int


class PartitionLostError(Exception):
    """The stored offset is not where this ingester left it: another one owns the partition now."""


class Batch:
    """The rows of a batch, by table, and the cells they touch."""

    def __init__(self, calendar: Calendar, lateness: int = milliseconds(LATENESS)) -> None:
        self.arrivals = Arrivals(lateness)
        self.exposures: list[tuple[object, ...]] = []
        self.impressions: list[tuple[object, ...]] = []
        self.feedback: list[tuple[object, ...]] = []
        self.aliases: list[tuple[object, ...]] = []
        self.dead: list[tuple[object, ...]] = []
        self.request_days: set[int] = set()
        self._cells: set[tuple[str, str, int]] = set()
        self._exposed: set[tuple[str, str, str, int]] = set()
        self._merged: set[tuple[str, str]] = set()
        self._day = calendar.day

    def add(self, event: Event, partition: int = 0, arrived: int | None = None) -> None:
        """Take in one valid event; it counts as an arrival where its time (UTC milliseconds) is known."""
        day, requested = self._day(event.ts), request_day(event.event_id)
        if arrived is not None:
            self.arrivals.add(partition, event.run, day, event.ts, arrived)
        head = (requested, event.event_id, event.run, day, event.ts, event.unit_id)
        if type(event) is Feedback:
            self._cells.add((event.run, event.unit_id, day))
            self.request_days.add(requested)
            self.feedback.append(
                (*head, event.request_id, event.item_id, event.kind, event.value, event.ordinal)
            )
        elif type(event) is Impression:
            self._cells.add((event.run, event.unit_id, day))
            self.request_days.add(requested)
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
            self._exposed.add((event.run, event.unit_id, event.arm, event.ts))
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
            self._merged.add((event.run, event.anonymous_id))
            self.aliases.append((event.run, event.anonymous_id, event.ts, event.unit_id))

    def reject(self, stream_id: str, partition: int, offset: int, bad: BadEvent) -> None:
        """Take in one bad event of a record, as a dead letter."""
        self.dead.append((stream_id, partition, offset, bad.place, bad.reason, bad.raw, bad.schema))

    @property
    def by_table(self) -> dict[str, int]:
        """Count the events of the batch, by the table they belong to."""
        return {
            "exposures": len(self.exposures),
            "impressions": len(self.impressions),
            "feedback": len(self.feedback),
            "aliases": len(self.aliases),
        }

    @property
    def events(self) -> int:
        """Count the events of the batch."""
        return sum(self.by_table.values())

    @property
    def marks(self) -> list[tuple[object, ...]]:
        """Give the rows of `touched_cells`."""
        cells = [(run, unit, day, None, None) for run, unit, day in self._cells]
        exposed = [(run, unit, None, arm, ts) for run, unit, arm, ts in self._exposed]
        return [*cells, *exposed, *((run, merged, None, None, None) for run, merged in self._merged)]


class Ingester:
    """Moves records of one stream into one database; use it from one thread.

    `subjects` names the experiments a run's events count in (see `runs.Subjects`); a transaction takes at
    most `batch` records. `metrics` are told of every batch and failure. An event is late after `lateness`
    milliseconds; where the stream does not know when a record came, `clock` tells (UTC milliseconds).
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
        metrics: "IngestMetrics | None" = None,
        lateness: int = milliseconds(LATENESS),
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._codec = codec
        self._calendar = calendar
        self._subjects = subjects
        self._batch = batch
        self._metrics = metrics
        self._lateness = lateness
        self._clock = clock
        self._next: dict[int, int] = {}
        self._partitions = Partitions(engine)
        self._roll_at = 0.0
        self._marked = True  # for all it knows
        self.total: Counter[str] = Counter()
        stream.subscribe(GROUP, self._assigned, self._revoked)

    def step(self, timeout: float = 0.5) -> Ingested:
        """Move one batch; waits up to `timeout` seconds for records. Computes the rollup now and then.

        Raises StreamError when the stored offset is not in the stream.
        """
        try:
            records = self._stream.poll(self._batch, timeout)
            done = self._store(records) if records else Ingested(0, 0, 0)
            if self._marked and time.monotonic() >= self._roll_at:
                self._marked = self.roll() > 0
        except Exception as error:
            if self._metrics:
                self._metrics.failed(error)
            if isinstance(error, PartitionLostError):
                return Ingested(0, 0, 0)
            raise
        return done

    def roll(self) -> int:
        """Compute marked cells of the rollup; gives how many marks were taken, 0 if another computes them."""
        started = time.monotonic()
        with writing(self._engine) as connection:
            taken = roll_up(connection, self._subjects)
            self._codec.oldest_day = oldest(connection)
        ended = time.monotonic()
        # Most of the time is left to records, however slow the rollup is; it then takes more marks at once.
        self._roll_at = ended + max(ROLL_SECONDS, 2 * (ended - started))
        return taken

    def _store(self, records: Sequence[Record]) -> Ingested:
        """Store records in one transaction; raises PartitionLostError when another one has stored them."""
        reached = {record.partition: record.offset + 1 for record in records}
        began = time.perf_counter()
        try:
            batch = self._read(records)
            self._partitions.ensure(batch.request_days)
            with writing(self._engine) as connection:
                self._move_offsets(connection, reached)
                new = write(connection, batch, self._stream.stream_id)
        except BaseException as error:
            # Nothing was stored: the next poll must bring these records again, also those of partitions that
            # are still ours when the stored offsets cannot be read now.
            for record in reversed(records):
                self._stream.seek(record.partition, record.offset)
            if isinstance(error, PartitionLostError):
                self._return_to_stored(reached)
            raise
        self._next.update(reached)
        self._marked = True
        done = Ingested(len(records), batch.events, len(batch.dead))
        self.total.update(done._asdict())
        if self._metrics:
            self._metrics.batch(done, batch.by_table, new, time.perf_counter() - began)
        return done

    def drain(self, *, wait: float = 60.0) -> Ingested:
        """Move everything up to the stream's present end, also what another ingester of the group moves.

        The rollup is then complete too.

        Raises TimeoutError when nothing moves for `wait` seconds, StreamError when the stored offset is not
        in the stream.
        """
        ends = self._ends()
        before = Counter(self.total)
        moved_at, seen = time.monotonic(), -1
        while True:
            stored = self.stored()
            if all(stored.get(partition, 0) >= end for partition, end in ends.items()):
                roll_up_all(self._engine, self._subjects, wait=wait)
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

    def lag(self) -> dict[int, int]:
        """Count the records that are not stored yet, by partition that this ingester owns now."""
        beginnings, ends = self._stream.beginning_offsets(), self._stream.end_offsets()
        return {
            partition: max(0, ends[partition] - max(reached, beginnings[partition]))
            for partition, reached in self._next.items()
        }

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
        with self._engine.connect() as connection:
            self._codec.oldest_day = oldest(connection)
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

    def _read(self, records: Sequence[Record]) -> Batch:
        batch, now = Batch(self._calendar, self._lateness), self._clock()
        for record in records:
            arrived = now if record.timestamp is None else record.timestamp
            events, bad = self._codec.decode(record.value, arrived + MOST_AHEAD)
            for event in events:
                batch.add(event, record.partition, arrived)
            for one in bad:
                batch.reject(self._stream.stream_id, record.partition, record.offset, one)
        return batch

    def _move_offsets(self, connection: Connection, reached: Mapping[int, int]) -> None:
        """Move each partition's offset from where we left it, or find that somebody else did."""
        offsets = tables.stream_offsets
        # In one order for all, so that two ingesters wait for each other instead of deadlocking.
        for partition, end in sorted(reached.items()):
            expected = self._next.get(partition, 0)
            if not expected:
                insert_new(connection, offsets, [(self._stream.stream_id, partition, 0)])
            place = (offsets.c.stream_id == self._stream.stream_id, offsets.c.partition == partition)
            moved = connection.execute(
                update(offsets).where(*place, offsets.c.next == expected).values(next=end)
            )
            if not moved.rowcount:
                raise PartitionLostError(partition)


def write(connection: Connection, batch: Batch, stream_id: str | None = None) -> int:
    """Store a batch's rows, and mark the cells they touch; gives how many events were new.

    `stream_id` is where the events arrived, if they count as arrivals.
    """
    new = insert_new(connection, tables.exposures, batch.exposures)
    new += insert_new(connection, tables.impressions, batch.impressions)
    new += insert_new(connection, tables.feedback, batch.feedback)
    new += insert_new(connection, tables.aliases, batch.aliases)
    insert_new(connection, tables.dead_letters, batch.dead)
    if stream_id is not None:
        batch.arrivals.write(connection, stream_id)
    append(connection, tables.touched_cells, batch.marks)
    return new
