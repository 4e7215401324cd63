"""Spark with two cores against PostgreSQL on one question: the rollup and all aggregates of a run's metrics.

ARMLIFT_BENCH_EVENTS says how many events there are (default 200,000), twenty of each unit, and
ARMLIFT_BENCH_MEMORY how much memory Spark's Java has (4g). PostgreSQL rolls up the events in its tables and
adds up; or it adds up alone what it has rolled up before, as a nightly report does. Spark rolls up and adds
up from the archive of the same events. How long Spark takes to start is told apart.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from databases import postgresql
from figures import Figure, show
from sqlalchemy import Connection, Engine, text

from armlift.aggregates import Question, Stratum, UnitTotals
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS
from armlift.lab import Lab, init_lab
from armlift.metric import Metric
from armlift.rollup import rebuild
from armlift.runs import IMPORTED, Run, begin, definition_of, subject_of
from armlift.settings import SparkSettings
from armlift.spark.engine import open_reading
from armlift.stats.aggregates import Aggregates
from armlift.store.database import connect, upgrade, writing
from armlift.store.partitions import Partitions

EVENTS = int(os.environ.get("ARMLIFT_BENCH_EVENTS", "200000"))
MEMORY = os.environ.get("ARMLIFT_BENCH_MEMORY", "4g")
PER_UNIT, DAYS, FIRST_DAY = 20, 10, 19_100
RUN = "benchrun00000000"
KINDS = ("click", "long_view", "play", "like")
Found = Mapping[str, Mapping[Stratum, Aggregates]]


def fill(engine: Engine, events: int) -> None:
    """Write a unit's exposure, then its impressions and what it did with them, over some days."""
    units, per_unit = events // PER_UNIT, PER_UNIT - 1
    Partitions(engine).ensure(range(FIRST_DAY, FIRST_DAY + DAYS))
    unit, n = "u.value", "n.value"
    day = f"{FIRST_DAY} + ({unit} * 7 + {n} * 3) % {DAYS}"
    ts = f"({day})::bigint * {DAY_MS} + ({unit} * 7919::bigint + {n} * 104729::bigint) % {DAY_MS}"
    arm, name = f"CASE WHEN {unit} % 2 = 0 THEN 'a' ELSE 'b' END", f"'u' || {unit}"
    key = f"lpad(to_hex({unit}), 16, '0') || lpad(to_hex({n}), 16, '0')"
    head = f"{day}, {day}, {key}, '{RUN}', {ts}"
    series = f"FROM generate_series(0, {units - 1}) u(value)"
    shown = f"{series} CROSS JOIN generate_series(1, {(per_unit + 1) // 2}) n(value)"
    done = f"{series} CROSS JOIN generate_series(1, {per_unit // 2}) n(value)"
    kind = f"(ARRAY{list(KINDS)})[1 + ({unit} + {n}) % {len(KINDS)}]"
    value = f"CASE WHEN ({unit} + {n}) % 4 = 2 THEN (({unit} * 31 + {n} * 17) % 600) / 10.0 ELSE 1.0 END"
    first = f"{FIRST_DAY} + {unit} % 3"
    with writing(engine) as connection:
        for statement in (
            f"INSERT INTO exposures SELECT {first}, {first}, lpad(to_hex({unit}), 32, '0'), '{RUN}', "
            f"({first})::bigint * {DAY_MS}, {name}, 'demo', 0, 0, {arm}, 'v', false, false {series}",
            f"INSERT INTO impressions SELECT {head}, {key}, {name}, {arm}, 'v', 'i' || {n}, 0, 0, "
            f"NULL, NULL, false {shown}",
            f"INSERT INTO feedback SELECT {head}, {key}, {name}, 'i' || {n}, {kind}, {value}, 0 {done}",
        ):
            connection.execute(text(statement))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))


