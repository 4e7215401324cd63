"""Ways: how each database is led to add up units fast, and in one order; and its temporary tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, Select, Table, insert, text


class Way(NamedTuple):
    """What a database needs, besides the queries that are the same in all.

    `keyed`: temporary tables have a key, in whose order their rows lie, are read, and are added up. `sorts`:
    rows are sorted before they are added up. The others are statements: before anything is filled, before
    sums are taken, and once a table (`{}`) is filled.
    """

    keyed: bool = False
    sorts: bool = False
    beginning: Sequence[str] = ()
    summing: Sequence[str] = ()
    filled: Sequence[str] = ()

    def begin(self, connection: Connection) -> None:
        """Set what is needed before the first table is filled."""
        _run(connection, self.beginning)

    def keep_order(self, connection: Connection) -> None:
        """Have rows added up in the order in which they lie, from now on."""
        _run(connection, self.summing)


_WAYS = {
    "sqlite": Way(keyed=True),
    "postgresql": Way(
        sorts=True,
        # Enough to hash a million units at once.
        beginning=("SET LOCAL work_mem = '256MB'",),
        # By hash, rows are added in the order they come in; a sort does not keep it.
        summing=("SET LOCAL enable_mergejoin = off", "SET LOCAL enable_sort = off"),
        # It never counts temporary tables by itself, and would join units in quadratic time.
        filled=("ANALYZE {}",),
    ),
    # Rows lie in many places: each adds up its own, in whatever order they come.
    "spark": Way(),
}


def way_of(connection: Connection) -> Way:
    """Give the way of a connection's database."""
    return _WAYS[connection.dialect.name]


def temporary(name: str, *columns: Column[Any]) -> Table:
    """Define a temporary table of a connection; in PostgreSQL it is empty after each transaction."""
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DELETE ROWS")


def make_table(connection: Connection, name: str, key: Sequence[str], columns: Mapping[str, Any]) -> Table:
    """Make an empty temporary table, instead of one of that name."""
    keyed = way_of(connection).keyed
    table = Table(
        name,
        MetaData(),
        *(Column(column, kind, nullable=False) for column, kind in columns.items()),
        *([PrimaryKeyConstraint(*key)] if keyed else []),
        prefixes=["TEMPORARY"],
        sqlite_with_rowid=not keyed,
    )
    _run(connection, [f"DROP TABLE IF EXISTS {name}"])
    table.create(connection)
    return table


def fill(connection: Connection, table: Table, query: Select[Any]) -> None:
    """Insert what a query selects, column by column."""
    connection.execute(insert(table).from_select([column.name for column in table.c], query))
    _run(connection, [statement.format(table.name) for statement in way_of(connection).filled])


def _run(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        connection.execute(text(statement))
