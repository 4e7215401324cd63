"""The archive: rows a second, bytes a row and memory, beside the rows fetched and as a database has them.

ARMLIFT_BENCH_EVENTS says how many rows one day has (default 1,000,000); half are impressions, half feedback.
`cpu_per_row` is of this process alone: SQLite's work is in it, PostgreSQL's is not.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from databases import postgresql
from event_rows import FIRST, NOW, store_events
from figures import Figure, show
from sqlalchemy import Engine, select, text

from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.archive.writing import FETCHED
from armlift.store.database import connect, reading, upgrade
from armlift.store.tables import PARTITIONED

EVENTS = int(os.environ.get("ARMLIFT_BENCH_EVENTS", 1_000_000))
UNITS = 50_000
RUN = "bench"
MEGABYTE = 1024 * 1024


def fill(engine: Engine) -> None:
    """Store a day, in ten portions."""
    upgrade(engine)
    for seed in range(10):
        part = EVENTS // 20
        store_events(engine, RUN, FIRST, shown=part, answered=part, exposed=0, seed=seed, units=UNITS)


def fetch(engine: Engine) -> None:
    """Read the rows as they lie, without sorting or keeping them."""
    with reading(engine) as connection:
        for table in PARTITIONED:
            asked = select(table).where(table.c.request_day == FIRST).execution_options(yield_per=FETCHED)
            for _ in connection.execute(asked).partitions():
                pass


def stored_bytes(engine: Engine) -> int:
    """Give the bytes of the database, its indexes counted."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())


@contextmanager
def peak() -> Iterator[Callable[[], float]]:
    """Watch the memory of this process; gives what tells the most it grew by, in megabytes."""
    process, stop = psutil.Process(), threading.Event()
    begin = process.memory_info().rss
    most = [begin]

    def watch() -> None:
        while not stop.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: (most[0] - begin) / MEGABYTE
    finally:
        stop.set()
        thread.join()


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Give how long some work takes, and how much of it this process computes."""
    start, begin = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - begin


def measure(engine: Engine, folder: Path) -> list[Figure]:
    """Archive a day of one database, then look again where nothing has changed."""
    fill(engine)
    name, before = engine.dialect.name, stored_bytes(engine)
    fetched, fetching = seconds(lambda: fetch(engine))
    archive = Archive(str(folder / name))
    with peak() as grown:
        taken, computed = seconds(lambda: archive_closed(engine, archive, NOW, after=0))
        memory = grown()
    unchanged, _ = seconds(lambda: archive_closed(engine, archive, NOW, after=0))
    (kept,) = archive.manifests(RUN)
    rows, size = sum(kept.rows.values()), sum(file.bytes for file in kept.files)
    rate, plain, a_row, in_sql = rows / taken, rows / fetched, size / rows, before / rows
    return [
        Figure(
            f"archive.{name}.rows_per_s", rate, "rows/s", "only fetched", plain, rate / plain,
            "at least 0.2 of it", rate >= 0.2 * plain,
        ),
        Figure(
            f"archive.{name}.cpu_per_row", computed / rows * 1e6, "us", "only fetched",
            fetching / rows * 1e6, fetching / computed, "at most five times it", computed <= 5 * fetching,
        ),
        Figure(
            f"archive.{name}.bytes_per_row", a_row, "bytes", "in the database, indexes counted", in_sql,
            in_sql / a_row, "at most a quarter", a_row <= in_sql / 4,
        ),
        Figure(
            f"archive.{name}.memory", memory, "MB", "none", None, None,
            "at most 250 MB, however many rows", memory <= 250,
        ),
        Figure(
            f"archive.{name}.unchanged", unchanged, "s", "archived anew", taken,
            taken / unchanged, "at most a fifth", unchanged <= taken / 5,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure SQLite, and PostgreSQL where it is installed."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        engine = connect(f"sqlite:///{folder / 'armlift.db'}", folder)
        figures += measure(engine, folder)
        engine.dispose()
        with postgresql() as server:
            if server is not None:
                engine = connect(server.url, folder)
                figures += measure(engine, folder)
                engine.dispose()
    show(figures)


if __name__ == "__main__":
    main()
