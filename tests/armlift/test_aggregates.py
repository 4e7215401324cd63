"""Aggregates in SQL against NumPy over the same units."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import Engine, insert

from armlift.aggregates import Question, Stratum, UnitTotals
from armlift.days import DAY_MS
from armlift.effects import parts_of
from armlift.metric import METRICS, window_of
from armlift.stats.aggregates import Aggregates, merge_all
from armlift.store.database import writing
from armlift.store.tables import exposures, unit_days

Array = npt.NDArray[np.float64]
LONG = "m" * 63
METRICS_ASKED = METRICS.validate_python(
    {
        "clicks": {"kind": "mean", "of": {"event": "click"}},
        "watched": {"kind": "mean", "of": {"event": "play", "aggregate": "sum"}},
        "clicked": {"kind": "proportion", "of": {"event": "click"}},
        LONG: {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}},
        "arm": {"kind": "mean", "of": {"event": "purchase"}},
        "early": {
            "kind": "ratio",
            "window": "2d",
            "numerator": {"event": "click"},
            "denominator": {"event": "impression"},
        },
    }
)
DAYS = 5


@dataclass
class World:
    """Units as a log would leave them, and the tables' rows."""

    exposures: list[dict[str, Any]] = field(default_factory=list)
    unit_days: list[dict[str, Any]] = field(default_factory=list)

    def expose(self, unit: str, arm: str, day: int, **changed: Any) -> None:
        ts = day * DAY_MS + 1
        self.exposures.append(
            {
                "request_day": day,
                "event_id": f"{len(self.exposures):032x}",
                "run": "r1",
                "day": day,
                "ts": ts,
                "unit_id": unit,
                "experiment": "demo",
                "generation": 0,
                "phase": 0,
                "arm": arm,
                "arm_version": "1",
                "forced": False,
                "fallback": False,
            }
            | changed
        )

    def count(
        self, unit: str, arm: str, day: int, metric: str, num: float, den: float, **changed: Any
    ) -> None:
        row = {"run": "r1", "experiment": "demo", "unit_id": unit, "day": day, "metric": metric}
        row |= {"side": "post", "arm": arm, "num": num, "den": den, "num_sq": num * num}
        self.unit_days.append({**row, **changed})

    def counting(self, units: Sequence[str], arm: str, metric: str, as_of: int) -> list[str]:
        """Leave out the units that met the arm less than the metric's window before a time."""
        window = window_of(METRICS_ASKED[metric])
        since: dict[str, int] = {}
        for one in self.exposures:
            if (one["run"], one["experiment"], one["arm"]) == ("r1", "demo", arm):
                since[one["unit_id"]] = min(one["ts"], since.get(one["unit_id"], one["ts"]))
        return [u for u in units if window is None or since[u] + window - 1 <= as_of]

    def totals(self, units: Sequence[str], arm: str, metric: str, as_of_day: int) -> Array:
        """Add up the rows of units as the definition of the metric asks: shape [len(units), 2]."""
        sums = {unit: [0.0, 0.0] for unit in units}
        for row in self.unit_days:
            key = (row["run"], row["experiment"], row["side"], row["arm"], row["metric"])
            asked = key == ("r1", "demo", "post", arm, metric) and row["day"] <= as_of_day
            if asked and row["unit_id"] in sums:
                sums[row["unit_id"]][0] += row["num"]
                sums[row["unit_id"]][1] += row["den"]
        values = np.array(list(sums.values())).reshape(-1, 2)
        if METRICS_ASKED[metric].kind == "proportion":
            values[:, 0] = values[:, 0] > 0
        return values


def random_world(seed: int, *, paired: bool, units: int = 300) -> World:
    """Give units with skewed, offset and correlated totals on some days; values are exact in binary."""
    rng = np.random.default_rng(seed)
    world = World()
    for number in range(units):
        unit, first = f"u{number}", int(rng.integers(0, DAYS))
        arms = ["a", "b"] if paired else [str(rng.choice(["a", "b"]))]
        place = {"phase": int(rng.integers(0, 2)), "generation": int(rng.integers(0, 2))}
        for arm in arms:
            world.expose(unit, arm, first, **place)
            if rng.random() < 0.3:  # again, in a later phase
                world.expose(unit, arm, min(first + 1, DAYS - 1), phase=2, generation=1)
        offset = float(rng.normal(0, 100))
        for arm in arms:
            for day in range(first, DAYS):
                clicks, shown = int(rng.poisson(0.3)), int(rng.poisson(1))
                world.count(unit, arm, day, "clicks", clicks, 0)
                world.count(unit, arm, day, "clicked", clicks, 0)
                world.count(unit, arm, day, LONG, clicks, shown)
                world.count(unit, arm, day, "early", clicks, shown)
                play = round((1e6 + offset + rng.normal(0, 10)) * 1024) / 1024
                world.count(unit, arm, day, "watched", play, 0)
            world.count(unit, arm, first, "clicks", 7, 0, side="pre")
            world.count(unit, arm, first, "clicks", 7, 0, run="r2")
            world.count(unit, arm, first, "clicks", 7, 0, experiment="other")
        if number % 10 == 0:
            world.expose(unit, arms[0], DAYS - 1, forced=True)
        if number % 7 == 0:
            world.expose(unit, "b" if arms[0] == "a" else "a", DAYS - 1, phase=2, generation=1)
        world.expose(unit, "c", 0, run="r2")
        world.expose(unit, "c", 0, experiment="other")
    return world


