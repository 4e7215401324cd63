"""Rows of an SQL database and Parquet files as tables of a Spark connection."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from sqlalchemy import ColumnElement, Connection, Engine, NullPool, Table, create_engine, select

from armlift.spark import dbapi
from armlift.spark.dialect import SparkDialect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

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
        frame = _empty(session, table)
    _driver(spark).show(table.name, frame)


def carry(
    session: "SparkSession", spark: Connection, sql: Connection, table: Table, where: ColumnElement[bool]
) -> None:
    """Copy some rows of a table from an SQL database; they pass through this process, so they must be few."""
    rows = [tuple(row) for row in sql.execute(select(table).where(where))]
    frame = session.createDataFrame(rows, schema_of(table)) if rows else _empty(session, table)
    _driver(spark).show(table.name, frame)


def schema_of(table: Table) -> str:
    """Write the names and types of a table's columns as Spark does."""
    dialect = SparkDialect()
    quote = dialect.identifier_preparer.quote_identifier
    return ", ".join(f"{quote(column.name)} {column.type.compile(dialect)}" for column in table.c)


def _empty(session: "SparkSession", table: Table) -> "DataFrame":
    return session.createDataFrame([], schema_of(table))


def _driver(spark: Connection) -> dbapi.Connection:
    return cast(dbapi.Connection, spark.connection.driver_connection)


def _url(file: str) -> str:
    scheme, sign, rest = file.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}{sign}{rest}"
