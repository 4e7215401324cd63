"""The lock that lets one process at a time write an archive: it belongs to the database archived."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine, text

from armlift.errors import StoreError

LOCK = 0x61726D61
"""PostgreSQL's advisory lock of whoever writes the archive of a database."""


PATIENCE = 5.0
"""Seconds that are waited for the lock: a server takes its time to notice that a process was killed."""
POLL = 0.1


@contextmanager
def alone(engine: Engine, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of the archive of a database; it ends with the process, however that ends.

    Raises StoreError where another process holds it for longer than `patience` seconds.
    """
    database = engine.url.database
    if engine.dialect.name == "postgresql":
        with _advisory(engine, patience):
            yield
    elif database in (None, "", ":memory:"):
        yield  # no other process sees it
    else:
        with _flock(Path(str(database)).parent, patience):
            yield


@contextmanager
def _advisory(engine: Engine, patience: float) -> Iterator[None]:
    """Hold a lock of a PostgreSQL, which forgets it with the connection."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        asked = text(f"SELECT pg_try_advisory_lock({LOCK})")
        _wait(lambda: bool(connection.execute(asked).scalar()), patience)
        try:
            yield
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock({LOCK})"))


@contextmanager
def _flock(folder: Path, patience: float) -> Iterator[None]:
    """Hold the lock of an SQLite file's folder; one on the file itself might end SQLite's own."""
    descriptor = os.open(folder, os.O_RDONLY)

    def taken() -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    try:
        _wait(taken, patience)
        yield
    finally:
        os.close(descriptor)


def _wait(taken: Callable[[], bool], patience: float) -> None:
    """Try to take a lock until it is taken; raises StoreError after `patience` seconds."""
    until = time.monotonic() + patience
    while not taken():
        if time.monotonic() > until:
            raise StoreError("archive: another process is writing it; wait until it has ended")
        time.sleep(POLL)