def store(engine: Engine, world: World) -> None:
    with writing(engine) as connection:
        for table, rows in ((exposures, world.exposures), (unit_days, world.unit_days)):
            if rows:
                connection.execute(insert(table), rows)


def question(day: int, *, paired: bool) -> Question:
    return Question("r1", "demo", paired, (day + 1) * DAY_MS - 1, day)


@dataclass
class Expected:
    """What plain Python makes of a world."""

    strata: Mapping[Stratum, list[str]]
    forced: int
    several: int


def expected(world: World, asked: Question) -> Expected:
    known = [e for e in world.exposures if (e["run"], e["experiment"]) == ("r1", "demo")]
    by_unit: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in known:
        if one["ts"] <= asked.as_of:
            by_unit[one["unit_id"]].append(one)
    strata: dict[Stratum, list[str]] = defaultdict(list)
    forced = several = 0
    for unit, met in by_unit.items():
        arms = {one["arm"] for one in met}
        if any(one["forced"] for one in met):
            forced += 1
        elif len(arms) > 1 and not asked.paired:
            several += 1
        else:
            first = min(met, key=lambda one: int(one["ts"]))
            for arm in arms:
                strata[Stratum(arm, first["generation"], first["phase"])].append(unit)
    return Expected(strata, forced, several)


def check(found: Aggregates, names: tuple[str, ...], values: Array) -> None:
    """Hold aggregates against NumPy's over one row a unit."""
    reference = Aggregates.of(names, values)
    assert (found.names, found.n) == (names, len(values))
    np.testing.assert_allclose(found.means, reference.means, rtol=1e-12, atol=0)
    scale = np.sqrt(np.outer(np.diag(reference.moments), np.diag(reference.moments)))
    np.testing.assert_array_less(np.abs(found.moments - reference.moments), 1e-12 * scale + 1e-300)
    assert (found.moments == found.moments.T).all()


@pytest.mark.parametrize("day", [0, 2, DAYS - 1])
def test_strata_equal_numpy(engine: Engine, day: int) -> None:
    world = random_world(1, paired=False)
    store(engine, world)
    asked = question(day, paired=False)
    wanted = expected(world, asked)
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, METRICS_ASKED)
        assert totals.counts() == {stratum: len(units) for stratum, units in wanted.strata.items()}
        assert totals.left_out() == {"forced": wanted.forced, "several_arms": wanted.several}
        assert bool(wanted.several) == (day == DAYS - 1)
        for name, metric in METRICS_ASKED.items():
            found = totals.by_stratum(name)
            carriers: dict[str, int] = defaultdict(int)
            for stratum, met in wanted.strata.items():
                units = world.counting(met, stratum.arm, name, asked.as_of)
                rows = world.totals(units, stratum.arm, name, day)
                carriers[stratum.arm] += int(np.count_nonzero(rows[:, 1]))
                if metric.kind == "ratio":
                    rows = rows[rows[:, 1] != 0]
                parts = parts_of(metric)
                check(found.pop(stratum, Aggregates.empty(parts)), parts, rows[:, : len(parts)])
            assert not found
            assert totals.carriers(name) == {arm: n for arm, n in carriers.items() if n}


def test_strata_of_an_arm_merge_to_its_whole(engine: Engine) -> None:
    world = random_world(2, paired=False)
    store(engine, world)
    asked = question(DAYS - 1, paired=False)
    wanted = expected(world, asked)
    with engine.connect() as connection:
        found = UnitTotals(connection, asked, METRICS_ASKED).by_stratum("watched")
    merged = merge_all(part for stratum, part in found.items() if stratum.arm == "a")
    units = [unit for stratum, some in wanted.strata.items() if stratum.arm == "a" for unit in some]
    check(merged, ("num",), world.totals(units, "a", "watched", DAYS - 1)[:, :1])
    assert merged.means[0] > 1e6


@pytest.mark.parametrize("day", [0, DAYS - 1])
def test_pairs_equal_numpy(engine: Engine, day: int) -> None:
    world = random_world(3, paired=True)
    store(engine, world)
    asked = question(day, paired=True)
    wanted = expected(world, asked)
    units = sorted({unit for some in wanted.strata.values() for unit in some})
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, METRICS_ASKED)
        assert totals.left_out() == {"forced": wanted.forced}
        for name, metric in METRICS_ASKED.items():
            whole = [world.counting(units, arm, name, asked.as_of) for arm in "ab"]
            both = [unit for unit in units if all(unit in some for some in whole)]
            assert totals.too_young().get(name, 0) == len({*units} - {*both})
            rows = np.hstack([world.totals(both, arm, name, day) for arm in "ab"])
            if metric.kind == "ratio":
                rows = rows[(rows[:, 1] != 0) | (rows[:, 3] != 0)]
            check(totals.pairs(name, "a", "b"), ("num", "den", "control_num", "control_den"), rows)


