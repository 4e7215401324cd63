"""Assessments: known values are covered by every estimator, real logs agree, and advice fits the log."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from armlift.errors import InputError
from armlift.offpolicy.assessment import METHODS, Assessment, assess
from armlift.offpolicy.logged_rows import LoggedRows, rows_of
from armlift.offpolicy.policies import TablePolicy, told_by, uniform
from armlift.offpolicy.readers import UnitOf, read_rows
from armlift.stats.ope import PolicyValue
from armlift.stats.slate_ope import SlateValue

MakeRows = Callable[..., LoggedRows]
ITEMS, SLOTS = 8, 2
WORLD = np.random.default_rng(11)
LOGGED = 0.3 / ITEMS + 0.7 * WORLD.dirichlet(np.full(ITEMS, 3.0), SLOTS)
TARGET = WORLD.dirichlet(np.full(ITEMS, 0.7), SLOTS)
CHANCES = WORLD.uniform(0.3, 0.7, (SLOTS, ITEMS))
NAMES = np.array([f"i{n}" for n in range(ITEMS)])


def draw(seed: int, logged: np.ndarray, *, units: int = 250) -> LoggedRows:
    """Draw slates of two slots, one to three a unit; a unit's readiness to click is shared by its rows."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(units), rng.integers(1, 4, units))
    mood = rng.uniform(-0.25, 0.25, units)[whose]
    parts = []
    for slot in range(SLOTS):
        item = rng.choice(ITEMS, len(whose), p=logged[slot])
        click = rng.random(len(whose)) < CHANCES[slot, item] + mood
        parts.append(
            pl.DataFrame(
                {
                    "unit": whose.astype(str),
                    "item": NAMES[item],
                    "position": np.full(len(whose), slot),
                    "reward": click.astype(np.float64),
                    "propensity": logged[slot, item],
                    "request": np.arange(len(whose)).astype(str),
                }
            )
        )
    return rows_of(pl.concat(parts), "test", "users").widened(NAMES.tolist())


def found_of(assessment: Assessment) -> dict[str, PolicyValue | SlateValue]:
    found: dict[str, PolicyValue | SlateValue] = {one.method: one for one in assessment.values}
    return found | {one.method: one for one in assessment.slates}


def test_a_known_value_is_covered_by_every_estimator() -> None:
    """300 logs; the item's own order is that of the catalogue, so tables apply as they are."""
    draws = 300
    even = np.full((SLOTS, ITEMS), 1 / ITEMS)
    sure = np.eye(ITEMS)[CHANCES.argmax(axis=1)]
    methods = [method for method in METHODS if method != "replay"]
    truth = {method: float((TARGET * CHANCES).sum()) for method in METHODS}
    truth |= {method: truth[method] / SLOTS for method in ("ips", "snips", "doubly_robust")}
    truth["replay"] = float((sure * CHANCES).sum() / SLOTS)
    covered = dict.fromkeys(METHODS, 0)
    widths: dict[str, list[float]] = {method: [] for method in METHODS}
    means: list[bool] = []
    for seed in range(draws):
        first = assess(draw(seed, LOGGED), TablePolicy("target", TARGET), methods=methods)
        second = assess(draw(seed, even), TablePolicy("sure", sure), methods=["replay"])
        means.append(not first.weights.off_one)
        for method, one in (found_of(first) | found_of(second)).items():
            assert one.low is not None, (method, one.status)
            assert one.high is not None
            covered[method] += one.low <= truth[method] <= one.high
            widths[method].append(one.high - one.low)
    error = np.sqrt(0.95 * 0.05 / draws)
    shares = {method: count / draws for method, count in covered.items()}
    assert all(abs(share - 0.95) < 3 * error for share in shares.values()), shares
    assert abs(np.mean(means) - 0.95) < 3.5 * error
    medians = {method: float(np.median(some)) for method, some in widths.items()}
    assert medians["snips"] < 0.9 * medians["ips"]
    assert medians["doubly_robust"] < 0.9 * medians["ips"]


