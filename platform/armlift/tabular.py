"""Tables to read from: CSV and Parquet files, DuckDB files, and databases, in batches of flat memory."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import polars as pl
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from armlift.errors import InputError

BATCH = 20_000
"""Rows a batch has at most."""
FORMS = "FILE.csv, FILE.parquet, FILE.duckdb#TABLE or URL#TABLE, where TABLE may be a query"
DUCKDB = (".duckdb", ".ddb")
CSV = (".csv", ".csv.gz")


class Tabular(Protocol):
    """A table that can be read several times; `name` is how messages call it, without a password."""

    @property
    def name(self) -> str:
        """Name the table."""

    def columns(self) -> list[str]:
        """List the columns; raises InputError, as does reading, for a table that cannot be read."""

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Give some columns of all rows, `BATCH` rows at a time; types may differ from batch to batch."""


def open_table(source: str) -> Tabular:
    """Open what a command line names, see `FORMS`; raises InputError for anything else."""
    place, _, asked = source.partition("#")
    asked = asked.strip().rstrip(";")
    stored = "://" in place or place.lower().endswith(DUCKDB)
    if stored and asked:
        return DatabaseTable(place, asked) if "://" in place else DuckDbTable(place, asked)
    if stored:
        raise InputError(f"{_shown(place)}: names no table, must be like {_shown(place)}#TABLE")
    if source.lower().endswith((*CSV, ".parquet")):
        return FileTable(Path(source))
    raise InputError(f"{source}: is of no form that is read, must be {FORMS}")


class FileTable(NamedTuple):
    """A CSV file (its cells are text) or a Parquet file."""

    path: Path

    @property
    def name(self) -> str:
        """Name the file."""
        return str(self.path)

    def columns(self) -> list[str]:
        """List the columns."""
        try:
            return self._scan().collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Give the rows in their order."""
        try:
            for batch in self._scan().select(columns).collect_batches(chunk_size=BATCH, lazy=True):
                yield from batch.iter_slices(BATCH)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error

    def _scan(self) -> pl.LazyFrame:
        if not self.path.is_file():
            what = "is a folder, must be a file" if self.path.is_dir() else "there is no such file"
            raise InputError(f"{self.path}: {what}")
        if self.path.suffix.lower() == ".parquet":
            return pl.scan_parquet(self.path, glob=False)
        return pl.scan_csv(self.path, glob=False, infer_schema=False, truncate_ragged_lines=False)

    def _unreadable(self, error: Exception) -> InputError:
        kind = "Parquet" if self.path.suffix.lower() == ".parquet" else "CSV"
        return InputError(f"{self.path}: cannot be read as {kind}: {_line(error)}")


class DuckDbTable(NamedTuple):
    """A table, or a query, of a DuckDB file, which is opened for reading only."""

    path: str
    asked: str

    @property
    def name(self) -> str:
        """Name the file and the table."""
        return f"{self.path}#{self.asked}"

    def columns(self) -> list[str]:
        """List the columns."""
        return next(self._read("*", "WHERE 1 = 0")).columns

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Give the rows in the order in which the database does."""
        return (batch for batch in self._read(", ".join(map(_quoted, columns))) if len(batch))

    def _read(self, columns: str, rest: str = "") -> Iterator[pl.DataFrame]:
        """Give batches of rows, the last one empty."""
        try:
            import duckdb
        except ModuleNotFoundError as error:
            raise InputError(
                f"{self.path}: DuckDB is not installed, needed is `pip install 'armlift[duckdb]'`"
            ) from error
        if not Path(self.path).is_file():
            raise InputError(f"{self.path}: there is no such file")
        try:
            with duckdb.connect(self.path, read_only=True) as connection:
                found = connection.execute(_query(columns, self.asked, rest))
                names = [one[0] for one in found.description or ()]
                while rows := found.fetchmany(BATCH):
                    yield _frame(rows, names)
                yield _frame([], names)
        except duckdb.Error as error:
            raise InputError(f"{self.name}: cannot be read: {_line(error)}") from error


class DatabaseTable(NamedTuple):
    """A table, or a query, of a database that SQLAlchemy reaches."""

    url: str
    asked: str

    @property
    def name(self) -> str:
        """Name the database, without its password, and the table."""
        return f"{_shown(self.url)}#{self.asked}"

    def columns(self) -> list[str]:
        """List the columns."""
        return next(self._read("*", "WHERE 1 = 0")).columns

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Give the rows in the order in which the database does."""
        quote = self._engine().dialect.identifier_preparer.quote_identifier
        return (batch for batch in self._read(", ".join(map(quote, columns))) if len(batch))

    def _read(self, columns: str, rest: str = "") -> Iterator[pl.DataFrame]:
        """Give batches of rows, the last one empty."""
        engine = self._engine()
        try:
            with engine.connect().execution_options(stream_results=True) as connection:
                found = connection.exec_driver_sql(_query(columns, self.asked, rest))
                names = list(found.keys())
                while rows := found.fetchmany(BATCH):
                    yield _frame(rows, names)
                yield _frame([], names)
        except (SQLAlchemyError, sqlite3.Error) as error:
            reason = error.orig if isinstance(error, DBAPIError) and error.orig else error
            raise InputError(f"{self.name}: cannot be read: {_line(reason)}") from error
        finally:
            engine.dispose()

    def _engine(self) -> Engine:
        try:
            url = make_url(self.url)
            if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
                raise InputError(f"{self.name}: there is no file {url.database}")
            return create_engine(url)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InputError(f"{self.name}: cannot be opened: {_line(error)}") from error
        except (ArgumentError, ValueError) as error:  # whose text may hold a part of the password
            raise InputError(f"{self.name}: is not a database's URL, must be like sqlite:///FILE") from error


def _query(columns: str, asked: str, rest: str) -> str:
    """Select columns of a table, or of a query: that has white space in it."""
    source = f"({asked}) AS asked" if len(asked.split()) > 1 else asked
    return f"SELECT {columns} FROM {source} {rest}".rstrip()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _frame(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> pl.DataFrame:
    """Make a frame of rows; polars finds the type that holds all values of a column."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pl.DataFrame(
        [pl.Series(name, list(values), strict=False) for name, values in zip(names, columns, strict=True)]
    )


def _shown(url: str) -> str:
    """Write a URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        scheme, mark, rest = url.partition("://")
        return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _line(error: object) -> str:
    """Put an error into one short line."""
    return " ".join(str(error).split())[:200]
