"""Follow the lab's stream, so that a process soon knows what the others accepted."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import uuid4

from armlift.events import Codec, Event
from armlift.refreshing import Background
from armlift.streams.stream import EventStream, Partition, Record

MOST_BACK = 20_000
"""Records of a partition, from its end, that are read at the beginning, at most."""
_RECORDS = 500
_WAIT_SECONDS = 0.2
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 1.0
"""Seconds between two looks at where the stream ends."""

Ingested = Callable[[str], Mapping[Partition, int]]


class FollowerFigures(NamedTuple):
    """How a follower fares: whether it reads now, records it read and events of them that were bad, how often
    it had to begin anew and why last, and since when (seconds) what came may not have been applied.
    """

    up: bool
    records: int
    bad: int
    failures: int
    error: str | None
    behind: float


class Follower(Background):
    """Reads a stream from its end on, in a thread and a reader group of its own, and applies its events.

    `open_stream` is called in that thread, `apply` with the events of some records. Where the stream ends,
    the database may not: with `ingested`, which gives a stream's offsets up to which it is stored, it begins
    there, at most MOST_BACK records before the end. `missed` is called whenever it has found its place: what
    was read from the database before may lack what came while it was away. When anything fails it closes the
    stream, waits `retry_after` seconds and begins anew.
    """

    def __init__(
        self,
        open_stream: Callable[[], EventStream],
        kinds: Sequence[str],
        apply: Callable[[list[Event]], None],
        *,
        missed: Callable[[], None] = lambda: None,
        ingested: Ingested | None = None,
        retry_after: float = 1.0,
    ) -> None:
        # Brokers that are away are not waited for long when it ends.
        super().__init__("follower", patience=_STOP_SECONDS)
        self._open_stream, self._apply = open_stream, apply
        self._missed, self._ingested = missed, ingested
        self._retry_after = retry_after
        self._codec = Codec(kinds)
        self._next: dict[Partition, int] = {}
        self._records = self._bad = self._failures = 0
        self._error: str | None = None
        self._caught_up = time.monotonic()
        self._look_at = 0.0
        self._seen: tuple[float, Mapping[Partition, int]] | None = None

    @property
    def figures(self) -> FollowerFigures:
        """Give the figures at this moment."""
        running = self._thread is not None
        behind = time.monotonic() - self._caught_up if running else 0.0
        counts = (self._records, self._bad, self._failures, self._error)
        return FollowerFigures(running and bool(self._next), *counts, behind)

    def start(self) -> None:
        """Follow from now on."""
        if self._thread is None:
            self._caught_up = time.monotonic()
        super().start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._open_stream() as stream:
                    self._follow(stream)
            except Exception as error:  # noqa: BLE001  (a thread that ends here would end unseen)
                self._failures += 1
                self._error = " ".join(f"{type(error).__name__}: {error}".split())
                self._stopped.wait(self._retry_after)
            finally:
                self._next = {}

    def _follow(self, stream: EventStream) -> None:
        self._seen = None
        # Of another name each time: a broker may keep the partitions of a member it lost for a while.
        stream.subscribe(f"api-{uuid4().hex}", lambda new: self._place(stream, new), self._leave, alone=True)
        while not self._stopped.is_set():
            records = stream.poll(_RECORDS, _WAIT_SECONDS)
            if records:
                self._take(records)
            self._measure(stream)

    def _place(self, stream: EventStream, partitions: Sequence[Partition]) -> None:
        """Begin where the database ends, or the stream."""
        stored = None if self._ingested is None else self._ingested(stream.stream_id)
        ends, beginnings = stream.end_offsets(), stream.beginning_offsets()
        for partition in partitions:
            end = ends[partition]
            start = end if stored is None else min(end, stored.get(partition, 0))
            start = max(start, end - MOST_BACK, beginnings[partition])
            stream.seek(partition, start)
            self._next[partition] = start
        self._missed()

    def _leave(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)

    def _take(self, records: Sequence[Record]) -> None:
        events: list[Event] = []
        for record in records:
            good, bad = self._codec.decode(record.value)
            events += good
            self._bad += len(bad)
        self._apply(events)
        self._records += len(records)
        self._next.update((record.partition, record.offset + 1) for record in records)

    def _measure(self, stream: EventStream) -> None:
        """Note until when all that came has been applied, by where the stream ended a moment ago."""
        now = time.monotonic()
        if self._seen is None and now >= self._look_at:
            self._seen, self._look_at = (now, stream.end_offsets()), now + _LOOK_SECONDS
        if self._seen is not None:
            at, ends = self._seen
            if all(self._next.get(partition, -1) >= end for partition, end in ends.items()):
                self._caught_up, self._seen = at, None
