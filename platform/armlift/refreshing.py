"""What is read anew every few seconds, by a thread of its own, while others use what was read last."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from armlift.store.database import hidden


class Refreshing(ABC):
    """Something that is refreshed every so many seconds in a `with` block, or between `start` and `stop`."""

    def __init__(self, name: str, seconds: float) -> None:
        """Name its thread."""
        self._name, self._seconds = name, seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def refresh(self) -> object:
        """Read anew; what was known stays where that fails, and nothing is raised then."""

    def start(self) -> None:
        """Read now, and again and again from now on, in a thread of its own."""
        if self._thread is None:
            self.refresh()
            self._stopped.clear()
            self._thread = threading.Thread(target=self._watch, name=f"armlift-{self._name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Read no more; waits for what is being read."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.refresh()


def line_of(error: Exception) -> str:
    """Put a database's error into one line, without a password."""
    return hidden(" ".join(str(getattr(error, "orig", None) or error).split()))
