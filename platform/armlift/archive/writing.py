"""Event files: Parquet, zstd, rows sorted by (unit_id, ts, event_id), written in bounded memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import ColumnElement, Connection, Engine, Table, collate, func, select

from armlift.archive.folder import Folder
from armlift.archive.manifest import StoredFile, folder_of
from armlift.archive.schema import schema_of
from armlift.errors import StoreError
from armlift.store.database import reading

ROWS = 100_000
"""Rows of a row group, which are held in memory."""
FETCHED = 10_000
"""Rows that are held as Python's objects, which take ten times as much."""
SORTED_BY = ("unit_id", "ts", "event_id")

Told = Callable[[int], None]
"""Told how many rows more were written."""


@contextmanager
def sorting(engine: Engine) -> Iterator[Connection]:
    """Connect to read at one moment, with a database that sorts on disk what is more than its memory."""
    with reading(engine) as connection:
        if engine.dialect.name != "sqlite":
            yield connection
            return
        driver = connection.connection.cursor()
        driver.execute("PRAGMA temp_store = FILE")
        try:
            yield connection
        finally:
            connection.rollback()
            driver.execute("PRAGMA temp_store = MEMORY")
            driver.close()


def write_table(
    root: Folder, connection: Connection, table: Table, run: str, day: int, told: Told
) -> tuple[StoredFile, ...]:
    """Write the events of a table that a run has on a day; gives the files, none where there are no events.

    Exposures get a file an experiment. Raises StoreError unless they hold as many rows as the database.
    """
    # Not by the index of runs and units: SQLite would walk it through all days, to have the order for less.
    of_day = (table.c.run.concat("") == run, table.c.request_day == day)
    experiments: list[str | None] = [None]
    if "experiment" in table.c:
        asked = select(table.c.experiment).where(*of_day).distinct()
        experiments = sorted(connection.execute(asked).scalars())
    files = []
    for experiment in experiments:
        these = of_day if experiment is None else (*of_day, table.c.experiment == experiment)
        pieces = _pieces(connection, table, these, told)
        files.append(write_file(root, folder_of(table.name, run, day, experiment), table, pieces))
    found = tuple(file for file in files if file is not None)
    stored = connection.execute(select(func.count()).select_from(table).where(*of_day)).scalar_one()
    written = sum(file.rows for file in found)
    if written != stored:
        raise StoreError(
            f"archive: {written:,} rows of {table.name} of run {run!r} and day {day} were written, must be "
            f"the database's {stored:,}"
        )
    return found


def write_file(root: Folder, folder: str, table: Table, pieces: Iterable[pa.Table]) -> StoredFile | None:
    """Write pieces of sorted rows as one file, and read it back; None where there are no rows.

    It is written to a file without a name first, which is gone with the process, as its content names it.
    """
    rows = 0
    with TemporaryFile() as scratch:
        with pq.ParquetWriter(scratch, schema_of(table), compression="zstd") as writer:
            for group in _groups(pieces):
                rows += group.num_rows
                writer.write_table(group, row_group_size=ROWS)
        if rows == 0:
            return None
        size = scratch.tell()
        scratch.seek(0)
        digest = hashlib.file_digest(scratch, "sha256").hexdigest()
        made = StoredFile(path=f"{folder}/{digest[:32]}.parquet", rows=rows, bytes=size, sha256=digest)
        root.write(made.path, scratch)
    _check(root, made)
    return made


def _check(root: Folder, made: StoredFile) -> None:
    """Read back what a file says of itself."""
    with root.reading(made.path) as file:
        found = pq.read_metadata(file).num_rows
        size = file.seek(0, 2)
    if (found, size) != (made.rows, made.bytes):
        raise root.error(
            made.path,
            f"has {found:,} rows and {size:,} bytes, must have the {made.rows:,} and {made.bytes:,} written",
        )


def _pieces(
    connection: Connection, table: Table, conditions: Iterable[ColumnElement[bool]], told: Told
) -> Iterator[pa.Table]:
    """Read rows in their order, `FETCHED` at a time."""
    # By bytes, whatever order the database has for texts.
    binary = connection.dialect.name == "postgresql"
    order = [collate(table.c[name], "C") if binary and name != "ts" else table.c[name] for name in SORTED_BY]
    asked = select(table).where(*conditions).order_by(*order).execution_options(yield_per=FETCHED)
    schema = schema_of(table)
    for rows in connection.execute(asked).partitions():
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=schema)
        told(len(rows))


def _groups(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put pieces together until they have `ROWS` rows."""
    held: list[pa.Table] = []
    for piece in pieces:
        held.append(piece)
        if sum(one.num_rows for one in held) >= ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
