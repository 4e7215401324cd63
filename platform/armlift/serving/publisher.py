"""The publisher of an outbox: the one thread that owns its stream, and opens another when that fails."""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic

from armlift.errors import ArmliftError, InputError, StreamError
from armlift.serving.spill import Spill, SpillReader
from armlift.serving.waiting import Parcel, Waiting
from armlift.streams.stream import EventStream, Record

STEP_BYTES = 512 * 1024
"""What is drained between two looks at what waits, about."""
TAKE_OVER_SECONDS = 5.0
"""Between two looks for what dead processes left."""
_IDLE_SECONDS = 0.2

logger = logging.getLogger(__name__)


class Tally:
    """Counts what happened to messages, and knows how the stream is; for any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self.stream_up = False
        self.last_error: str | None = None

    def add(self, what: str, messages: int) -> None:
        """Count messages."""
        with self._lock:
            self._counts[what] += messages

    def of(self, what: str) -> int:
        """Give the messages of a kind so far."""
        with self._lock:
            return self._counts[what]


class DrainError(ArmliftError):
    """The spill cannot be read, or what is drained not deleted, for now; the stream has no part in it."""


class Drain:
    """Moves the spill into the stream in steps; a step that fails is done again with the next stream."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._generation: Path | None = None
        self._reader: SpillReader | None = None
        self._reached = 0
        self._refused = ""

    def step(self, stream: EventStream) -> int:
        """Publish and flush a part of the oldest generation; gives how many messages, 0 for an empty spill.

        Raises StreamError when the stream fails, DrainError when the disk does.
        """
        records = self._next()
        if records:
            self._publish(stream, [(record.key, record.value) for record in records])
            self._reached = records[-1].offset + 1
        return len(records)

    def close(self) -> None:
        """Let go of the generation in hand, to be begun again."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self._generation = None
        self._reached, self._refused = 0, ""

    def _next(self) -> list[Record]:
        """Read on; a generation that is read to its end, or that is damaged, is done with."""
        try:
            while (generation := self._generation or self._spill.oldest()) is not None:
                self._generation = generation
                if records := self._read(generation):
                    return records
                self._end(generation)
        except (OSError, StreamError) as error:
            raise DrainError(f"the spill cannot be drained: {error}") from error
        return []

    def _read(self, generation: Path) -> list[Record]:
        try:
            return self._open(generation).read(STEP_BYTES)
        except StreamError as error:
            if isinstance(error.__cause__, OSError):
                raise
            self._refused = str(error)
            return []

    def _open(self, generation: Path) -> SpillReader:
        if self._reader is None:
            self._reader = SpillReader(generation)
        self._reader.seek(self._reached)
        return self._reader

    def _publish(self, stream: EventStream, messages: list[tuple[str, bytes]]) -> None:
        for key, value in messages:
            try:
                stream.publish(key, value)
            except InputError as error:
                self._refused = str(error)
        stream.flush()

    def _end(self, generation: Path) -> None:
        if self._refused:
            self._spill.set_aside(generation, self._refused)
        else:
            self._spill.remove(generation)
        self.close()


class Publisher:
    """Publishes what waits, drains the spill beside it, and tries for a stream again and again.

    A stream counts as there once it has taken a step of the spill within `patience` seconds, if there is any.
    """

    def __init__(
        self,
        open_stream: Callable[[], EventStream],
        waiting: Waiting,
        spill: Spill,
        tally: Tally,
        *,
        retry_seconds: float,
        patience: float,
    ) -> None:
        self._open_stream = open_stream
        self._waiting, self._spill, self._tally = waiting, spill, tally
        self._retry_seconds, self._patience = retry_seconds, patience
        self._drain = Drain(spill)
        self._take_over_at, self._drain_at = monotonic() + TAKE_OVER_SECONDS, 0.0
        self._told = False

    def run(self) -> None:
        """Work until nothing waits, for ever; then close the stream."""
        while not self._waiting.over:
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001  (whatever a stream raises, another is tried)
                self._failed(error)
                self._waiting.pause(self._retry_seconds)
        self._drain.close()
        self._tally.stream_up = False

    def _serve(self) -> None:
        stream = self._open_stream()
        try:
            while not self._waiting.over:
                drained = self._drain_step(stream)
                taken = self._waiting.take(0.0 if drained else _IDLE_SECONDS)
                if taken:
                    self._publish(stream, taken)
        except Exception as error:
            self._failed(error)  # before the stream is closed, which may take its time
            raise
        finally:
            # Nothing depends on it: what was not confirmed waits again, or is in the spill.
            with suppress(Exception):
                stream.close()

    def _drain_step(self, stream: EventStream) -> int:
        began = monotonic()
        if began >= self._take_over_at:
            self._take_over()
        drained = self._drained(stream) if began >= self._drain_at else 0
        if monotonic() - began < self._patience and self._waiting.back():
            if not self._tally.stream_up:
                logger.info("the stream is there")
            self._tally.stream_up, self._told = True, False
        return drained

    def _drained(self, stream: EventStream) -> int:
        try:
            drained = self._drain.step(stream)
        except DrainError as error:
            self._drain_at = monotonic() + self._retry_seconds
            self._tally.last_error = str(error)
            return 0
        self._tally.add("drained", drained)
        return drained

    def _publish(self, stream: EventStream, taken: list[Parcel]) -> None:
        refused: list[tuple[Parcel, InputError]] = []
        try:
            for parcel in taken:
                try:
                    for key, value in parcel.messages:
                        stream.publish(key, value)
                except InputError as error:
                    refused.append((parcel, error))
            stream.flush()
        except Exception:
            self._waiting.away(taken)
            raise
        if self._waiting.published(taken):
            self._settle(taken, refused)

    def _settle(self, taken: list[Parcel], refused: list[tuple[Parcel, InputError]]) -> None:
        self._waiting.settle(taken)
        failed = {id(parcel): error for parcel, error in refused}
        for parcel in taken:
            error = failed.get(id(parcel))
            self._tally.add("refused" if error else "published", len(parcel.messages))
            if error:
                parcel.future.set_exception(error)
            else:
                parcel.future.set_result(None)

    def _take_over(self) -> None:
        self._take_over_at = monotonic() + TAKE_OVER_SECONDS
        try:
            self._spill.take_over()
        except OSError as error:
            self._tally.last_error = str(error)

    def _failed(self, error: Exception) -> None:
        if not self._told:
            logger.warning("the stream is away: %s", error)
            self._told = True
        self._tally.stream_up, self._tally.last_error = False, str(error)
        self._waiting.away([])