ADJUSTED = METRICS.validate_python(
    {
        "clicks": {"kind": "mean", "of": {"event": "click"}, "cuped": "14d", "winsorise": 0.9},
        "clicked": {"kind": "proportion", "of": {"event": "click"}},
        LONG: {
            "kind": "ratio", "cuped": "14d",
            "numerator": {"event": "click"}, "denominator": {"event": "impression"},
        },
        "early": METRICS_ASKED["early"],
    }
)  # fmt: skip


def test_units_by_themselves_make_the_aggregates(engine: Engine) -> None:
    world = random_world(6, paired=False)
    for number in range(0, 300, 3):  # a third has a past in the ratio too
        world.count(f"u{number}", "a", 0, LONG, 2, 5, side="pre")
    store(engine, world)
    asked = question(DAYS - 1, paired=False)
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, ADJUSTED)
        for name, metric in ADJUSTED.items():
            wanted = totals.by_stratum(name)
            units, places, values = totals.each(name, ["a", "b"])
            assert units == sorted(set(units))
            for arm in "ab":
                mine, strata, own = totals.each(name, [arm])
                assert mine
                assert {*mine} <= {*units}
                for place in sorted(set(strata)):
                    inside = [one == place for one in strata]
                    check(wanted.pop(Stratum(arm, *place)), parts_of(metric), own[inside])
            assert not wanted
            assert len(units) == len(places) == len(values)


@pytest.mark.parametrize("paired", [False, True])
def test_arrivals_count_each_unit_once(engine: Engine, paired: bool) -> None:
    world = random_world(7, paired=paired)
    store(engine, world)
    asked = question(DAYS - 1, paired=paired)
    counted = {unit for units in expected(world, asked).strata.values() for unit in units}
    first: dict[str, int] = {}
    for one in world.exposures:
        if (one["run"], one["experiment"]) == ("r1", "demo") and one["unit_id"] in counted:
            first[one["unit_id"]] = min(one["day"], first.get(one["unit_id"], DAYS))
    with engine.connect() as connection:
        found = UnitTotals(connection, asked, METRICS_ASKED).arrivals()
    assert found == dict(sorted(Counter(first.values()).items()))
    assert sum(found.values()) == len(counted)


def test_a_unit_without_events_counts_as_zero(engine: Engine) -> None:
    world = World()
    for unit in ("u1", "u2", "u3"):
        world.expose(unit, "a", 0)
    world.count("u1", "a", 0, "clicks", 6, 0)
    store(engine, world)
    with engine.connect() as connection:
        totals = UnitTotals(connection, question(0, paired=False), METRICS_ASKED)
        clicks = totals.by_stratum("clicks")[Stratum("a", 0, 0)]
        assert (clicks.n, clicks.mean("num"), clicks.variance("num")) == (3, 2.0, 12.0)
        assert totals.by_stratum(LONG) == {}


def test_a_run_without_units_gives_nothing(engine: Engine) -> None:
    world = World()
    world.expose("u1", "a", 0, forced=True)
    store(engine, world)
    for run, forced in (("r1", 1), ("unknown", 0)):
        for paired in (False, True):
            asked = question(0, paired=paired)._replace(run=run)
            with engine.connect() as connection:
                totals = UnitTotals(connection, asked, METRICS_ASKED)
                assert totals.counts() == {}
                assert totals.by_stratum("clicks") == {}
                assert totals.carriers("clicks") == {}
                assert totals.pairs("clicks", "a", "b").n == 0
                assert totals.left_out() == {"forced": forced} | ({} if paired else {"several_arms": 0})


def test_the_sql_shown_gives_the_units_again(engine: Engine) -> None:
    world = random_world(4, paired=False, units=20)
    store(engine, world)
    with engine.connect() as connection:
        totals = UnitTotals(connection, question(DAYS - 1, paired=False), METRICS_ASKED)
        rows = connection.exec_driver_sql(totals.sql.split(";\n")[0]).all()
        assert len(rows) == sum(totals.counts().values()) > 0
        again = UnitTotals(connection, question(0, paired=False), METRICS_ASKED)
        assert sum(again.counts().values()) < len(rows)


def test_the_cost_grows_with_the_units_and_no_faster(engine: Engine) -> None:
    def seconds(units: range) -> float:
        world = World()
        for number in units:
            world.expose(f"u{number}", "ab"[number % 2], 0, event_id=f"{number:032x}")
            world.count(f"u{number}", "ab"[number % 2], 0, "clicks", number % 5, 0)
        store(engine, world)
        start = time.perf_counter()
        with engine.connect() as connection:
            totals = UnitTotals(connection, question(0, paired=False), METRICS_ASKED)
            totals.by_stratum("clicks")
            totals.pairs("clicks", "a", "b")
        return time.perf_counter() - start

    few = seconds(range(250))
    assert seconds(range(250, 4000)) < 32 * few  # 16 times the units; every pair of them would be 256
