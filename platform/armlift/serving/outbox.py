"""The outbox: the way of accepted events into the stream, which never loses what it accepted.

One thread owns the stream and publishes all that waits, then flushes once for all who wait. While the stream
is away, or does not confirm within `patience` seconds, another thread writes what waits to the spill on this
machine's disk, and whoever sent it is answered all the same. Once the stream is back, the spill goes into
it, in order, beside what is new.

A process that is killed may publish a part twice, which the ids of events make harmless. What it left in the
spill goes into the stream with its next start, or by another process beside it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import NamedTuple

from armlift.errors import InputError
from armlift.serving.publisher import Publisher, Tally
from armlift.serving.spill import Spill
from armlift.serving.waiting import OutboxFullError, Parcel, Waiting
from armlift.streams.embedded import MAX_MESSAGE_BYTES
from armlift.streams.segment import HEAD
from armlift.streams.stream import EventStream, encode_key

_CLOSE_SECONDS = 5.0
"""How long a stream may take to close, before it is left to the end of the process."""


class Figures(NamedTuple):
    """Messages so far by what became of them, what waits and lies in the spill now, and how the stream is.

    `refused` were not accepted; `spilled` were accepted while the stream was away, `drained` went into it
    since, also those of other processes. `last_error` is the last of the stream or of the spill.
    """

    published: int
    spilled: int
    drained: int
    refused: int
    waiting: int
    spill_bytes: int
    spill_messages: int
    stream_up: bool
    last_error: str | None


class Outbox:
    """Sends messages into the stream that `open_stream` opens, or keeps them in `folder` while it is away.

    The spill has at most `most_bytes`; `waiting` bounds the bytes that are neither in the stream nor in the
    spill. A stream that failed is tried again, by a new object, every `retry_seconds`.
    """

    def __init__(
        self,
        open_stream: Callable[[], EventStream],
        folder: Path,
        *,
        most_bytes: int,
        retry_seconds: float = 1.0,
        waiting: int = 64 * 1024 * 1024,
        patience: float = 1.0,
    ) -> None:
        self._open_stream, self._folder, self._most_bytes = open_stream, folder, most_bytes
        self._retry_seconds, self._patience = retry_seconds, patience
        self._waiting = Waiting(waiting, patience)
        self._tally = Tally()
        self._spill: Spill | None = None
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Begin to work, with what dead processes left; a stream that cannot be opened is one that is away.

        Raises InputError for a folder that cannot be written.
        """
        spill = self._spill = Spill(self._folder)
        spill.take_over()
        publisher = Publisher(
            self._open_stream,
            self._waiting,
            spill,
            self._tally,
            retry_seconds=self._retry_seconds,
            patience=self._patience,
        )
        for name, run in ("publisher", publisher.run), ("spiller", lambda: self._spill_overdue(spill)):
            self._threads.append(Thread(target=run, name=f"armlift-{name}", daemon=True))
            self._threads[-1].start()

    def send(self, messages: Sequence[tuple[str, bytes]]) -> "Future[None]":
        """Take messages (key, value); thread-safe, and does not wait.

        The future is done when all of them are durable, in the stream or in the spill. It fails with
        OutboxFullError when too much waits, or the stream is away and the spill is full or cannot be written,
        and with InputError for a message that no stream takes; a part may then be in the stream all the same.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what was taken cannot be taken back
        try:
            size = sum(
                HEAD.size + len(encode_key(key, value, MAX_MESSAGE_BYTES)) + len(value)
                for key, value in messages
            )
            if messages:
                self._waiting.add(Parcel(messages, size, future, monotonic()))
            else:
                future.set_result(None)
        except (InputError, OutboxFullError) as error:
            self._tally.add("refused", len(messages))
            future.set_exception(error)
        return future

    @property
    def figures(self) -> Figures:
        """Give the figures of this moment; from any thread."""
        of, spilled = self._tally.of, self._spill.size if self._spill else None
        return Figures(
            published=of("published"),
            spilled=of("spilled"),
            drained=of("drained"),
            refused=of("refused"),
            waiting=self._waiting.messages,
            spill_bytes=spilled.bytes if spilled else 0,
            spill_messages=spilled.messages if spilled else 0,
            stream_up=self._tally.stream_up,
            last_error=self._tally.last_error,
        )

    def close(self, seconds: float) -> None:
        """Take no more, and return when everything taken is durable; again, it does nothing.

        What is not in the stream after so many seconds goes to the spill. The stream is closed then.
        """
        if self._spill is None or not self._threads:
            return
        self._waiting.close(seconds)
        (publisher, spiller), self._threads = self._threads, []
        spiller.join()
        publisher.join(_CLOSE_SECONDS)
        if not publisher.is_alive():
            self._spill.close()

    def _spill_overdue(self, spill: Spill) -> None:
        while parcels := self._waiting.take_overdue():
            kept, refused = _fitting(parcels, self._most_bytes - spill.size.bytes)
            problem = f"the stream is away, and the spill holds {spill.size.bytes} bytes already"
            if kept:
                try:
                    spill.write([message for parcel in kept for message in parcel.messages])
                except Exception as error:  # noqa: BLE001  (whoever sent it is told)
                    kept, refused = [], parcels
                    problem = f"the stream is away, and the spill cannot be written: {error}"
                    self._tally.last_error = problem
            self._waiting.settle(parcels)
            self._tally.add("spilled", sum(len(parcel.messages) for parcel in kept))
            self._tally.add("refused", sum(len(parcel.messages) for parcel in refused))
            for parcel in kept:
                parcel.future.set_result(None)
            for parcel in refused:
                parcel.future.set_exception(OutboxFullError(problem))


def _fitting(parcels: list[Parcel], room: int) -> tuple[list[Parcel], list[Parcel]]:
    """Part parcels into those that there is room for, and the others."""
    kept: list[Parcel] = []
    refused: list[Parcel] = []
    for parcel in parcels:
        fits = parcel.size <= room
        room -= parcel.size if fits else 0
        (kept if fits else refused).append(parcel)
    return kept, refused
