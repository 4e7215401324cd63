"""A/A checks: sound metrics pass as often as promised, whales and skewed small arms do not."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from armlift.aa import Checked, check, share_of, splits_of
from armlift.aggregates import UnitTotals
from armlift.effects import Ordered, Place, compare_quantiles, compare_strata, quantile_rank
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.hashing import key_of
from armlift.metric import METRICS
from armlift.runs import Run
from armlift.splitter import assign
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.means import welch
from armlift.stats.results import Rules

METRICS_ASKED = METRICS.validate_python(
    {
        "y": {"kind": "mean", "of": {"event": "click"}},
        "z": {"kind": "mean", "of": {"event": "click"}},
        "adjusted": {"kind": "mean", "of": {"event": "click"}, "cuped": "14d"},
        "median": {"kind": "quantile", "quantile": 0.5, "of": {"event": "click"}},
        "rate": {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}},
        "days": {"kind": "mean", "of": {"event": "click", "aggregate": "days"}},
    }
)
RUN = Run("r", 1, "e", "rerank", False, 1, 0, "finished", False, {}, {}, {"kinds": ["click"]}, {}, {})
Mask = npt.NDArray[np.bool_]
Draw = Callable[[np.random.Generator, int], Array]


class Known:
    """Units as `UnitTotals` gives them, each with its values; strata alternate where there are two."""

    def __init__(self, values: Array, strata: int = 1) -> None:
        self._values = values if values.ndim == 2 else values[:, None]
        self._strata = strata
        self.asked: list[list[str]] = []

    def each(self, metric: str, arms: Sequence[str]) -> tuple[list[str], list[Place], Array]:
        self.asked.append(list(arms))
        n = len(self._values)
        return [f"u{i}" for i in range(n)], [(0, i % self._strata) for i in range(n)], self._values


def experiment(*primary: str, weights: tuple[float, float] = (1, 1), **changed: Any) -> Experiment:
    arms = {"new": weights[0], "old": weights[1]}
    plain: dict[str, Any] = {"name": "e", "arms": arms, "control": "old"}
    return Experiment.model_validate(plain | {"metrics": {"primary": primary or ["y"]}} | changed)


def checked(values: Array, asked: Experiment | None = None, splits: int = 200, **changed: Any) -> Checked:
    definition = asked or experiment()
    chosen: dict[str, Any] = {"seed": 0, "everybody": False, "strata": 1} | changed
    totals = cast(UnitTotals, Known(values, chosen.pop("strata")))
    names = list(definition.metrics.roles)
    return check(RUN, definition, METRICS_ASKED, totals, asked=names, splits=splits, **chosen)[0]


def exponential(rng: np.random.Generator, n: int) -> Array:
    return rng.standard_exponential(n)


def test_splits_are_those_of_the_splitter() -> None:
    """A split's p-value equals Welch's on the groups that `assign` makes, unit by unit."""
    values = np.random.default_rng(1).standard_exponential(120)
    definition = experiment(weights=(1, 3))
    shares = []
    below = 0
    for split in splits_of(definition, 0.25, 30, seed=7):
        first = np.array([assign(split, 0, f"u{i}").arm == "first" for i in range(120)])
        own, others = (Aggregates.of(("num",), values[mask][:, None]) for mask in (first, ~first))
        p = welch(own, others, "num", Rules(min_units=2)).p_value
        assert p is not None
        below += p < 0.05
        shares.append(first.mean())
    found = checked(values, experiment(weights=(1, 3), analysis={"minimum_units": 2}), 30, seed=7)
    assert found.found.share == below / 30
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)
    assert len(set(shares)) > 5
    assert splits_of(definition, 0.25, 1, seed=7)[0].phases[0].salt == key_of("experiment:e:aa:7:0:0")


def test_the_seed_decides() -> None:
    values = np.random.default_rng(1).standard_exponential(200)
    assert checked(values, seed=3) == checked(values, seed=3)
    assert checked(values, seed=3).found.tenths != checked(values, seed=4).found.tenths


def test_clean_units_are_flagged_as_seldom_as_promised() -> None:
    """One in a hundred checks may be: of 60, four or more would be with chance .003."""
    told = Counter(checked(exponential(np.random.default_rng(n), 300), splits=100).verdict for n in range(60))
    assert told["sound"] >= 57


def whale(rng: np.random.Generator, n: int) -> Array:
    """One unit weighs more than all others: p is about .32 wherever it falls."""
    values = rng.standard_exponential(n)
    values[0] = 100.0 * n
    return values


def lognormal(sigma: float) -> Draw:
    return lambda rng, n: rng.lognormal(0.0, sigma, n)


@pytest.mark.parametrize(
    ("draw", "units", "weights", "verdict"),
    [
        (exponential, 2000, (1.0, 1.0), "sound"),
        (whale, 2000, (1.0, 1.0), "too_seldom"),
        (lognormal(3.0), 100, (1.0, 1.0), "too_seldom"),
        (lognormal(2.0), 400, (1.0, 9.0), "too_often"),
    ],
)
def test_heavy_tails_are_found(draw: Draw, units: int, weights: tuple[float, float], verdict: str) -> None:
    """Most draws of few units with heavy tails have one that outweighs the others; some have two or three."""
    asked, opposite = experiment(weights=weights), {"too_often": "too_seldom", "too_seldom": "too_often"}
    told = Counter(checked(draw(np.random.default_rng(n), units), asked).verdict for n in range(6))
    assert told[verdict] >= 4
    assert told[opposite.get(verdict, "uneven")] == 0


def test_a_cap_mends_a_whale() -> None:
    values = whale(np.random.default_rng(1), 2000)
    assert checked(np.minimum(values, np.quantile(values, 0.99))).verdict == "sound"


def test_strata_covariates_ratios_and_quantiles_are_compared_as_in_a_report() -> None:
    rng = np.random.default_rng(5)
    past = rng.standard_exponential(300)
    columns = {
        "adjusted": np.column_stack([past + rng.standard_exponential(300), past, np.ones(300)]),
        "rate": np.column_stack([rng.poisson(2, 300), rng.integers(1, 9, 300)]).astype(float),
        "median": rng.standard_exponential((300, 1)),
    }
    for name, values in columns.items():
        found = checked(values, experiment(name), 40, strata=2)
        assert found.verdict == "sound"
        assert found.method == {"adjusted": "cuped", "rate": "ratio", "median": "quantile"}[name]
        below = 0
        for split in splits_of(experiment(), 0.5, 40, seed=0):
            first = np.array([assign(split, 0, f"u{i}").arm == "first" for i in range(300)])
            below += (p_value(name, values, first) or 1.0) < 0.05
        assert found.found.share == below / 40


def p_value(name: str, values: Array, first: Mask) -> float | None:
    rules = Rules(min_units=30)
    metric = METRICS_ASKED[name]
    if metric.kind == "quantile":
        ordered = [np.sort(values[mask, 0]) for mask in (first, ~first)]
        below = [one <= one[quantile_rank(0.5, len(one))] for one in ordered]
        columns = [np.column_stack([one, np.ones(len(one))]).astype(float) for one in below]
        clusters = [Aggregates.of(("below", "values"), one) for one in columns]
        arm, control = (
            Ordered(one[quantile_rank(0.5, len(one))], cluster, partial(picked, one))
            for one, cluster in zip(ordered, clusters, strict=True)
        )
        return compare_quantiles(0.5, arm, control, rules).p_value
    names = ("num", "den") if metric.kind == "ratio" else ("num", "pre_num", "past")
    stratum = np.arange(300) % 2
    own, others = (
        {(0, k): Aggregates.of(names, values[mask & (stratum == k)]) for k in (0, 1)}
        for mask in (first, ~first)
    )
    return compare_strata(metric, own, others, rules).effect.p_value


def picked(ordered: Array, ranks: Sequence[int]) -> list[float]:
    return [float(ordered[rank]) for rank in ranks]


@pytest.mark.parametrize(
    ("values", "name", "status"),
    [
        (np.ones(200), "y", "zero_variance"),
        (np.arange(40.0), "y", "too_few"),
        (np.zeros((0, 1)), "y", "no_data"),
        (np.zeros((0, 1)), "median", "no_data"),
        (np.arange(200.0), "days", "not_estimable"),
    ],
)
def test_what_cannot_be_compared_is_not_checked(values: Array, name: str, status: str) -> None:
    found = checked(values, experiment(name), 20)
    assert (found.verdict, found.status, found.unknown) == ("no_data", status, 20)
    assert found.as_dict()["verdict"] == "no_data"
    assert found.as_dict()["share"] is None


def test_all_metrics_share_the_level_and_progress_is_told() -> None:
    rng = np.random.default_rng(1)
    known, told = Known(rng.standard_exponential(200)), list[tuple[int, int]]()
    found = check(
        RUN, experiment("y", "z"), METRICS_ASKED, cast(UnitTotals, known), asked=["y", "z"], splits=30,
        seed=0, everybody=True, tell=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert known.asked == [["new", "old"]] * 2
    assert [one.found.tenths for one in found] == [found[0].found.tenths] * 2
    assert told == [(done, 60) for done in range(10, 61, 10)]


def test_the_share_is_that_of_the_most_unequal_challenger() -> None:
    def three(a: float, b: float) -> Experiment:
        return experiment(arms={"a": a, "b": b, "old": 2})

    assert share_of(three(2, 2)) == 0.5
    assert share_of(three(2, 0.5)) == 0.2
    assert share_of(three(8, 0)) == 0.8
    with pytest.raises(InputError, match="weight 0"):
        share_of(three(0, 0))
