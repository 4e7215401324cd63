"""Data sets as they grow: memory and processor time of building one from SQL, and of learning from it.

ARMLIFT_BENCH_BEHAVIOURS says how many behaviours there are (default 2,000,000); all is done with a quarter
of them too, each piece of work in a process of its own. What is learned is read as `weighted`, which goes
through all units twice; the reference is the same from a list of all units, as training without shards would
hold it.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from figures import Figure, show
from sqlalchemy import Engine, text

from armlift.days import DAY_MS
from armlift.store.database import connect, upgrade, writing
from armlift.training_mix import histories_for
from armlift_pipelines.dataset import DataSet, Lesson, Span
from armlift_pipelines.dataset_build import build_from_sql

BEHAVIOURS = int(os.environ.get("ARMLIFT_BENCH_BEHAVIOURS", "2000000"))
OF_A_UNIT = 20
FIRST, DAYS = 20_000, 30
SPAN = Span("live", FIRST * DAY_MS, (FIRST + DAYS - 1) * DAY_MS, (FIRST + DAYS) * DAY_MS)
ARMS = ("a", "b")
IDENTITY = "printf('%032x', {})".format
MEGABYTE = 1024


class Work(NamedTuple):
    """What a piece of work took: seconds of processors, and megabytes above what loading armlift takes."""

    seconds: float
    megabytes: float


def fill(engine: Engine, behaviours: int) -> None:
    """Write units that click on twenty items each over thirty days, after each was shown it by its arm."""
    units = behaviours // OF_A_UNIT
    unit = f"printf('user-%08d', n.value % {units})"
    item = "printf('video-%06d', n.value * 7919 % 50021)"
    ts = f"{SPAN.first} + n.value * 104729 % {DAYS} * {DAY_MS} + n.value * 7919 % {DAY_MS}"
    arm = f"CASE WHEN n.value % {units} % 3 = 0 THEN 'a' ELSE 'b' END"
    day = f"({ts}) / {DAY_MS}"
    numbers = (
        "WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < {}) "
        "SELECT {} FROM n ORDER BY 1, 3"  # as events come: day after day
    )
    event = f"{day}, {day}, {IDENTITY('n.value')}, 'live', {ts}"
    rows = {
        "feedback": (behaviours, f"{event}, '', {unit}, {item}, 'click', 1.0, 0"),
        "impressions": (behaviours, f"{event}, '', {unit}, {arm}, 'v', {item}, 0, 0, NULL, NULL, 0"),
        "exposures": (
            units,
            f"{FIRST}, {FIRST}, {IDENTITY('n.value')}, 'live', {SPAN.first}, {unit}, 'e', 0, 0, {arm}, 'v', "
            "FALSE, FALSE",
        ),
    }
    with writing(engine) as connection:
        for table, (count, columns) in rows.items():
            connection.execute(text(f"INSERT INTO {table} {numbers}".format(count - 1, columns)))


def do(what: str, folder: Path) -> None:
    """Do one piece of work in this process, or write that many behaviours, and print what it took."""
    before, began = _peak(), time.process_time()
    engine = connect(f"sqlite:///{folder / 'bench.db'}", folder)
    if what.isdigit():
        upgrade(engine)
        fill(engine, int(what))
    elif what == "build":
        build_from_sql(engine, SPAN, folder / "day")
    elif what == "learn":
        for _ in Lesson(DataSet(folder / "day"), "weighted", "a", "e", ARMS).histories():
            pass
    else:
        for _ in histories_for("a", ARMS, [*DataSet(folder / "day").learnt("e")], "weighted"):
            pass
    engine.dispose()
    print(json.dumps(Work(time.process_time() - began, _peak() - before)))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE


def measure(behaviours: int) -> dict[str, Work]:
    """Do all pieces of work on so many behaviours."""
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for what in (str(behaviours), "build", "learn", "list"):
            command = [sys.executable, __file__, what, name]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[what] = Work(*json.loads(told))
            print(f"{behaviours:,} behaviours, {what}: {found[what]}", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    quarter, whole = measure(BEHAVIOURS // 4), measure(BEHAVIOURS)
    figures = []
    for what, name in (("build", "building"), ("learn", "learning, weighted")):
        growth = whole[what].megabytes / quarter[what].megabytes
        figures.append(
            Figure(
                f"{name}, {BEHAVIOURS:,} behaviours", whole[what].megabytes, "MB", "a quarter of them",
                quarter[what].megabytes, growth, "<= 1.25 x", growth <= 1.25,
            )
        )  # fmt: skip
    ratio = whole["learn"].megabytes / whole["list"].megabytes
    figures.append(
        Figure(
            f"learning, {BEHAVIOURS:,} behaviours", whole["learn"].megabytes, "MB", "a list of all units",
            whole["list"].megabytes, ratio, "<= 0.25 x", ratio <= 0.25,
        )
    )  # fmt: skip
    for what in ("build", "learn"):
        cost, before = (work[what].seconds / rows * 1e6 for work, rows in
                        ((whole, BEHAVIOURS), (quarter, BEHAVIOURS // 4)))  # fmt: skip
        figures.append(
            Figure(
                f"{what}, a behaviour", cost, "us", "a quarter of them", before, cost / before, "<= 1.25 x",
                cost <= 1.25 * before,
            )
        )  # fmt: skip
    show(figures)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        do(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
