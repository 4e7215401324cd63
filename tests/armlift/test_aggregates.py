"""Aggregates in SQL against NumPy over the same units."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import skew
from sqlalchemy import Engine, insert

from armlift.aggregates import Question, Stratum, UnitTotals, needs_rows
from armlift.days import DAY_MS
from armlift.effects import BEFORE, PAST, parts_of, past_of
from armlift.experiment import Exclusion
from armlift.metric import METRICS, window_of
from armlift.segments import Segment, tell
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
        "by_past": {"kind": "mean", "cuped": "7d", "of": {"event": "click"}},
        "ctr_by_past": {
            "kind": "ratio",
            "cuped": "7d",
            "numerator": {"event": "click"},
            "denominator": {"event": "impression"},
        },
        "back": {"kind": "retention", "day": 1},
        "median": {"kind": "quantile", "quantile": 0.5, "of": {"event": "play", "aggregate": "sum"}},
        "capped": {"kind": "mean", "winsorise": 0.9, "of": {"event": "play", "aggregate": "sum"}},
        "early": {
            "kind": "ratio",
            "window": "2d",
            "numerator": {"event": "click"},
            "denominator": {"event": "impression"},
        },
    }
)
DAYS = 5
PARTS = ("num", "den")


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
        """Leave out the units that met the arm too short a time before a time."""
        asked = METRICS_ASKED[metric]
        window = window_of(asked)
        since: dict[str, int] = {}
        for one in self.exposures:
            if (one["run"], one["experiment"], one["arm"]) == ("r1", "demo", arm):
                since[one["unit_id"]] = min(one["ts"], since.get(one["unit_id"], one["ts"]))
        if asked.kind == "retention":
            return [u for u in units if since[u] // DAY_MS + asked.day <= as_of // DAY_MS]
        return [u for u in units if window is None or since[u] + window - 1 <= as_of]

    def totals(
        self, units: Sequence[str], arm: str, metric: str, as_of_day: int, parts: Sequence[str] = PARTS
    ) -> Array:
        """Add up the rows of units as the definition of the metric asks: shape [len(units), len(parts)]."""
        sums = {unit: dict.fromkeys((*PARTS, *BEFORE, PAST), 0.0) for unit in units}
        for row in self.unit_days:
            own = (row["run"], row["experiment"]) == ("r1", "demo") and row["unit_id"] in sums
            if own and (row["side"], row["arm"], row["metric"]) == ("pre", arm, metric):
                sums[row["unit_id"]][PAST] = 1.0
            if own and (row["arm"], row["metric"]) == (arm, metric) and row["day"] <= as_of_day:
                prefix = "pre_" if row["side"] == "pre" else ""
                for part in PARTS:
                    sums[row["unit_id"]][prefix + part] += row[part]
        if METRICS_ASKED[metric].kind in ("proportion", "retention"):
            for one in sums.values():
                one["num"] = float(one["num"] > 0)
        return np.array([[one[part] for part in parts] for one in sums.values()]).reshape(-1, len(parts))

    def cap(self, strata: Mapping[Stratum, list[str]], metric: str, asked: Question) -> float:
        """Give the value at which a metric is capped: at a quantile of the values above 0 of all arms."""
        definition = METRICS_ASKED[metric]
        if definition.kind != "mean" or definition.winsorise is None:
            return np.inf
        some = [
            self.totals(self.counting(met, s.arm, metric, asked.as_of), s.arm, metric, asked.as_of_day)[:, 0]
            for s, met in strata.items()
        ]
        values = np.sort(np.concatenate(some))
        values = values[values > 0]
        return float(values[min(len(values) - 1, int(definition.winsorise * len(values)))])


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
                world.count(unit, arm, day, "by_past", clicks, 0)
                world.count(unit, arm, day, "ctr_by_past", clicks, shown)
                if number % 3:
                    world.count(unit, arm, day, "median", play - 1e6 + 20, 0)
                    world.count(unit, arm, day, "capped", play - 1e6 + 20, 0)
            if first + 1 < DAYS and number % 4:
                world.count(unit, arm, first + 1, "back", 1, 0)
            if number % 5:
                for day in (first - 1, first):
                    world.count(unit, arm, day, "by_past", int(rng.poisson(2)), 0, side="pre")
                    past = int(rng.poisson(2)), int(rng.poisson(5))
                    world.count(unit, arm, day, "ctr_by_past", *past, side="pre")
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


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("day", [0, 2, DAYS - 1])
def test_strata_equal_numpy(engine: Engine, day: int, streamed: bool) -> None:
    """Whether totals are added up as they are read, or from the table that a cap is looked up in."""
    world = random_world(1, paired=False)
    store(engine, world)
    asked = question(day, paired=False)
    wanted = expected(world, asked)
    with engine.connect() as connection:
        metrics = {n: m for n, m in METRICS_ASKED.items() if not (streamed and needs_rows(m))}
        assert streamed == (len(metrics) < len(METRICS_ASKED))
        totals = UnitTotals(connection, asked, metrics)
        assert totals.counts() == {stratum: len(units) for stratum, units in wanted.strata.items()}
        assert totals.left_out() == {"forced": wanted.forced, "several_arms": wanted.several}
        assert bool(wanted.several) == (day == DAYS - 1)
        found_all = {name: totals.by_stratum(name) for name in metrics}
        for name, metric in metrics.items():
            found = found_all[name]
            carriers: dict[str, int] = defaultdict(int)
            for stratum, met in wanted.strata.items():
                units = world.counting(met, stratum.arm, name, asked.as_of)
                parts = parts_of(metric)
                rows = world.totals(units, stratum.arm, name, day, parts)
                rows[:, 0] = np.minimum(rows[:, 0], world.cap(wanted.strata, name, asked))
                if metric.kind == "ratio":
                    rows = rows[rows[:, 1] != 0]
                    carriers[stratum.arm] += len(rows)
                check(found.pop(stratum, Aggregates.empty(parts)), parts, rows)
            assert not found
            assert totals.carriers(name) == {arm: n for arm, n in carriers.items() if n}
            assert totals.caps().get(name, np.inf) == world.cap(wanted.strata, name, asked)


@pytest.mark.parametrize("day", [1, DAYS - 1])
def test_what_was_before_equals_numpy(engine: Engine, day: int) -> None:
    world = random_world(5, paired=False)
    store(engine, world)
    asked = question(day, paired=False)
    wanted = expected(world, asked)
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, METRICS_ASKED)
        for name in ("by_past", "ctr_by_past", "clicks"):
            found = totals.before(name)
            past = past_of(METRICS_ASKED[name])
            for stratum, units in wanted.strata.items():
                values = world.totals(units, stratum.arm, name, day, BEFORE)[:, : len(past)]
                check(found.pop(stratum), past, values)
            assert not found


@pytest.mark.parametrize("name", ["watched", "clicked", "ctr_by_past"])
def test_days_since_exposure_and_slopes_equal_numpy(engine: Engine, name: str) -> None:
    world = random_world(7, paired=False)
    store(engine, world)
    asked = question(DAYS - 1, paired=False)
    wanted = expected(world, asked)
    since = {
        one["unit_id"]: one["day"]
        for one in reversed(world.exposures)
        if one["run"] + one["experiment"] == "r1demo"
    }
    metric, parts = METRICS_ASKED[name], PARTS
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, METRICS_ASKED)
        by_age, slopes = totals.by_age(name), totals.slopes(name, 3)
        assert totals.arrivals() == dict(
            sorted(Counter(since[u] for us in wanted.strata.values() for u in us).items())
        )
    for stratum, units in wanted.strata.items():
        days = np.zeros((len(units), DAYS, 2))
        for row in world.unit_days:
            own = (row["run"], row["experiment"], row["side"], row["arm"], row["metric"])
            if own == ("r1", "demo", "post", stratum.arm, name) and row["unit_id"] in units:
                place = units.index(row["unit_id"])
                days[place, row["day"] - since[row["unit_id"]]] += row["num"], row["den"]
        if metric.kind == "proportion":
            days[:, :, 0] = days[:, :, 0] > 0
        age = np.array([DAYS - 1 - since[unit] for unit in units])
        for day in range(DAYS):
            rows = days[age >= day, day]
            rows = rows[rows[:, 1] != 0] if metric.kind == "ratio" else rows
            check(by_age.get(day, {}).pop(stratum, Aggregates.empty(parts)), parts, rows)
        own_slopes = days[age >= 2, :3, 0] @ np.array([-0.5, 0.0, 0.5])
        found = slopes.pop(stratum, Aggregates.empty(("num",)))
        assert found.n == len(own_slopes)
        assert found.means[0] == pytest.approx(own_slopes.mean(), rel=1e-9, abs=1e-9)
        assert found.moments[0, 0] == pytest.approx(((own_slopes - own_slopes.mean()) ** 2).sum(), rel=1e-9)
    assert not any(by_age.values())
    assert not slopes


@pytest.mark.parametrize("paired", [False, True])
def test_segments_equal_numpy_over_their_units(engine: Engine, paired: bool) -> None:
    """Values are those told first; units of which none is known are a segment; caps are those of all."""
    world = random_world(8, paired=paired)
    store(engine, world)
    platform = {f"u{n}": ["ios", "web"][n % 2] for n in range(300) if n % 5}
    with writing(engine) as connection:
        later = [(unit, 20, "tv") for unit in platform]
        tell(connection, "r1", "platform", later[::2])
        tell(connection, "r1", "platform", [(unit, 10, value) for unit, value in platform.items()])
        tell(connection, "r1", "platform", later[1::2])
        tell(connection, "r1", "is it old?", [("u1", 10, "yes")])
        tell(connection, "r2", "platform", [(f"u{n}", 0, "other run") for n in range(300)])
    asked = question(DAYS - 1, paired=paired)._replace(segments=("platform", "is it old?"))
    wanted = expected(world, asked)
    with engine.connect() as connection:
        whole = UnitTotals(connection, asked._replace(segments=()), METRICS_ASKED).by_stratum("capped")
        totals = UnitTotals(connection, asked, METRICS_ASKED)
        segments = totals.segments()
        assert [str(one) for one in segments[:3]] == ["platform=-", "platform=ios", "platform=web"]
        assert {str(one) for one in segments[3:]} <= {"is it old?=-", "is it old?=yes"}
        for value in ("-", "ios", "web"):
            part = totals.within(Segment("platform", value))
            strata = {
                stratum: [unit for unit in units if platform.get(unit, "-") == value]
                for stratum, units in wanted.strata.items()
            }
            assert part.counts() == {stratum: len(units) for stratum, units in strata.items() if units}
            for name, metric in METRICS_ASKED.items():
                found, parts = part.by_stratum(name), parts_of(metric)
                for stratum, met in strata.items():
                    units = world.counting(met, stratum.arm, name, asked.as_of)
                    rows = world.totals(units, stratum.arm, name, DAYS - 1, parts)
                    rows[:, 0] = np.minimum(rows[:, 0], world.cap(wanted.strata, name, asked))
                    rows = rows[rows[:, 1] != 0] if metric.kind == "ratio" else rows
                    check(found.pop(stratum, Aggregates.empty(parts)), parts, rows)
                assert not found
            units = sorted(unit for stratum, some in strata.items() if stratum.arm == "a" for unit in some)
            values = np.sort(world.totals(units, "a", "median", DAYS - 1)[:, 0])
            assert part.quantile("median", "a", [0, len(values) // 2]) == [
                values[0],
                values[len(values) // 2],
            ]
            both = [world.totals(units, arm, "watched", DAYS - 1) for arm in "ab"] if paired else None
            if both is not None:
                check(
                    part.pairs("watched", "a", "b"), (*PARTS, "control_num", "control_den"), np.hstack(both)
                )
        check_same(totals.by_stratum("capped"), whole)


@pytest.mark.parametrize("streamed", [True, False])
def test_skewness_equals_scipy(engine: Engine, streamed: bool) -> None:
    world = random_world(9, paired=False)
    store(engine, world)
    asked = question(DAYS - 1, paired=False)
    wanted = expected(world, asked)
    metrics = {n: m for n, m in METRICS_ASKED.items() if not (streamed and needs_rows(m))}
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, metrics)
        for name, metric in metrics.items():
            rows = {}
            for arm in "ab":
                units = [u for s, some in wanted.strata.items() if s.arm == arm for u in some]
                values = world.totals(world.counting(units, arm, name, asked.as_of), arm, name, DAYS - 1)
                values[:, 0] = np.minimum(values[:, 0], world.cap(wanted.strata, name, asked))
                rows[arm] = values[values[:, 1] != 0] if metric.kind == "ratio" else values
            sums = sum(one.sum(axis=0) for one in rows.values())
            found = totals.skewness(name)
            for arm, values in rows.items():
                ratio = metric.kind == "ratio"
                left = values[:, 0] - sums[0] / sums[1] * values[:, 1] if ratio else values[:, 0]
                skewness = skew(left) if left.std() else 0.0
                assert found[arm][0] == len(values)
                assert found[arm][1] == pytest.approx(skewness, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("paired", [False, True])
def test_exclusions_leave_out_units_by_their_total_or_a_day(engine: Engine, paired: bool) -> None:
    world = random_world(10, paired=paired)
    store(engine, world)
    rules = {
        "busy": Exclusion(metric="clicks", above=3),
        "bot": Exclusion(metric="by_past", above=1, per="day"),
        "nobody": Exclusion(metric="clicks", above=1e6),
    }
    for day in (0, DAYS - 1):
        asked = question(day, paired=paired)
        strata = expected(world, asked).strata
        mine: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in world.unit_days:
            own = (row["run"], row["experiment"], row["side"]) == ("r1", "demo", "post")
            if own and row["day"] <= day:
                mine[row["unit_id"], row["arm"]][row["metric"]].append(row["num"])
        busy = {unit for (unit, _), done in mine.items() if sum(done["clicks"]) > 3}
        bots = {unit for (unit, _), done in mine.items() if max(done["by_past"], default=0) > 1}
        with engine.connect() as connection:
            totals = UnitTotals(connection, asked._replace(exclusions=rules), METRICS_ASKED)
            assert totals.assigned() == {s: len(units) for s, units in strata.items()}
            kept = {s: [u for u in units if u not in busy | bots] for s, units in strata.items()}
            assert totals.counts() == {s: len(units) for s, units in kept.items() if units}
            there = {unit for units in strata.values() for unit in units}
            left_out = totals.left_out()
            assert left_out["excluded_busy"] == len(there & busy)
            assert left_out["excluded_bot"] == len(there & bots)
            assert left_out["excluded_nobody"] == 0
            if day:
                assert len(there & busy) > 0
                assert len(there & bots) > 0
            by_arm: dict[str, int] = defaultdict(int)
            for stratum, units in strata.items():
                by_arm[stratum.arm] += len(units) - len(kept[stratum])
            assert totals.excluded() == {arm: n for arm, n in by_arm.items() if n}
            for stratum, one in totals.by_stratum("watched").items():
                check(one, ("num",), world.totals(kept[stratum], stratum.arm, "watched", day)[:, :1])


def check_same(found: Mapping[Stratum, Aggregates], wanted: Mapping[Stratum, Aggregates]) -> None:
    assert found.keys() == wanted.keys()
    for stratum, one in wanted.items():
        assert (found[stratum].means == one.means).all()
        assert (found[stratum].moments == one.moments).all()


@pytest.mark.parametrize("day", [1, DAYS - 1])
def test_order_statistics_equal_numpy(engine: Engine, day: int) -> None:
    """Idle units are zeros among values of either sign."""
    world = random_world(6, paired=False)
    store(engine, world)
    asked = question(day, paired=False)
    wanted = expected(world, asked)
    with engine.connect() as connection:
        totals = UnitTotals(connection, asked, METRICS_ASKED)
        for arm in "ab":
            units = [unit for stratum, some in wanted.strata.items() if stratum.arm == arm for unit in some]
            values = np.sort(world.totals(units, arm, "median", day)[:, 0])
            assert values[0] < 0 < values[-1]
            assert 0 in values
            assert totals.units("median", arm) == len(values)
            assert totals.quantile("median", arm, range(len(values))) == list(values)
            for at in (float(values[len(values) // 2]), -1.0, 0.0):
                below = totals.share_at_most("median", at)
                merged = merge_all(one for stratum, one in below.items() if stratum.arm == arm)
                check(merged, ("below", "values"), np.array([[float(v <= at), 1.0] for v in values]))


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
            rows[:, ::2] = np.minimum(rows[:, ::2], world.cap(wanted.strata, name, asked))
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
