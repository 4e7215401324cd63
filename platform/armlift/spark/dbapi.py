"""A Spark session as a DB-API 2 driver (PEP 249): queries, and temporary tables as frames kept by Spark.

Spark has no tables that one inserts into and that vanish by themselves. Here a temporary table is a frame
that Spark computes once, on its workers, and keeps there; what is inserted makes another frame, and so does
what is deleted.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

apilevel = "2.0"
threadsafety = 1
paramstyle = "named"

Values = Mapping[str, Any]
_NAME = r"`?(?P<table>\w+)`?"


class Error(Exception):
    """Base of what this driver raises."""


class DatabaseError(Error):
    """Spark cannot take a statement."""


class OperationalError(DatabaseError):
    """Spark cannot answer now: a worker, a file or memory is missing."""


@contextmanager
def _translated() -> Iterator[None]:
    """Raise Spark's errors as this driver's, each in a line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import AnalysisException, PySparkException

    try:
        yield
    except AnalysisException as error:  # a parser's too: a statement of ours is wrong
        raise DatabaseError(str(error)) from error
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise OperationalError(f"Spark: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Give what an error of Spark says, without the trace of its Java."""
    lines = (line.strip() for line in str(error).splitlines())
    said = [line for line in lines if line and not line.startswith(("at ", "An error occurred while"))]
    return (said or [type(error).__name__])[0][:500]


class Connection:
    """A session, and the temporary tables made on this connection."""

    def __init__(self, session: "SparkSession") -> None:
        self._session = session
        self._tables: dict[str, DataFrame] = {}

    def cursor(self) -> "Cursor":
        """Begin a statement."""
        return Cursor(self)

    def commit(self) -> None:
        """Keep nothing: there are no transactions."""

    def rollback(self) -> None:
        """Take nothing back."""

    def close(self) -> None:
        """Drop the temporary tables; the session is whoever's that opened it.

        The newest go first: those made of others are looked up by what they are made of (Spark Connect).
        """
        for name in reversed([*self._tables]):
            self._drop(name)

    def run(self, statement: str, values: Values) -> "DataFrame | None":
        """Do a statement on a temporary table, or begin a query: gives its frame, not yet computed."""
        for pattern, act in self._acts.items():
            found = re.fullmatch(pattern, statement.strip(), re.DOTALL)
            if found is not None:
                act(self, values, **found.groupdict())
                return None
        return self._session.sql(statement, args=dict(values))

    def show(self, name: str, frame: "DataFrame") -> None:
        """Have a frame be the table of this name; it is computed whenever the table is read."""
        self._drop(name)
        frame.createOrReplaceTempView(name)
        self._tables[name] = frame

    def keep(self, name: str, frame: "DataFrame") -> None:
        """Have a frame be the table of this name; it is computed now, once."""
        kept = frame.persist()
        kept.count()
        self.show(name, kept)

    def _create(self, _values: Values, table: str, columns: str) -> None:
        self.show(table, self._session.createDataFrame([], columns.replace(" NOT NULL", "")))

    def _insert(self, values: Values, table: str, columns: str, query: str) -> None:
        names = [name.strip(" `") for name in columns.split(",")]
        more = self._session.sql(query, args=dict(values)).toDF(*names)
        self.keep(table, self._tables[table].unionByName(more))

    def _delete(self, values: Values, table: str, condition: str) -> None:
        kept = f"SELECT * FROM {table} WHERE ({condition}) IS NOT TRUE"
        self.keep(table, self._session.sql(kept, args=dict(values)))

    def _drop(self, name: str) -> None:
        if name in self._tables:
            self._tables.pop(name).unpersist()
            self._session.catalog.dropTempView(name)

    def _drop_table(self, _values: Values, table: str) -> None:
        self._drop(table)

    _acts: Mapping[str, Callable[..., None]] = {
        rf"CREATE TEMPORARY TABLE {_NAME} \((?P<columns>.*)\)": _create,
        rf"DROP TABLE IF EXISTS {_NAME}": _drop_table,
        rf"INSERT INTO {_NAME} \((?P<columns>[^)]*)\) (?P<query>.*)": _insert,
        rf"DELETE FROM {_NAME} WHERE (?P<condition>.*)": _delete,
    }


class Cursor:
    """A statement and its rows, which come to this process all at once: they are few."""

    arraysize = 1
    rowcount = -1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: list[tuple[Any, ...]] | None = None

    def execute(self, statement: str, values: Values | None = None) -> None:
        """Run a statement; of a query all rows are fetched."""
        with _translated():
            frame = self._connection.run(statement, values or {})
            self.description = None
            if frame is not None:
                self.description = [
                    (field.name, field.dataType.simpleString(), *[None] * 5) for field in frame.schema.fields
                ]
                self._rows = iter([tuple(row) for row in frame.collect()])

    def fetchone(self) -> tuple[Any, ...] | None:
        """Give the next row, or None."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> Sequence[tuple[Any, ...]]:
        """Give some rows."""
        return list(islice(self._rows, size or self.arraysize))

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        """Give the rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Forget the rows."""
        self._rows = iter(())