def described(folder: Path) -> Run:
    """Describe a run of the stock experiment with its metrics."""
    init_lab(folder)
    lab = Lab(folder)
    experiment = lab.experiment("demo")
    return Run(
        run=RUN, number=1, experiment="demo", mode=IMPORTED, paired=False, k=0, seed=0, state="finished",
        synthetic=True, definition=definition_of(experiment, lab.metrics_of(experiment)),
        arms={"a": "v", "b": "v"}, log={}, resolution={}, dropped={},
    )  # fmt: skip


def added_up(connection: Connection, question: Question, metrics: Mapping[str, Metric]) -> Found:
    """Ask for all aggregates of all metrics."""
    totals = UnitTotals(connection, question, metrics)
    return {name: totals.by_stratum(name) for name in metrics}


def seconds(name: str, work: Callable[[], Found]) -> tuple[float, Found]:
    """Do a piece of work and tell its seconds at once, for all take an hour; gives them and what it found."""
    start = time.perf_counter()
    found = work()
    took = time.perf_counter() - start
    print(f"{name}: {took:.1f} s", flush=True)
    return took, found


def check(found: Found, wanted: Found) -> None:
    """Hold one engine's aggregates against the other's."""
    for name, strata in wanted.items():
        assert found[name].keys() == strata.keys()
        for stratum, one in strata.items():
            np.testing.assert_allclose(found[name][stratum].means, one.means, rtol=1e-9)
            np.testing.assert_allclose(found[name][stratum].moments, one.moments, rtol=1e-9, atol=1e-6)


def measure(engine: Engine, folder: Path) -> list[Figure]:
    """Measure both on the same events."""
    run = described(folder / "lab")
    subject = subject_of(run)
    end = FIRST_DAY + DAYS
    question = Question(RUN, "demo", False, end * DAY_MS - 1, end - 1)
    fill(engine, EVENTS)
    with writing(engine) as connection:
        begin(connection, run)

    def rolled_up() -> Found:
        with writing(engine) as connection:
            rebuild(connection, subject)
        return stored()

    def stored() -> Found:
        with engine.connect() as connection:
            return added_up(connection, question, subject.metrics)

    both, wanted = seconds("PostgreSQL, from its events", rolled_up)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE unit_days"))
    alone, _ = seconds("PostgreSQL, from the rollup it stores", stored)
    archive = Archive(str(folder / "archive"))
    writing_took = archive_closed(engine, archive, (end + 1) * DAY_MS, after=0).seconds
    began = time.perf_counter()
    with open_reading(SparkSettings(url="local[2]", memory=MEMORY), archive) as read:
        started = time.perf_counter() - began
        print(f"archived in {writing_took:.1f} s; Spark started in {started:.1f} s", flush=True)

        def on_spark() -> Found:
            with read(engine, run, question) as connection:
                return added_up(connection, question, subject.metrics)

        spark, found = seconds("Spark, from the archive", on_spark)
    check(found, wanted)
    size = f"{EVENTS:,} events"
    return [
        Figure(
            f"rollup and aggregates on Spark, {size}", spark, "s", "PostgreSQL, the same from its events",
            both, spark / both, "<= 1 x", spark <= both,
        ),
        Figure(
            f"rollup and aggregates on Spark, {size}", spark, "s", "PostgreSQL, from the rollup it stores",
            alone, spark / alone, "<= 1 x", spark <= alone,
        ),
        Figure(
            f"cost an event on Spark, {size}", spark / EVENTS * 1e6, "us", "PostgreSQL, from its events",
            both / EVENTS * 1e6, spark / both, "<= 1 x", spark <= both,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    with postgresql(fsync=True) as server, tempfile.TemporaryDirectory() as folder:
        if server is None:
            sys.exit("bench spark needs PostgreSQL's programs")
        print(f"{server.name} and Spark on local[2], {EVENTS:,} events", flush=True)
        engine = connect(server.url, Path())
        upgrade(engine)
        figures = measure(engine, Path(folder))
        engine.dispose()
    show(figures)


if __name__ == "__main__":
    main()
