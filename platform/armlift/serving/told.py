"""Told attributes: what requests say of newly exposed units, written behind them for reports by segment."""

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Engine

from armlift.refreshing import Refreshing
from armlift.segments import LONGEST, tell
from armlift.store.database import DATABASE_ERRORS, writing

logger = logging.getLogger("armlift.serve")
EVERY = 1.0
"""Seconds between two transactions."""
MOST = 200_000
"""Values that wait to be written at most; of more, reports know less."""

Value = tuple[str, int, str]
"""A unit, when it was told (UTC milliseconds), and what."""


class ToldAttributes(Refreshing):
    """Keeps values until the database has them; `add` is for one thread, and does not wait."""

    def __init__(self, engine: Engine) -> None:
        super().__init__("told", EVERY)
        self._engine = engine
        self._waiting: dict[tuple[str, str], list[Value]] = defaultdict(list)
        self._lock = threading.Lock()
        self.waiting = 0
        """Values that wait to be written."""
        self.dropped = 0
        """Values that found no room, or are no text that a table holds."""

    def add(
        self, run: str, unit: str, ts: int, attributes: Mapping[str, object], wanted: Sequence[str]
    ) -> None:
        """Take in what is told of a unit at a time (UTC milliseconds), of the attributes that are wanted."""
        for name in wanted:
            value = attributes.get(name)
            if value is None:
                continue
            text = str(value).lower() if isinstance(value, bool) else str(value)
            with self._lock:
                if not 0 < len(text) <= LONGEST or "\0" in text or self.waiting >= MOST:
                    self.dropped += 1
                    continue
                self._waiting[run, name].append((unit, ts, text))
                self.waiting += 1

    def stop(self) -> None:
        """Write what is there, and no more."""
        super().stop()
        self.refresh()

    def refresh(self) -> None:
        """Write what waits; it goes on waiting where the database does not answer."""
        with self._lock:
            taken, self._waiting = self._waiting, defaultdict(list)
        if not taken:
            return
        try:
            with writing(self._engine) as connection:
                for (run, attribute), values in taken.items():
                    tell(connection, run, attribute, values)
        except DATABASE_ERRORS as error:
            logger.warning("attributes wait to be written: %s", type(error).__name__)
            with self._lock:
                for key, values in taken.items():
                    self._waiting[key] = values + self._waiting[key]
            return
        with self._lock:
            self.waiting -= sum(len(values) for values in taken.values())
