"""The watch over a lab's stream: how far ingest is, asked in a thread, so that no page waits for brokers."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.errors import ArmliftError, StreamError
from armlift.ingest_status import Status, status
from armlift.lab import Lab
from armlift.store.database import reading
from armlift.streams.opening import open_existing_stream
from armlift.streams.stream import EventStream

KEPT = 2.0
"""Seconds for which an answer serves all who look."""
PATIENCE = 1.5
"""Seconds a page waits for an answer."""
ANSWER = 3.0
"""Seconds in which brokers must answer."""


class Look(NamedTuple):
    """The status of ingest; without the stream where that is not there yet (`missing`) or in `trouble`."""

    status: Status
    missing: bool
    trouble: str | None


class IngestWatch:
    """Watches one lab's stream, which it opens once and never makes; any thread may look."""

    def __init__(self, lab: Lab, engine: Engine) -> None:
        self._lab, self._engine = lab, engine
        # A stream belongs to one thread.
        self._thread = ThreadPoolExecutor(1, "ingest-watch")
        self._lock = Lock()
        self._asked: Future[Look] | None = None
        self._kept: Look | None = None
        self._at = 0.0
        self._stream: EventStream | None = None

    def look(self, patience: float = PATIENCE) -> Look:
        """Give the status of now, waiting at most `patience` seconds for the stream.

        One that does not answer in time is in trouble; its answer serves whoever looks next. Raises the
        database's errors.
        """
        with self._lock:
            self._take()
            if (kept := self._fresh()) is not None:
                return kept
            if self._asked is None:
                self._asked = self._thread.submit(self._ask)
            asked = self._asked
        wait_for([asked], patience)
        with self._lock:
            self._take()
            if (kept := self._fresh()) is not None:
                return kept
            trouble = self._kept.trouble if self._kept else None
        return self._without_stream(trouble or f"it has not answered within {patience:g} s")

    def close(self) -> None:
        """Close the stream, after what is being asked."""
        self._thread.submit(self._let_go)
        self._thread.shutdown()

    def _take(self) -> None:
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            self._kept, self._at = asked.result(), time.monotonic()

    def _fresh(self) -> Look | None:
        return self._kept if time.monotonic() - self._at < KEPT else None

    def _ask(self) -> Look:
        try:
            if self._stream is None:
                self._stream = open_existing_stream(self._lab, seconds=ANSWER)
            if self._stream is None:
                return self._without_stream(None, missing=True)
            with reading(self._engine) as connection:
                return Look(status(connection, self._stream), False, None)
        except (ArmliftError, OSError) as error:
            self._let_go()
            return self._without_stream(" ".join(str(error).split()))

    def _without_stream(self, trouble: str | None, *, missing: bool = False) -> Look:
        with reading(self._engine) as connection:
            return Look(status(connection, None), missing, trouble)

    def _let_go(self) -> None:
        if self._stream is not None:
            with suppress(StreamError, OSError):
                self._stream.close()
        self._stream = None
