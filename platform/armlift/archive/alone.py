"""The lock that lets one process at a time write an archive: it belongs to the database archived."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from armlift.errors import StoreError

LOCK = 0x61726D61
"""PostgreSQL's advisory lock of whoever writes the archive of a database."""


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Hold the lock of the archive of a database; it ends with the process, however that ends.

    Raises StoreError where another process holds it.
    """
    database = engine.url.database
    if engine.dialect.name == "postgresql":
        with _advisory(engine):
            yield
    elif database in (None, "", ":memory:"):
        yield  # no other process sees it
    else:
        with _flock(Path(str(database)).parent):
            yield


@contextmanager
def _advisory(engine: Engine) -> Iterator[None]:
    """Hold a lock of a PostgreSQL, which forgets it with the connection."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        if not connection.execute(text(f"SELECT pg_try_advisory_lock({LOCK})")).scalar():
            raise _busy()
        try:
            yield
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock({LOCK})"))


@contextmanager
def _flock(folder: Path) -> Iterator[None]:
    """Hold the lock of an SQLite file's folder; one on the file itself might end SQLite's own."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy() from error
        yield
    finally:
        os.close(descriptor)


def _busy() -> StoreError:
    return StoreError("archive: another process is writing it; wait until it has ended, and start this again")
