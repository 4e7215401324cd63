"""Which days may be deleted from the database: those that are archived, row for row."""

from sqlalchemy import Connection, Engine

from armlift.archive.archive import Archive
from armlift.archive.counts import Day, counts, first_days
from armlift.store.partitions import expire
from armlift.store.tables import PARTITIONED


def expire_archived(engine: Engine, archive: Archive, before: int) -> tuple[dict[str, int], int]:
    """Delete events as `expire` does, up to the first day that is not archived with as many rows.

    Gives the rows deleted, by table, and how many days before `before` stay, waiting for the archive.
    """
    archived = _archived(engine, archive, before)
    waiting: set[int] = set()

    def first_unsafe(connection: Connection, before: int) -> int:
        stored = counts(connection, PARTITIONED, first_days(connection), before)
        unsafe = [day for day, rows in stored.items() if not _equal(rows, archived.get(day))]
        first = min((day for _, day in unsafe), default=before)
        waiting.update(day for _, day in stored if day >= first)
        return first

    return expire(engine, before, up_to=first_unsafe), len(waiting)


def _archived(engine: Engine, archive: Archive, before: int) -> dict[Day, dict[str, int]]:
    """Read the rows of archived days whose files are all there and whole; of those deleted before, none."""
    with engine.connect() as connection:
        first = min((first_days(connection).get(table.name, 0) for table in PARTITIONED), default=0)
    sizes = archive.folder.sizes()
    known = archive.read(one for one in archive.archived() if first <= one[1] < before)
    return {day: one.rows for day, one in known.items() if not archive.damaged(one, sizes, deep=False)}


def _equal(stored: dict[str, int], archived: dict[str, int] | None) -> bool:
    names = [table.name for table in PARTITIONED]
    return archived is not None and all(stored.get(name, 0) == archived.get(name) for name in names)
