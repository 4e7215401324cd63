"""What goes on in a thread of its own: above all what is read anew every few seconds, while others use it."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from armlift.store.database import hidden


class Background(ABC):
    """Something that goes on in a `with` block, or between `start` and `stop`, in a thread of its own.

    `patience` bounds the seconds that `stop` waits for the thread; None does not.
    """

    def __init__(self, name: str, *, patience: float | None = None) -> None:
        """Name the thread."""
        self._name, self._patience = name, patience
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _run(self) -> None:
        """Go on until `_stopped` is set."""

    def start(self) -> None:
        """Go on from now on; again, it does nothing."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name=f"armlift-{self._name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Go on no more; waits for what is being done."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(self._patience)
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Refreshing(Background):
    """Something that is refreshed at its start and then every so many seconds."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name)
        self._seconds = seconds

    @abstractmethod
    def refresh(self) -> object:
        """Read anew; what was known stays where that fails, and nothing is raised then."""

    def start(self) -> None:
        """Read now, and again and again from now on; again, it does nothing."""
        if self._thread is None:
            self.refresh()
        super().start()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.refresh()


def line_of(error: Exception) -> str:
    """Put a database's error into one line, without a password."""
    return hidden(" ".join(str(getattr(error, "orig", None) or error).split()))