def test_slates_without_repeats_are_weighed_by_the_chance_of_an_item_at_its_place() -> None:
    """A uniform log without repeats: rows and slates agree, and the weights' mean is 1."""
    rng = np.random.default_rng(5)
    count = 3_000
    items = np.argsort(rng.random((count, ITEMS)), axis=1)[:, :SLOTS]
    chances = CHANCES[np.arange(SLOTS), items]
    frame = pl.DataFrame(
        {
            "unit": np.repeat(np.arange(count) // 3, SLOTS).astype(str),
            "item": NAMES[items].ravel(),
            "position": np.tile(np.arange(SLOTS), count),
            "reward": (rng.random((count, SLOTS)) < chances).astype(np.float64).ravel(),
            "propensity": np.tile(1 / (ITEMS - np.arange(SLOTS)), count),
            "request": np.repeat(np.arange(count), SLOTS).astype(str),
        }
    )
    found = assess(rows_of(frame, "test", "users"), TablePolicy("target", TARGET))
    truth = float((TARGET * CHANCES).sum())
    assert not found.weights.off_one
    assert found.weights.mean == pytest.approx(1.0, abs=0.05)
    values = found_of(found)
    for method in ("item_ips", "item_snips", "pseudo_inverse"):
        one = values[method]
        assert one.low is not None
        assert one.high is not None
        assert one.low < truth < one.high
    assert values["snips"].value == pytest.approx(truth / SLOTS, rel=0.05)


@pytest.mark.parametrize("unit", ["features", "row"])
def test_thompson_sampling_from_the_random_log_of_a_shop(shared_data: Path, unit: UnitOf) -> None:
    random = read_rows([shared_data / "obd" / "random_men.csv"], unit=unit)
    own = read_rows([shared_data / "obd" / "bts_men.csv"], unit=unit)
    policy, rows = told_by(own, random, "bts_men.csv")
    found = assess(rows, policy, own=own)
    assert found.own is not None
    assert found.own.value == pytest.approx(0.0069)
    assert found.logged.value == pytest.approx(0.0046)
    values = found_of(found)
    for method in ("ips", "snips", "doubly_robust"):
        one = values[method]
        assert one.low is not None
        assert one.high is not None
        assert one.low < 0.0069 < one.high
        # The sample is small: the random log's own rate lies in it as well, and the advice says so.
        assert one.low < 0.0046 < one.high
        assert 0.002 < (one.high - one.low) / 2 < 0.004
    assert found.weights.effective_rows == pytest.approx(2_869, abs=1)
    assert not found.weights.off_one
    assert found.support.never == 0.0
    assert found.trusted == "doubly_robust"
    assert any("agrees with what the policy earned itself, 0.0069" in said for said in found.advice)
    assert any("these rows do not tell the two apart" in said for said in found.advice)


def test_support_is_told_apart(make_rows: MakeRows) -> None:
    many = [(f"u{n}", "a", 1, 1.0, 0.5) for n in range(400)]
    rows = make_rows(*many, ("w", "b", 1, 0.0, 0.002)).widened(["c", "d"])
    found = assess(rows, TablePolicy("test", np.array([[0.5, 0.2, 0.3, 0.0]])))
    assert found.support.never == pytest.approx(0.3)
    assert found.support.threshold == pytest.approx(0.025)
    assert found.support.seldom == pytest.approx(0.2)
    assert any("30.0% of what the policy shows the log never gave" in said for said in found.advice)
    assert any("20.0% of what the policy shows the log gave seldom" in said for said in found.advice)


def test_no_estimate_is_trusted_that_should_not_be(make_rows: MakeRows) -> None:
    few = make_rows(*((f"u{n}", "ab"[n % 2], 1, float(n % 3 == 0), 0.5) for n in range(60)))
    found = assess(few, uniform(few))
    assert found.trusted is None
    assert found.advice[0].startswith("trust no estimate")
    assert any("worth 60 rows of the policy's own, below 100" in said for said in found.advice)
    wrong = make_rows(*((f"u{n}", "ab"[n % 2], 1, float(n % 3 == 0), 0.9) for n in range(600)))
    found = assess(wrong, uniform(wrong))
    assert found.trusted is None
    assert any("propensities are wrong" in said for said in found.advice)
    good = make_rows(*((f"u{n}", "ab"[n % 2], 1, float(n % 3 == 0), 0.5) for n in range(600)))
    skewed = TablePolicy("skewed", np.array([[0.9, 0.1]]))
    assert assess(good, skewed).trusted is not None
    clipped = assess(good, skewed, clip=1.0)
    assert clipped.trusted is None
    assert any("300 weights are cut to 1" in said for said in clipped.advice)


def test_methods_are_chosen_and_bad_input_refused(make_rows: MakeRows) -> None:
    rows = make_rows(*((f"u{n}", "ab"[n % 2], 1, 1.0, 0.5, f"r{n}") for n in range(10)))
    found = assess(rows, uniform(rows), methods=["ips", "slate_ips"])
    assert list(found_of(found)) == ["ips", "slate_ips"]
    document = found.as_dict()
    assert document["slates"][0]["assumption"].startswith("nothing of how a reward")
    with pytest.raises(InputError, match="--method magic: must be one of replay, ips, snips"):
        assess(rows, uniform(rows), methods=["magic"])
    empty = make_rows(("u", "a", 1, 1.0, 0.0))
    with pytest.raises(InputError, match="no row of the log can be used: bad_propensity 1"):
        assess(empty, uniform(empty))
