"""Rows written fast: by COPY into PostgreSQL, by batches into SQLite."""

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Rows = Sequence[tuple[object, ...]]

STAGED_AFTER = 20
"""Calls that go by the temporary table after one met a row that was there: repeats seldom come alone."""
_STAGED_LEFT = "armlift_staged_left"
_UNIQUE_VIOLATION = "23505"


def insert_new(connection: Connection, table: Table, rows: Rows) -> int:
    """Insert rows in the order of the table's columns; those that are there already change nothing.

    Gives how many were new. PostgreSQL takes them by COPY into the table, for mostly all are new; where some
    are not, by COPY into a temporary table and from there, which costs half as much again.
    """
    if not rows:
        return 0
    if connection.dialect.name != "postgresql":
        return _insert(connection, table, rows)
    rows = _distinct(table, rows)
    left = connection.info.setdefault(_STAGED_LEFT, Counter[str]())
    if left[table.name]:
        left[table.name] -= 1
    elif _copy_all(connection, table, rows):
        return len(rows)
    else:
        left[table.name] = STAGED_AFTER
    return _stage(connection, table, rows)


def insert_or(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Begin an insert that says what happens to rows whose key is there already."""
    postgres = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if postgres else sqlite.insert(table)


def _distinct(table: Table, rows: Rows) -> Rows:
    """Leave out rows whose key an earlier one has."""
    names = list(table.c.keys())
    key = itemgetter(*(names.index(column.name) for column in table.primary_key))
    found = {key(row): row for row in reversed(rows)}
    return rows if len(found) == len(rows) else list(reversed(found.values()))


def _copy_all(connection: Connection, table: Table, rows: Rows) -> bool:
    """Copy rows into a table, unless one of them is there already."""
    try:
        with connection.begin_nested():
            _copy(connection, table.name, table, rows)
    except Exception as error:
        if getattr(error, "sqlstate", None) != _UNIQUE_VIOLATION:
            raise
        return False
    return True


def _stage(connection: Connection, table: Table, rows: Rows) -> int:
    """Copy rows into a temporary table, and insert from there those that are not in the table yet."""
    staged = f"staged_{table.name}"
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {table.name}) ON COMMIT DELETE ROWS"
    )
    _copy(connection, staged, table, rows)
    names = _names(connection, table)
    # What an earlier call of the transaction has staged is met again, and changes nothing either.
    done = connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staged} ON CONFLICT DO NOTHING"
    )
    return done.rowcount


def append(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows in the order of the columns that the database does not number itself."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table.name, table, rows)
    else:
        _insert(connection, table, rows)


def _copy(connection: Connection, into: str, table: Table, rows: Rows) -> None:
    driver: Any = connection.connection.driver_connection
    command = f"COPY {into} ({_names(connection, table)}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(command) as copy:
        copy.set_types([_type(connection, column) for column in _given(table)])
        for row in rows:
            copy.write_row(row)


def _type(connection: Connection, column: Column[object]) -> str:
    """Name a column's type as COPY's binary form does: without a length."""
    name = column.type.compile(connection.dialect).partition("(")[0].lower()
    return {"double precision": "float8", "float": "float8"}.get(name, name)


def _insert(connection: Connection, table: Table, rows: Rows) -> int:
    names = _names(connection, table)
    marks = ", ".join("?" for _ in _given(table))
    # Handed to the driver as it is: a batch has tens of thousands of rows.
    done = connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", list(rows)
    )
    return done.rowcount


def _names(connection: Connection, table: Table) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return ", ".join(quote(column.name) for column in _given(table))


def _given(table: Table) -> list[Column[object]]:
    return [column for column in table.c if column.autoincrement is not True]
