"""Micro-batching: callers of a moment are answered together, by a thread that does nothing else."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from armlift.errors import ArmliftError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class BusyError(ArmliftError):
    """More wait than a batcher lets wait."""


class _Waiting(NamedTuple, Generic[Asked, Answer]):
    asked: Asked
    until: float
    future: "asyncio.Future[Answer]"


class Batcher(Generic[Asked, Answer]):
    """Answers what is asked on an event loop by calls of `answer`, each for at most `most` that wait.

    A batch is what came while the one before was answered: nobody waits for others to come. `answer` gives
    one answer each, in their order, or raises for all of them. At most `waiting` may wait.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[Asked]], Sequence[Answer]],
        *,
        most: int,
        waiting: int = 1_000,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._answer, self._most, self._limit, self._on_batch = answer, most, waiting, on_batch
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting[Asked, Answer]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"armlift-{name}", daemon=True)
        self._thread.start()

    async def ask(self, asked: Asked, seconds: float) -> Answer:
        """Give the answer to one; raises TimeoutError after so many seconds, BusyError where too many wait.

        Nobody is asked any more for what is not waited for any more, unless it is being answered.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        with self._changed:
            if len(self._waiting) >= self._limit:
                # Who has gone makes room.
                self._waiting = deque(one for one in self._waiting if not one.future.done())
            if self._closed or len(self._waiting) >= self._limit:
                raise BusyError(f"{len(self._waiting)} wait already")
            self._waiting.append(_Waiting(asked, monotonic() + seconds, future))
            self._changed.notify()
        async with asyncio.timeout(seconds):
            return await future

    def close(self) -> None:
        """Answer nobody any more; does not wait for what is being answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._next():
            started = monotonic()
            try:
                answers: Sequence[Answer] | Exception = self._answer([one.asked for one in batch])
            except Exception as error:  # noqa: BLE001  (whoever asked is told)
                answers = error
            self._on_batch(len(batch), monotonic() - started)
            # One call for the batch: each wakes the event loop through a pipe.
            self._loop.call_soon_threadsafe(_settle, batch, answers)

    def _next(self) -> list[_Waiting[Asked, Answer]]:
        """Wait for the next batch; gives none at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return []
                size = min(self._most, len(self._waiting))
                taken = [self._waiting.popleft() for _ in range(size)]
            now = monotonic()
            # A future may be done already: its time is over, or whoever asked has gone.
            wanted = [one for one in taken if one.until > now and not one.future.done()]
            if wanted:
                return wanted


def _settle(batch: Sequence[_Waiting[Asked, Answer]], answers: Sequence[Answer] | Exception) -> None:
    for place, one in enumerate(batch):
        if one.future.done():
            continue
        if isinstance(answers, Exception):
            one.future.set_exception(answers)
        else:
            one.future.set_result(answers[place])
