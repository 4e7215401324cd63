"""The catalogue of items in memory: their availability and attributes, and the filters that rest on them."""

from sqlalchemy import Engine

from armlift import items
from armlift.lab import Lab
from armlift.refreshing import Refreshing, line_of
from armlift.serving.filters import Filters, Item
from armlift.store.database import DATABASE_ERRORS

CHECK_EVERY = 1.0
"""Seconds between two looks for items that changed."""
OVERLAP = 60_000
"""Milliseconds that are read again: a transaction may end after one that began later."""


class Catalogue(Refreshing):
    """Items of a lab's database, and its filters; several threads may share them."""

    def __init__(self, lab: Lab, engine: Engine, *, check_every: float = CHECK_EVERY) -> None:
        super().__init__("catalogue", check_every)
        self._engine = engine
        self._file = lab.filters
        self._items: dict[str, Item] = {}
        self._until = 0
        self.filters = Filters(self._file, self._items)
        """The rules in force."""
        self.failure: str | None = None
        """Why items cannot be read now."""

    def __len__(self) -> int:
        return len(self._items)

    def refresh(self) -> None:
        """Read items that changed; while the database is away, what was known last holds."""
        try:
            with self._engine.connect() as connection:
                rows = items.read(connection, self._until - OVERLAP if self._until else None)
        except DATABASE_ERRORS as error:
            self.failure = line_of(error)
            return
        self.failure = None
        found = {row.item_id: Item(row.available, row.attributes) for row in rows}
        self._until = max([self._until, *(row.updated for row in rows)])
        if any(self._items.get(name) != item for name, item in found.items()):
            self._items = self._items | found
            self.filters = Filters(self._file, self._items)
