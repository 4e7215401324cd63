"""Clocks that jobs run by: the system's, and one that is moved by hand, for rehearsals of days in minutes."""

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is, and how to wait for another."""

    def now(self) -> datetime:
        """Give the time, in UTC."""
        ...

    def wait(self, until: datetime | None, event: threading.Event) -> None:
        """Wait until a time (None: for ever) or until the event is set."""
        ...


class SystemClock:
    """The system's clock; a wait looks again every minute, so that one that is set meanwhile does no harm."""

    LOOK = 60.0

    def now(self) -> datetime:
        """Give the time, in UTC."""
        return datetime.now(UTC)

    def wait(self, until: datetime | None, event: threading.Event) -> None:
        """Wait, a minute at most: whoever waits asks again."""
        seconds = self.LOOK if until is None else (until - self.now()).total_seconds()
        event.wait(max(0.0, min(seconds, self.LOOK)))


class SetClock:
    """A clock that stands still until it is set; it does not go back."""

    def __init__(self, ts: int) -> None:
        """Start at a time, UTC milliseconds."""
        self._ts = ts

    def now(self) -> datetime:
        """Give the time, in UTC."""
        return datetime.fromtimestamp(self._ts / 1000.0, UTC)

    def set(self, ts: int) -> None:
        """Move on to a time, UTC milliseconds."""
        self._ts = max(self._ts, ts)

    def wait(self, until: datetime | None, event: threading.Event) -> None:
        """Wait for a moment alone: time passes only as it is set."""
        time.sleep(0)


def millis(moment: datetime) -> int:
    """Give a moment as UTC milliseconds."""
    return round(moment.timestamp() * 1000)
