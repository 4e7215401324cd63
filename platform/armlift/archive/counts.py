"""How many events the database has, by run and UTC day: what archived days are held against."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Table, func, select

from armlift.store.tables import PARTITIONED, expired

Day = tuple[str, int]
"""A run, and a day counted from 1970-01-01 (UTC)."""


def counts(
    connection: Connection,
    tables: Iterable[Table],
    first: Mapping[str, int],
    before: int,
    run: str | None = None,
) -> dict[Day, dict[str, int]]:
    """Count the rows each run, or one, has on a day before `before`, from a table's `first` day on."""
    found: dict[Day, dict[str, int]] = defaultdict(dict)
    for table in tables:
        of_day = (table.c.run, table.c.request_day)
        these = [table.c.request_day >= first.get(table.name, 0), table.c.request_day < before]
        these += [] if run is None else [table.c.run == run]
        asked = select(*of_day, func.count()).where(*these).group_by(*of_day)
        for name, day, rows in connection.execute(asked):
            found[name, day][table.name] = rows
    return found


def first_days(connection: Connection) -> dict[str, int]:
    """Give, by table, the first day whose events are in the database still, where some were deleted."""
    names = [table.name for table in PARTITIONED]
    asked = select(expired.c.table, expired.c.before).where(expired.c.table.in_(names))
    return dict(connection.execute(asked).all())
