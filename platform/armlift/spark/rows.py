"""Rows of an SQL database and Parquet files as tables of a Spark connection."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import JSON, Column, ColumnElement, Connection, Engine, NullPool, Table, create_engine, select

from armlift.spark import dbapi
from armlift.spark.dialect import SparkDialect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SCHEMES = {"s3": "s3a", "gcs": "gs", "az": "abfs", "file": "file"}
"""How Spark calls what fsspec calls otherwise."""


def engine_on(session: "SparkSession") -> Engine:
    """Make an engine whose connections ask a session."""
    return create_engine("spark+session://", creator=lambda: dbapi.Connection(session), poolclass=NullPool)


def show_files(session: "SparkSession", spark: Connection, table: Table, files: Sequence[str]) -> None:
    """Have a table's rows be those of some Parquet files (URLs that Spark can read)."""
    if files:
        # The folders' names are no columns: the files have them all.
        reader = session.read.option("recursiveFileLookup", "true")
        frame = reader.parquet(*map(_url, files)).select(*(column.name for column in table.c))
    else:
        frame = session.createDataFrame([], schema_of(table.c))
    _driver(spark).show(table.name, frame)


def carry(
    session: "SparkSession", spark: Connection, sql: Connection, table: Table, where: ColumnElement[bool]
) -> None:
    """Copy some rows of a table from an SQL database, all but its JSON.

    They pass through this process, so they must be few.
    """
    columns = [column for column in table.c if not isinstance(column.type, JSON)]
    rows = [tuple(row) for row in sql.execute(select(*columns).where(where))]
    _driver(spark).show(table.name, session.createDataFrame(rows, schema_of(columns)))


def schema_of(columns: Iterable[Column[Any]]) -> str:
    """Write the names and types of columns as Spark does."""
    dialect = SparkDialect()
    quote = dialect.identifier_preparer.quote_identifier
    return ", ".join(f"{quote(column.name)} {column.type.compile(dialect)}" for column in columns)


def _driver(spark: Connection) -> dbapi.Connection:
    return cast(dbapi.Connection, spark.connection.driver_connection)


def _url(file: str) -> str:
    scheme, sign, rest = file.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}{sign}{rest}"
