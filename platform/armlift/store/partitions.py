"""Partitions of events in PostgreSQL, one a request day, and the deletion of old events in every database.

Whole days are dropped as tables, and a day's index stays small enough for memory. Days that get no partition
(too far from any calendar, or more than `MOST`) share the partition `TABLE_other`. Partitions are made before
the transaction that needs them, in one of their own: two ingesters that make them hold no other lock.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

from sqlalchemy import Connection, Engine, Table, delete, func, select, text

from armlift.days import utc_day
from armlift.events import MOST_DAYS_AFTER, MOST_DAYS_BEFORE
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.tables import PARTITIONED

AHEAD = 7
"""Days that partitions are made ahead of today."""
MOST = 4000
"""Partitions of a table: eleven years of days; a client that sends any time it likes can make no more."""
_FIRST = date(1970, 1, 1)
_LAST = (date(2100, 1, 1) - _FIRST).days
LOCK = 0x61726D6D
"""PostgreSQL's advisory lock of whoever makes or drops partitions."""
UpTo = Callable[[Connection, int], int]
"""Given the first day that need not go, gives the first one that must not."""


class Partitions:
    """The partitions of one database, as far as this process knows them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[int] | None = None

    def ensure(self, days: Iterable[int]) -> None:
        """Make the partitions of some request days, and of the days ahead; nothing to do in SQLite."""
        if self._engine.dialect.name != "postgresql":
            return
        today = utc_day(int(time.time() * 1000))
        wanted = {day for day in days if 0 <= day < _LAST} | set(range(today, today + AHEAD + 1))
        if self._known is None:
            with self._engine.connect() as connection:
                self._known = _days(connection, PARTITIONED[0])
        if missing := sorted(wanted - self._known):
            self._make(missing[: max(0, MOST - len(self._known))])
            self._known |= set(missing)  # also what shares `other` from now on

    def _make(self, days: Sequence[int]) -> None:
        with writing(self._engine) as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            for table in PARTITIONED:
                there = _days(connection, table) | _shared(connection, table, days)
                for day in days:
                    if day not in there:
                        name = partition_name(table, day)
                        connection.exec_driver_sql(
                            f"CREATE TABLE {name} PARTITION OF {table.name} "
                            f"FOR VALUES FROM ({day}) TO ({day + 1})"
                        )


def partition_name(table: Table, day: int) -> str:
    """Name the partition of a request day (days since 1970-01-01, UTC): impressions_20220415."""
    return f"{table.name}_{_FIRST + timedelta(days=day):%Y%m%d}"


def expire(engine: Engine, before: int, *, up_to: UpTo | None = None) -> dict[str, int]:
    """Delete impressions and feedback of request days before one; gives the rows deleted, by table.

    The rollup keeps what they counted; from then on the ingester refuses events so old that the rollup could
    not be computed again with them (see `oldest`). `up_to` may name an earlier day, from which on all stay:
    it is asked while nobody can write events.
    """
    deleted = {}
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        if up_to is not None:
            if engine.dialect.name == "postgresql":
                names = ", ".join(table.name for table in PARTITIONED)
                connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
            before = min(before, up_to(connection, before))
        for table in PARTITIONED:
            _note(connection, table, before)
            deleted[table.name] = _dropped(connection, table, before)
            result = connection.execute(delete(table).where(table.c.request_day < before))
            deleted[table.name] += result.rowcount
    return deleted


def oldest(connection: Connection) -> int:
    """Give the first request day whose events may still be taken in; 0 where none was ever deleted.

    Days that share events with deleted ones cannot be computed again, so that nothing may be added to them.
    """
    before = connection.execute(select(func.max(tables.expired.c.before))).scalar()
    return 0 if before is None else before + MOST_DAYS_AFTER + MOST_DAYS_BEFORE + 1


def first_whole_day(connection: Connection) -> int:
    """Give the first day (of any zone) that has all its events still; below 0 where none was deleted."""
    return oldest(connection) - MOST_DAYS_BEFORE


def _note(connection: Connection, table: Table, before: int) -> None:
    place = tables.expired.c.table == table.name
    known = connection.execute(select(tables.expired.c.before).where(place)).scalar()
    if known is None:
        connection.execute(tables.expired.insert().values(table=table.name, before=before))
    elif known < before:
        connection.execute(tables.expired.update().where(place).values(before=before))


def _dropped(connection: Connection, table: Table, before: int) -> int:
    """Drop the partitions of days before one; gives how many rows they had."""
    rows = 0
    if connection.dialect.name == "postgresql":
        for day in sorted(_days(connection, table)):
            if day < before:
                name = partition_name(table, day)
                rows += connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
                connection.exec_driver_sql(f"DROP TABLE {name}")
    return rows


def _days(connection: Connection, table: Table) -> set[int]:
    """Read which days have a partition."""
    names = connection.exec_driver_sql(
        f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table.name}'::regclass"
    ).scalars()
    days = (name.rpartition("_")[2] for name in names)
    return {(date.fromisoformat(day) - _FIRST).days for day in days if day.isdigit()}


def _shared(connection: Connection, table: Table, days: Sequence[int]) -> set[int]:
    """Read which of some days have rows in the shared partition; these stay there."""
    marks = ", ".join(map(str, days))
    found = connection.exec_driver_sql(
        f"SELECT DISTINCT request_day FROM {table.name}_other WHERE request_day IN ({marks})"
    )
    return {*found.scalars()}
