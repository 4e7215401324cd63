"""Archive the closed days of a database: those that are new, changed or damaged, each whole or not at all."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from sqlalchemy import Engine

from armlift.archive import manifest as manifests
from armlift.archive.alone import alone
from armlift.archive.archive import Archive
from armlift.archive.archived import DAMAGED, LATE, NEW, Archived, Short, Written
from armlift.archive.counts import Day, counts, first_days
from armlift.archive.manifest import Manifest, day_of
from armlift.archive.schema import TABLES
from armlift.archive.writing import sorting, write_table
from armlift.days import utc_day
from armlift.errors import StoreError
from armlift.store.database import reading

Tell = Callable[[int, int], None]
"""Told how many rows of how many are written."""


def archive_closed(
    engine: Engine, archive: Archive, now: int, *, after: int, run: str | None = None,
    until: int | None = None, deep: bool = False, tell: Tell | None = None,
) -> Archived:  # fmt: skip
    """Archive the days, of all runs or of one, that ended `after` or more before `now` (milliseconds, UTC).

    With `until` days before that one alone; with `deep` the content of what is archived is checked too.
    Killed at any moment and done again, it comes to the same. Raises StoreError where another process
    archives, and InputError where files cannot be read or written.
    """
    began = time.monotonic()
    before = utc_day(now - after) if until is None else min(until, utc_day(now - after))
    with alone(engine):
        work = _Work(engine, archive, before, run, deep)
        work.do(tell or (lambda _done, _total: None))
    return Archived(
        str(day_of(max(before, 0))), work.written, work.skipped, work.removed, work.lost, work.short,
        time.monotonic() - began,
    )  # fmt: skip


class _Work:
    """One archiving."""

    def __init__(self, engine: Engine, archive: Archive, before: int, run: str | None, deep: bool) -> None:
        self._engine, self._archive, self._deep = engine, archive, deep
        with reading(engine) as connection:
            self._first = first_days(connection)
            self._stored = counts(connection, TABLES.values(), self._first, before, run)
        known, self._sizes = archive.read(archive.archived()), archive.folder.sizes()
        self.removed = archive.sweep(known.values(), self._sizes)
        self._known = {day: one for day, one in known.items() if run in (None, day[0]) and day[1] < before}
        self.written: list[Written] = []
        self.short: list[Short] = []
        self.lost: list[str] = []
        self.skipped = 0

    def do(self, tell: Tell) -> None:
        """Write what is new, changed or damaged, the oldest day first."""
        days = sorted(self._stored.keys() | self._known.keys(), key=lambda one: (one[1], one[0]))
        todo = {day: tables for day in days if (tables := self._changed(day))}
        self.skipped = len(days) - len(todo)
        total = sum(self._stored[day].get(table, 0) for day, tables in todo.items() for table in tables)
        done = 0

        def told(rows: int) -> None:
            nonlocal done
            done += rows
            tell(done, total)

        for (run, day), tables in todo.items():
            self._write(run, day, tables, told)

    def _changed(self, day: Day) -> dict[str, str]:
        """Give the tables of a day that are to be written, and why."""
        known, stored = self._known.get(day), self._stored.get(day, {})
        damaged = self._damaged(known) if known else {}
        archived = known.rows if known else {}
        changed = {}
        for table in TABLES:
            there, rows = stored.get(table, 0), archived.get(table)
            if day[1] < self._first.get(table, 0):
                continue  # it was deleted from the database
            if rows is None:
                changed[table] = NEW
            elif there > rows:
                changed[table] = LATE
            elif there < rows:
                self.short.append(Short(day[0], str(day_of(day[1])), table, there, rows))
            elif table in damaged:
                changed[table] = DAMAGED
        self.lost += [path for table, paths in damaged.items() if table not in changed for path in paths]
        return changed

    def _damaged(self, known: Manifest) -> dict[str, list[str]]:
        """Give the damaged files of a day, by table."""
        found: dict[str, list[str]] = defaultdict(list)
        for file in self._archive.damaged(known, self._sizes, deep=self._deep):
            found[file.path.partition("/")[0]].append(self._archive.folder.address(file.path))
        return found

    def _write(self, run: str, day: int, tables: Mapping[str, str], told: Callable[[int], None]) -> None:
        """Write tables of a day, then its manifest, and remove the files that it names no longer."""
        root, known = self._archive.folder, self._known.get((run, day))
        with sorting(self._engine) as connection:
            made = {name: write_table(root, connection, TABLES[name], run, day, told) for name in tables}
        rows = {name: sum(file.rows for file in files) for name, files in made.items()}
        self._check(run, day, rows)
        manifest = manifests.made_of(run, day, {**(known.tables if known else {}), **made})
        self._archive.name(manifest)
        before, now = ({file.path for file in one.files} if one else set() for one in (known, manifest))
        for path in (before - now) & self._sizes.keys():
            root.remove(path)
        size = sum(file.bytes for files in made.values() for file in files)
        why = next(reason for reason in (NEW, LATE, DAMAGED) if reason in tables.values())
        self.written.append(Written(run, str(manifest.day), why, rows, size))

    def _check(self, run: str, day: int, rows: Mapping[str, int]) -> None:
        """Refuse to let a day stand for less than it had at the beginning: somebody deletes its events."""
        for table, written in rows.items():
            counted = self._stored.get((run, day), {}).get(table, 0)
            if written < counted:
                raise StoreError(
                    f"archive: run {run!r} had {counted:,} rows of {table} on {day_of(day)}, and has "
                    f"{written:,} now: they are being deleted; start again when that has ended"
                )
