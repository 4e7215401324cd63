"""Aggregates: ten metrics with CUPED from `unit_days` to tests, beside tea-tasting on the same table.

ARMLIFT_BENCH_UNITS says how many units there are (default 100,000). Both read the rows of units and days in
the database, and neither pulls them out: armlift by its own SQL, tea-tasting by an Ibis expression that makes
one row a unit, as its users would write. The times include the tests themselves.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ibis
import tea_tasting
from databases import postgresql
from figures import Figure, show
from sqlalchemy import Engine, text

from armlift.aggregates import Question, UnitTotals
from armlift.effects import compare_strata
from armlift.metric import METRICS
from armlift.stats.results import Effect, Rules
from armlift.store.database import connect, upgrade, writing

UNITS = int(os.environ.get("ARMLIFT_BENCH_UNITS", "100000"))
METRIC_COUNT = 10
DAYS = (-2, -1, 0, 1)
"""Days with events, before and after the first exposure, which is at the beginning of day 0."""
FIRST_DAY = 19_100
RUN = "benchrun00000000"
PIECE = 20_000
ASKED = METRICS.validate_python(
    {f"metric_{n}": {"kind": "mean", "cuped": "7d", "of": {"event": "click"}} for n in range(METRIC_COUNT)}
)
QUESTION = Question(RUN, "bench", False, (FIRST_DAY + 10) * 86_400_000, FIRST_DAY + 9)


def fill(engine: Engine, units: int, *, metrics: int = METRIC_COUNT, days: Sequence[int] = DAYS) -> None:
    """Write exposures and days of units: on most days each does nothing in a third of the metrics."""
    u, d, m = "u.value", "d.value", "m.value"
    arm = f"CASE WHEN {u} % 2 = 0 THEN 'a' ELSE 'b' END"
    noise = f"((({u} % 1009) * 7919 + ({d} + 3) * 104729 + {m} * 1299709) % 1009) / 100.0"
    number = f"{noise} + ({u} % 97) / 20.0"
    series = {
        "u": "SELECT value FROM numbers WHERE value BETWEEN {} AND {}",
        "d": " UNION ALL ".join(f"SELECT {day} AS value" for day in days),
        "m": " UNION ALL ".join(f"SELECT {metric} AS value" for metric in range(metrics)),
    }
    with writing(engine) as connection:
        for table in ("exposures", "unit_days"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("DROP TABLE IF EXISTS numbers"))
        connection.execute(text("CREATE TABLE numbers (value INTEGER PRIMARY KEY)"))
        connection.execute(
            text(
                "INSERT INTO numbers WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n "
                f"WHERE value < {units - 1}) SELECT value FROM n"
            )
        )
    for first in range(0, units, PIECE):
        some = series["u"].format(first, first + PIECE - 1)
        exposed = (
            f"SELECT {FIRST_DAY}, {FIRST_DAY}, 'e' || {u}, '{RUN}', {FIRST_DAY * 86_400_000}, 'u' || {u}, "
        )
        exposed += f"'bench', 0, 0, {arm}, 'v', false, false FROM ({some}) u"
        acted = f"SELECT '{RUN}', 'bench', 'u' || {u}, {FIRST_DAY} + {d}, 'metric_' || {m}, "
        acted += f"CASE WHEN {d} < 0 THEN 'pre' ELSE 'post' END, {arm}, {number}, 0.0, 0.0 "
        acted += f"FROM ({some}) u CROSS JOIN ({series['d']}) d CROSS JOIN ({series['m']}) m "
        acted += f"WHERE {d} = -1 OR ({u} * 7 + ({d} + 2) * 3 + {m}) % 3 <> 0"
        with writing(engine) as connection:
            connection.execute(text(f"INSERT INTO exposures {exposed}"))
            connection.execute(text(f"INSERT INTO unit_days {acted}"))
    with writing(engine) as connection:
        connection.execute(text("ANALYZE"))


def ours(engine: Engine) -> dict[str, Effect]:
    """Compare the arms in all metrics."""
    found = {}
    with engine.connect() as connection:
        totals = UnitTotals(connection, QUESTION, ASKED)
        for name, metric in ASKED.items():
            arms: dict[str, Any] = {"a": {}, "b": {}}
            for stratum, one in totals.by_stratum(name).items():
                arms[stratum.arm][stratum.generation, stratum.phase] = one
            found[name] = compare_strata(metric, arms["b"], arms["a"], Rules()).effect
    return found


def theirs(backend: Any) -> Any:
    """Compare the arms in all metrics by tea-tasting."""
    days, exposures = backend.table("unit_days"), backend.table("exposures")
    mine = days.filter((days.run == RUN) & (days.experiment == "bench"))
    columns = {
        f"{side}_{name}": ibis.cases(((mine.metric == name) & (mine.side == side), mine.num), else_=0.0).sum()
        for name in ASKED
        for side in ("post", "pre")
    }
    totals = mine.group_by("unit_id", "arm").aggregate(**columns)
    units = exposures.filter((exposures.run == RUN) & (exposures.experiment == "bench"))
    joined = units.select("unit_id", "arm").distinct().left_join(totals, ["unit_id", "arm"])
    wide = joined.select("arm", **{name: joined[name].fill_null(0.0) for name in columns})
    metrics = {name: tea_tasting.Mean(f"post_{name}", f"pre_{name}") for name in ASKED}
    return tea_tasting.Experiment(metrics, variant="arm").analyze(wide, control="a")


def timed(work: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Give the median time of some runs, in seconds, and the last answer."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        answer = work()
        took.append(time.perf_counter() - start)
    return sorted(took)[times // 2], answer


def measure(engine: Engine, backend: Callable[[], Any], where: str) -> list[Figure]:
    """Measure both on a quarter of the units, then on all."""
    seconds = []
    for units in (UNITS // 4, UNITS):
        fill(engine, units)
        took, found = timed(lambda: ours(engine))
        seconds.append(took)
    connected = backend()
    their_seconds, answer = timed(lambda: theirs(connected))
    for name, effect in found.items():
        assert effect.lift is not None
        # Theirs takes one covariate; ours adds whether a unit has a past, which all of them have here.
        assert abs(answer[name].rel_effect_size - effect.lift) < 1e-9
    growth = seconds[1] / 4 / seconds[0]
    name = f"{METRIC_COUNT} metrics with CUPED, {UNITS:,} units, {where}"
    return [
        Figure(
            name, seconds[1], "s", "tea-tasting", their_seconds, seconds[1] / their_seconds, "<= 0.5 x",
            seconds[1] <= 0.5 * their_seconds,
        ),
        Figure(
            f"cost a unit, {where}", seconds[1] / UNITS * 1e6, "us", "a quarter of the units",
            seconds[0] / UNITS * 4e6, growth, "<= 1.25 x", growth <= 1.25,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    figures = []
    with postgresql(fsync=True) as server:
        if server is None:
            sys.exit("bench aggregates needs PostgreSQL's programs")
        print(f"{server.name}, {UNITS:,} units", flush=True)
        engine = connect(server.url, Path())
        upgrade(engine)
        plain = server.url.replace("postgresql+psycopg://", "postgresql://")
        figures += measure(engine, lambda: ibis.connect(plain), "PostgreSQL")
        engine.dispose()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        engine = connect(f"sqlite:///{path}", Path())
        upgrade(engine)
        figures += measure(engine, lambda: ibis.sqlite.connect(path), "SQLite")
        engine.dispose()
    show(figures)


if __name__ == "__main__":
    main()
