"""The catalogue of items in memory: their availability and attributes, and the filters that rest on them."""

import threading
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from armlift import items
from armlift.lab import Lab
from armlift.serving.filters import Filters, Item
from armlift.store.database import DATABASE_ERRORS

CHECK_EVERY = 1.0
"""Seconds between two looks for items that changed."""
OVERLAP = 60_000
"""Milliseconds that are read again: a transaction may end after one that began later."""


class Catalogue:
    """Items of a lab's database, and its filters; several threads may share them."""

    def __init__(self, lab: Lab, engine: Engine, *, check_every: float = CHECK_EVERY) -> None:
        self._engine, self._check_every = engine, check_every
        self._file = lab.filters
        self._items: dict[str, Item] = {}
        self._until = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
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
            self.failure = type(error).__name__
            return
        self.failure = None
        found = {row.item_id: Item(row.available, row.attributes) for row in rows}
        self._until = max([self._until, *(row.updated for row in rows)])
        if any(self._items.get(name) != item for name, item in found.items()):
            self._items = self._items | found
            self.filters = Filters(self._file, self._items)

    def start(self) -> None:
        """Read all items, and look for changes from now on, in a thread of its own."""
        self.refresh()
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="armlift-catalogue", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
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
        while not self._stopped.wait(self._check_every):
            self.refresh()
