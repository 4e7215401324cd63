"""Lookups: what a large table has for a few rows, found by its index.

SQLite does so anyway. PostgreSQL would rather read all of a table than look ten thousand units up, and any
table that it has not counted yet, so that rows would cost the more, the more there are of others. LATERAL
with an OFFSET leaves it no other way.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnCollection,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    delete,
    func,
    literal_column,
    select,
    true,
    tuple_,
)


def look_up(
    connection: Connection, rows: FromClause, table: FromClause, same: ColumnElement[bool]
) -> tuple[FromClause, ColumnCollection[str, ColumnElement[Any]]]:
    """Join a table to rows from the left, looked up for each of them; gives the join, with its columns."""
    if connection.dialect.name != "postgresql":
        return rows.outerjoin(table, same), table.c
    found = _for_each(select(table).where(same))
    return rows.outerjoin(found, true()), found.c


def delete_each(
    connection: Connection, rows: FromClause, table: Table, key: Mapping[str, ColumnElement[Any]]
) -> int:
    """Delete what a table has for each of some rows; gives how many that were.

    `key` says what a row's columns must equal, by name, in terms of `rows`.
    """
    if connection.dialect.name != "postgresql":
        columns = tuple_(*(table.c[name] for name in key))
        same: ColumnElement[bool] = columns.in_(select(*key.values()).select_from(rows))
    else:
        place: ColumnElement[Any] = literal_column(f"{table.name}.ctid")
        equal = and_(*(table.c[name] == value for name, value in key.items()))
        found = _for_each(select(place.label("place")).select_from(table).where(equal))
        places = select(found.c.place).select_from(rows.join(found, true()))
        same = place == func.any(func.array(places.scalar_subquery()))
    return connection.execute(delete(table).where(same)).rowcount


def _for_each(query: Select[Any]) -> FromClause:
    return query.offset(0).lateral()
