"""What waits to be durable: between those who send and the two threads of an outbox.

The publisher takes what waits while the stream is there, the spiller takes it while the stream is away. It
also takes what the publisher has not settled in time: nobody waits for a stream that does not answer.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Condition, Lock
from time import monotonic
from typing import NamedTuple

from armlift.errors import ArmliftError

MOST_BYTES = 8 * 1024 * 1024
"""What is taken at once, unless a single parcel is larger."""


class OutboxFullError(ArmliftError):
    """The outbox takes no more: too much waits, the spill is full or not to be written, or it is closed."""


class Parcel(NamedTuple):
    """Messages (key, value) that were sent together, their size in bytes, and whom to tell.

    `since` is when they were sent, by the monotonic clock.
    """

    messages: Sequence[tuple[str, bytes]]
    size: int
    future: "Future[None]"
    since: float


class Waiting:
    """Parcels in the order they came, at most `most_bytes` of them; all methods are thread-safe.

    What is not settled within `patience` seconds is overdue.
    """

    def __init__(self, most_bytes: int, patience: float) -> None:
        self._most_bytes, self._patience = most_bytes, patience
        self._lock = Lock()
        self._publisher, self._spiller, self._settled = (Condition(self._lock) for _ in range(3))
        self._parcels: deque[Parcel] = deque()
        self._publishing: list[Parcel] = []
        self._bytes = self._messages = 0
        self._direct = True
        self._spilling = self._closed = self._hurried = False

    @property
    def messages(self) -> int:
        """Count the messages that are not settled."""
        return self._messages

    @property
    def over(self) -> bool:
        """Tell whether nothing waits any more, for ever."""
        return self._closed and not self._messages

    def add(self, parcel: Parcel) -> None:
        """Let a parcel wait; raises OutboxFullError when too much waits already, or after `close`."""
        with self._lock:
            if self._closed:
                raise OutboxFullError("the outbox is closed")
            if self._bytes and self._bytes + parcel.size > self._most_bytes:
                raise OutboxFullError(f"{self._bytes} bytes of events wait already")
            self._parcels.append(parcel)
            self._bytes += parcel.size
            self._messages += len(parcel.messages)
            (self._publisher if self._direct else self._spiller).notify()

    def take(self, seconds: float) -> list[Parcel]:
        """Give the publisher what waits, after at most so many seconds; nothing while the stream is away."""
        with self._lock:
            self._publisher.wait_for(lambda: self.over or (self._direct and self._parcels), seconds)
            self._publishing = self._first() if self._direct else []
            return self._publishing

    def published(self, taken: list[Parcel]) -> bool:
        """Tell whether what the publisher took is still its own to settle; nobody else takes it then."""
        with self._lock:
            if self._publishing is not taken:
                return False
            self._publishing = []
            return True

    def away(self, taken: list[Parcel]) -> None:
        """Note that the stream is away; what the publisher took, if still its own, waits again."""
        with self._lock:
            self._direct = False
            if self._publishing is taken:
                self._parcels.extendleft(reversed(taken))
                self._publishing = []
            self._spiller.notify()

    def back(self) -> bool:
        """Note that the stream is there; False while the spiller still works on what it could not take."""
        with self._lock:
            if not self._direct and not self._spilling:
                self._direct = True
                self._spiller.notify()  # which looks for what is overdue from now on
            return self._direct

    def take_overdue(self) -> list[Parcel]:
        """Give the spiller what the stream does not take, as soon as there is some; nothing at the end."""
        with self._lock:
            while not self.over:
                late = self._late()
                if late:
                    self._direct = False
                if not self._direct and (taken := self._claimed(late)):
                    self._spilling = True
                    return taken
                self._spilling = False
                self._spiller.wait(self._patience / 4 if self._direct or self._publishing else None)
            return []

    def settle(self, parcels: Sequence[Parcel]) -> None:
        """Note that parcels are durable, or refused; the caller tells their futures then."""
        with self._lock:
            self._bytes -= sum(parcel.size for parcel in parcels)
            self._messages -= sum(len(parcel.messages) for parcel in parcels)
            if self.over:
                self._wake()

    def close(self, seconds: float) -> None:
        """Take no more; what is not settled after so many seconds is overdue."""
        with self._lock:
            self._closed = True
            self._wake()
            self._settled.wait_for(lambda: self.over, seconds)
            self._hurried = True
            self._wake()

    def pause(self, seconds: float) -> None:
        """Let the publisher wait, until the end at most."""
        with self._lock:
            self._publisher.wait_for(lambda: self.over, seconds)

    def _late(self) -> bool:
        oldest = self._publishing[0] if self._publishing else self._parcels[0] if self._parcels else None
        return oldest is not None and (self._hurried or monotonic() - oldest.since > self._patience)

    def _claimed(self, late: bool) -> list[Parcel]:
        if late and self._publishing:
            taken, self._publishing = self._publishing, []
            return taken
        return self._first()

    def _first(self) -> list[Parcel]:
        taken: list[Parcel] = []
        size = 0
        while self._parcels and (not taken or size + self._parcels[0].size <= MOST_BYTES):
            taken.append(self._parcels.popleft())
            size += taken[-1].size
        return taken

    def _wake(self) -> None:
        for waiter in (self._publisher, self._spiller, self._settled):
            waiter.notify_all()
