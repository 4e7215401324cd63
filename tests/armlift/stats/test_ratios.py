from typing import Any

import numpy as np
import pytest
from tea_tasting.aggr import Aggregates as TeaAggregates
from tea_tasting.metrics import RatioOfMeans

from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.means import welch
from armlift.stats.ratios import delta_ratio, ratio

NAMES = ("m", "d")


def clusters(rng: np.random.Generator, n: int, rate: float = 0.3) -> Array:
    """Draw clicks and impressions of n units, each with its own click rate: [n, 2]."""
    shown = 1 + rng.negative_binomial(2, 0.2, n)
    own = rng.beta(4 * rate, 4 * (1 - rate), n)
    return np.column_stack([rng.binomial(shown, own), shown]).astype(float)


def tea(values: Array) -> TeaAggregates:
    s = np.cov(values.T)
    means = {"m": values[:, 0].mean(), "d": values[:, 1].mean()}
    return TeaAggregates(len(values), means, {"m": s[0, 0], "d": s[1, 1]}, {("d", "m"): s[0, 1]})


@pytest.mark.parametrize("block", range(4))
def test_delta_ratio_equals_tea_tasting(block: int) -> None:
    metric = RatioOfMeans("m", "d", equal_var=False, use_t=True)
    for seed in range(block * 60, block * 60 + 60):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(10, 500, 2)
        a, c = clusters(rng, n, 0.35) * 10.0 ** rng.integers(-2, 5), clusters(rng, m)
        ours = delta_ratio(Aggregates.of(NAMES, a), Aggregates.of(NAMES, c), "m", "d")
        theirs: Any = metric.analyze_aggregates(tea(c), tea(a))
        assert (ours.status, ours.method, ours.n, ours.control_n) == ("ok", "ratio", n, m)
        assert [
            *(ours.mean, ours.control_mean, ours.p_value),
            *(ours.difference, ours.difference_low, ours.difference_high),
            *(ours.lift, ours.lift_low, ours.lift_high),
        ] == pytest.approx(
            [
                *(theirs.treatment, theirs.control, theirs.pvalue),
                *(theirs.effect_size, theirs.effect_size_ci_lower, theirs.effect_size_ci_upper),
                *(theirs.rel_effect_size, theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper),
            ],
            rel=1e-9,
        )


def test_variance_is_that_of_the_linearised_units() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        values = clusters(rng, int(rng.integers(5, 300)))
        estimate = ratio(Aggregates.of(NAMES, values), "m", "d")
        r = values[:, 0].sum() / values[:, 1].sum()
        residuals = (values[:, 0] - r * values[:, 1]) / values[:, 1].mean()
        assert estimate.value == pytest.approx(r, rel=1e-12)
        assert estimate.variance == pytest.approx(residuals.var(ddof=1) / len(values), rel=1e-9)


def test_a_denominator_of_one_makes_it_welch() -> None:
    rng = np.random.default_rng(2)
    arms = [np.column_stack([rng.gamma(2, 1, n), np.ones(n)]) for n in (80, 120)]
    a, c = (Aggregates.of(NAMES, values) for values in arms)
    ours, theirs = delta_ratio(a, c, "m", "d"), welch(a, c, "m")
    for name in ("difference_low", "lift_low", "lift_high", "p_value", "degrees_of_freedom"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-12)


ROWS = np.array([[1.0, 3.0], [2.0, 3.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("arm", "status"),
    [
        (np.zeros((0, 2)), "no_data"),
        (np.zeros((5, 2)), "no_data"),
        (ROWS[:1], "too_few"),
        (ROWS * [1.0, -1.0], "not_estimable"),
        (ROWS * [1.0, np.inf], "not_estimable"),
        (ROWS * [0.0, 1.0], "not_estimable"),
        (ROWS, "ok"),
    ],
)
def test_degenerate_arms(arm: Array, status: str) -> None:
    with np.errstate(invalid="ignore"):
        aggregates = Aggregates.of(NAMES, arm)
    assert delta_ratio(aggregates, Aggregates.of(NAMES, ROWS), "m", "d").status == status


def test_the_same_ratio_in_every_unit_is_no_variance() -> None:
    shown = np.random.default_rng(3).uniform(1, 9, 50)
    a, c = (Aggregates.of(NAMES, np.column_stack([share * shown, shown])) for share in (0.3, 0.1))
    effect = delta_ratio(a, c, "m", "d")
    assert (effect.status, effect.p_value, effect.lift_low) == ("zero_variance", None, None)
    assert effect.lift == pytest.approx(2.0)


def covers(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def test_coverage_is_nominal() -> None:
    sims = 2000
    rng = np.random.default_rng(12)
    truth, lift = 0.06, 0.06 / 0.3
    effects = []
    for _ in range(sims):
        a, c = clusters(rng, 400, 0.36), clusters(rng, 500, 0.3)
        effects.append(delta_ratio(Aggregates.of(NAMES, a), Aggregates.of(NAMES, c), "m", "d"))
    within = np.mean([covers(e.difference_low, e.difference_high, truth) for e in effects])
    relative = np.mean([covers(e.lift_low, e.lift_high, lift) for e in effects])
    assert abs(within - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert abs(relative - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
