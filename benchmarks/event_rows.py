"""Events for the archive's tests and its benchmark, and what a database and its archive have of them."""

import random
from typing import Any

import polars as pl
from sqlalchemy import Engine, Table, select

from armlift.archive.archive import Archive
from armlift.archive.schema import TABLES
from armlift.days import DAY_MS
from armlift.store.database import writing
from armlift.store.partitions import Partitions
from armlift.store.sink import insert_new
from armlift.store.tables import exposures, feedback, impressions

Row = tuple[Any, ...]

FIRST = 20_000
"""The first day of events."""
NOW = (FIRST + 10) * DAY_MS + 1
RUNS = ("live", "a/b c%25=ü*[1]")
"""Two runs, one whose name must be encoded."""
KINDS = ("click", "like", "play")
ODD = ("", "ü", "用户", "a/b", "e\u0301", "Z", "z", "🙂", " ")
"""What some units' names end with, so that the order of texts and their bytes are put to the test."""


def event_rows(table: Table, run: str, day: int, number: int, *, units: int = 50, seed: int = 0) -> list[Row]:
    """Make rows of a run's events on a day (UTC), some six a request; scores and propensities may be null."""
    rng, made = random.Random(f"{run} {day} {table.name} {seed}"), list[Row]()
    requests = _requests(run, day, -(-number // 6), units, seed)
    for count in range(number):
        ts, unit, request = requests[count // 6]
        ts += count % 6 if table is exposures else 0
        name, arm = f"u{unit}{ODD[unit % len(ODD)]}", "ab"[unit % 2]
        head = (day, day + ts % 2, f"{ts:012x}{rng.getrandbits(80):020x}", run, ts)
        item, fallback = f"v{rng.randrange(1000)}", unit == 7
        if table is exposures:
            made.append((*head, name, ("demo", "other")[unit % 3 == 0], 0, 1, arm, "1" * 12, False, fallback))
        elif table is impressions:
            scores = (rng.gauss(0, 1), rng.random()) if rng.random() < 0.8 else (None, None)
            made.append((*head, request, name, arm, "1" * 12, item, count % 6, 0, *scores, fallback))
        else:
            kind = rng.choice(KINDS)
            made.append((*head, request, name, item, kind, rng.random() if kind == "play" else 1.0, 0))
    return made


def _requests(run: str, day: int, number: int, units: int, seed: int) -> list[tuple[int, int, str]]:
    """Draw requests of a day: time, unit and id, the same for all tables."""
    rng = random.Random(f"{run} {day} {seed}")
    times = [day * DAY_MS + rng.randrange(DAY_MS) for _ in range(number)]
    return [(ts, rng.randrange(units), f"{ts:012x}{rng.getrandbits(80):020x}") for ts in times]


def store_events(
    engine: Engine,
    run: str,
    day: int,
    *,
    shown: int,
    answered: int,
    exposed: int,
    seed: int = 0,
    units: int = 50,
) -> None:
    """Store events of a run and a day, so many of each table."""
    Partitions(engine).ensure([day])
    with writing(engine) as connection:
        for table, number in ((exposures, exposed), (impressions, shown), (feedback, answered)):
            insert_new(connection, table, event_rows(table, run, day, number, units=units, seed=seed))


def stored(engine: Engine, run: str, table: str) -> list[Row]:
    """Give a run's rows of a table as the database has them, in the order of (unit_id, ts, event_id)."""
    one = TABLES[table]
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(one).where(one.c.run == run))]
    return in_order(rows, table)


def in_order(rows: list[Row], table: str) -> list[Row]:
    """Sort rows by (unit_id, ts, event_id), texts by their bytes."""
    names = [column.name for column in TABLES[table].c]
    places = [names.index(name) for name in ("unit_id", "ts", "event_id")]
    return sorted(rows, key=lambda row: (row[places[0]].encode(), *(row[place] for place in places[1:])))


def archived(archive: Archive, run: str, table: str) -> list[Row]:
    """Give a run's rows of a table as the archive has them, in the same order, file by file."""
    rows: list[Row] = []
    for manifest in archive.manifests(run):
        for file in manifest.tables[table]:
            with archive.folder.reading(file.path) as content:
                found = pl.read_parquet(content.read()).rows()
            assert in_order(found, table) == found, "files are sorted"
            assert len(found) == file.rows
            rows += found
    return in_order(rows, table)


def event_files(archive: Archive) -> set[str]:
    """Give the paths of all files of an archive but its manifests."""
    return {path for path in archive.folder.sizes() if not path.startswith("manifests/")}


def assert_equal(engine: Engine, archive: Archive) -> None:
    """Assert that the archive has the rows of the database, each once, and no file beside."""
    for run in archive.runs():
        for table in TABLES:
            assert archived(archive, run, table) == stored(engine, run, table), (run, table)
    named = {file.path for run in archive.runs() for one in archive.manifests(run) for file in one.files}
    assert event_files(archive) == named
    assert not [path for path in archive.folder.sizes("manifests") if not path.endswith(".json")]
