"""Forgetting: what a process remembers of units follows what was forgotten, within a second or so."""

from sqlalchemy import Engine, func, select

from armlift.forgotten import Forgotten
from armlift.refreshing import Refreshing, line_of
from armlift.serving.units import Units
from armlift.store.database import DATABASE_ERRORS
from armlift.store.tables import forgotten

CHECK_EVERY = 1.0
"""Seconds between two looks for units that were forgotten."""


class Forgetting(Refreshing):
    """Lets `units` forget what a database forgets.

    A unit is forgotten anew until its rows are gone: till then it may be read again.
    """

    def __init__(self, engine: Engine, units: Units, *, check_every: float = CHECK_EVERY) -> None:
        super().__init__("forgetting", check_every)
        self._engine, self._units = engine, units
        self._known = Forgotten()
        self._done = 0
        """The number up to which all is erased, and forgotten here."""
        self.failure: str | None = None
        """Why it cannot be read now."""

    def refresh(self) -> None:
        """Forget what is being erased, or was since the last call."""
        f = forgotten.c
        try:
            with self._engine.connect() as connection:
                newest = connection.scalar(select(func.max(f.number)).where(f.number > self._done))
                begun = select(func.min(f.number)).where(f.number > self._done, f.erased.is_(None))
                first = connection.scalar(begun)
                self._known.refresh(connection)
        except DATABASE_ERRORS as error:
            self.failure = line_of(error)
            return
        self.failure = None
        if newest is not None:
            self._units.forget(self._known)
            self._done = newest if first is None else first - 1
