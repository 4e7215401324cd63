"""Ingest: records of the stream become rows, with the effect of exactly once.

One batch is one transaction: its events (ON CONFLICT DO NOTHING), marks on the cells of the rollup that they
touch, its bad events as dead letters, and the stream's offsets by compare-and-set. If that fails anywhere,
nothing of it happened, and the batch is read again from the stored offset. While a batch is stored, the next
one is read and decoded. Marked cells are computed soon after, in transactions of their own: a cell that many
batches touch is computed once for them all.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, Engine, select, update

from armlift.batch import Batch, write
from armlift.days import Calendar, utc_now
from armlift.durations import LATENESS, milliseconds
from armlift.errors import StreamError
from armlift.events import Codec
from armlift.forgotten import Forgotten
from armlift.lateness import MOST_AHEAD
from armlift.rollup import Subjects, marked, roll_up, roll_up_all
from armlift.store import tables
from armlift.store.database import let_go, writing
from armlift.store.partitions import Partitions, oldest
from armlift.store.sink import insert_new
from armlift.streams.stream import EventStream, Record

if TYPE_CHECKING:
    from armlift.ingest_metrics import IngestMetrics

BATCH = 5_000
"""Records a transaction takes at most; a record is a message of about twelve events."""
GROUP = "ingest"
ROLL_SECONDS = 1.0
"""Seconds between two looks for what the rollup must compute, at least."""
SILENT_SECONDS = 10.0
"""Seconds between two statements of a transaction after which the database gives it up, with its locks."""


class Ingested(NamedTuple):
    """What a batch brought: records, events, and how many were bad, or of units that were forgotten since."""

    records: int
    events: int
    bad: int
    forgotten: int = 0


NOTHING = Ingested(0, 0, 0)


class PartitionLostError(Exception):
    """The stored offset is not where this ingester left it: another one owns the partition now."""


class _Taken(NamedTuple):
    """Records that were polled, and the batch they make."""

    records: Sequence[Record]
    batch: Batch

    @property
    def reached(self) -> dict[int, int]:
        """Give the offset behind the last record, by partition."""
        return {record.partition: record.offset + 1 for record in self.records}


class _Stored(NamedTuple):
    """How many events of a batch were new, and how long storing it took."""

    new: int
    seconds: float


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
        clock: Callable[[], int] = utc_now,
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
        self._forgotten = Forgotten()
        self._roll_at = 0.0
        self._ahead: _Taken | None = None
        self._storing: Future[_Stored] | None = None
        self._writer = ThreadPoolExecutor(1, "ingest-writer")
        self.total: Counter[str] = Counter()
        stream.subscribe(GROUP, self._assigned, self._revoked)

    def step(self, timeout: float = 0.5) -> Ingested:
        """Move one batch; waits up to `timeout` seconds for records. Computes the rollup now and then.

        Raises StreamError when the stored offset is not in the stream.
        """
        try:
            taken, self._ahead = self._ahead or self._take(timeout), None
            done = self._move(taken) if taken else NOTHING
            if time.monotonic() >= self._roll_at:
                self.roll()
        except Exception as error:
            if self._metrics:
                self._metrics.failed(error)
            if isinstance(error, PartitionLostError):
                return NOTHING
            raise
        return done

    def roll(self) -> int:
        """Compute marked cells of the rollup; gives how many marks were taken, 0 if another computes them.

        Whose marks they are does not matter: one that has nothing to read takes those of one that died.
        """
        started = time.monotonic()
        with self._engine.connect() as connection:
            self._codec.oldest_day = oldest(connection)
            some = marked(connection)
        taken = 0
        if some:
            with writing(self._engine) as connection:
                let_go(connection, SILENT_SECONDS)
                taken = roll_up(connection, self._subjects)
        ended = time.monotonic()
        # Most of the time is left to records, however slow the rollup is; it then takes more marks at once.
        self._roll_at = ended + max(ROLL_SECONDS, 2 * (ended - started))
        return taken

    def _take(self, timeout: float) -> _Taken | None:
        """Read and decode a batch's records, if there are any."""
        records = self._stream.poll(self._batch, timeout)
        try:
            return _Taken(records, self._read(records)) if records else None
        except BaseException:
            self._go_back(records)
            raise

    def _move(self, taken: _Taken) -> Ingested:
        """Store what was taken, and take the next batch meanwhile, while the database works."""
        expected = {partition: self._next[partition] for partition in taken.reached}
        self._storing = self._writer.submit(self._store, taken, expected)
        try:
            self._ahead = self._take(0)
        finally:
            done = self._settle(taken, self._storing)
        return done

    def _settle(self, taken: _Taken, storing: Future[_Stored]) -> Ingested:
        """Wait until a batch is stored, and count it, also where the next one could not be taken meanwhile.

        Raises PartitionLostError when another one has stored its records.
        """
        try:
            stored = storing.result()
        except BaseException as error:
            # Nothing was stored: the next poll must bring these records again, also those of partitions that
            # are still ours when the stored offsets cannot be read now.
            ahead, self._ahead = self._ahead, None
            self._go_back([*taken.records, *(ahead.records if ahead else ())])
            if isinstance(error, PartitionLostError):
                self._return_to_stored(self._next.keys() & taken.reached.keys())
            raise
        self._next.update((at, end) for at, end in taken.reached.items() if at in self._next)
        batch = taken.batch
        done = Ingested(len(taken.records), batch.events, len(batch.dead), batch.dropped.total())
        self.total.update(done._asdict())
        if self._metrics:
            self._metrics.batch(done, batch.by_table, stored.new, stored.seconds)
        return done

    def _store(self, taken: _Taken, expected: Mapping[int, int]) -> _Stored:
        """Store a batch in one transaction, where offsets are as expected; runs in the writer's thread."""
        began = time.perf_counter()
        self._partitions.ensure(taken.batch.request_days)
        with writing(self._engine) as connection:
            let_go(connection, SILENT_SECONDS)
            self._move_offsets(connection, expected, taken.reached)
            new = write(connection, taken.batch, self._stream.stream_id, self._forgotten)
        return _Stored(new, time.perf_counter() - began)

    def _go_back(self, records: Sequence[Record]) -> None:
        """Have records polled again, of those partitions that are still ours."""
        first = {record.partition: record.offset for record in reversed(records)}
        for partition in first.keys() & self._next.keys():
            self._stream.seek(partition, first[partition])

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
                return Ingested(*(moved[name] for name in Ingested._fields))
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
        return {partition: end for partition, end in ends.items() if end > beginnings.get(partition, 0)}

    def lag(self) -> dict[int, int]:
        """Count the records that are not stored yet, by partition that this ingester owns now."""
        beginnings, ends = self._stream.beginning_offsets(), self._stream.end_offsets()
        return {
            partition: max(0, ends[partition] - max(reached, beginnings[partition]))
            for partition, reached in self._next.items()
        }

    def stored(self) -> dict[int, int]:
        """Read the stored offsets of this stream, by partition."""
        with self._engine.connect() as connection:
            return stored_offsets(connection, self._stream.stream_id)

    def _assigned(self, partitions: Sequence[int]) -> None:
        self._wait()
        with self._engine.connect() as connection:
            self._codec.oldest_day = oldest(connection)
        self._return_to_stored(partitions)

    def _revoked(self, partitions: Sequence[int]) -> None:
        self._wait()
        for partition in partitions:
            self._next.pop(partition, None)

    def _wait(self) -> None:
        """Let the writer end, well or not, before partitions come or go."""
        if self._storing:
            wait([self._storing])

    def _return_to_stored(self, partitions: Iterable[int]) -> None:
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
            batch.add(events, record.partition, arrived)
            for one in bad:
                batch.reject(self._stream.stream_id, record.partition, record.offset, one)
        return batch

    def _move_offsets(
        self, connection: Connection, expected: Mapping[int, int], reached: Mapping[int, int]
    ) -> None:
        """Move each partition's offset from where we left it, or find that somebody else did."""
        offsets = tables.stream_offsets
        # In one order for all, so that two ingesters wait for each other instead of deadlocking.
        for partition, end in sorted(reached.items()):
            if not expected[partition]:
                insert_new(connection, offsets, [(self._stream.stream_id, partition, 0)])
            place = (offsets.c.stream_id == self._stream.stream_id, offsets.c.partition == partition)
            moved = connection.execute(
                update(offsets).where(*place, offsets.c.next == expected[partition]).values(next=end)
            )
            if not moved.rowcount:
                raise PartitionLostError(partition)


def stored_offsets(connection: Connection, stream_id: str) -> dict[int, int]:
    """Read up to where records of a stream are stored: the offset behind the last, by partition."""
    offsets = tables.stream_offsets.c
    rows = connection.execute(select(offsets.partition, offsets.next).where(offsets.stream_id == stream_id))
    return {row.partition: row.next for row in rows}
