from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from tea_tasting.aggr import Aggregates as TeaAggregates
from tea_tasting.metrics import Mean

from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.means import proportion, score_interval, welch
from armlift.stats.results import Effect, Rules

Y = ("y",)


def of(values: Array) -> Aggregates:
    return Aggregates.of(Y, values.reshape(-1, 1))


def tea(values: Array) -> TeaAggregates:
    return TeaAggregates(len(values), {"y": values.mean()}, {"y": values.var(ddof=1)}, {})


def random_arms(seed: int) -> tuple[Array, Array, float]:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 400, 2)
    scale = 10.0 ** rng.integers(-3, 7)
    shape, other = rng.uniform(0.5, 4.0, 2)
    return rng.gamma(shape, scale, n), rng.gamma(other, scale, m), float(rng.uniform(0.001, 0.3))


@pytest.mark.parametrize("block", range(4))
def test_welch_equals_scipy_and_tea_tasting(block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        a, c, alpha = random_arms(seed)
        ours = welch(of(a), of(c), "y", Rules(alpha=alpha))
        scipy = stats.ttest_ind_from_stats(
            a.mean(), a.std(ddof=1), len(a), c.mean(), c.std(ddof=1), len(c), equal_var=False
        )
        theirs: Any = Mean("y", confidence_level=1 - alpha, equal_var=False, use_t=True).analyze_aggregates(
            tea(c), tea(a)
        )
        assert ours.status == "ok"
        assert (ours.n, ours.control_n, ours.method) == (len(a), len(c), "welch")
        assert ours.p_value == pytest.approx(scipy.pvalue, rel=1e-9)
        assert [ours.difference, ours.difference_low, ours.difference_high] == pytest.approx(
            [theirs.effect_size, theirs.effect_size_ci_lower, theirs.effect_size_ci_upper], rel=1e-9
        )
        assert [ours.lift, ours.lift_low, ours.lift_high] == pytest.approx(
            [theirs.rel_effect_size, theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper],
            rel=1e-9,
        )


def test_degrees_of_freedom_equal_scipys() -> None:
    for seed in range(200):
        a, c, _ = random_arms(seed)
        theirs = stats.ttest_ind(a, c, equal_var=False)
        assert welch(of(a), of(c), "y").degrees_of_freedom == pytest.approx(theirs.df, rel=1e-9)


def test_linear_lift_is_the_textbook_delta_method() -> None:
    for seed in range(200):
        a, c, alpha = random_arms(seed)
        effect = welch(of(a), of(c), "y", Rules(alpha=alpha, lift="linear"))
        v_a, v_c = a.var(ddof=1) / len(a), c.var(ddof=1) / len(c)
        m_a, m_c = a.mean(), c.mean()
        parts = np.array([v_a / m_c**2, v_c * m_a**2 / m_c**4])
        df = parts.sum() ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(c) - 1))
        low, high = stats.t.interval(1 - alpha, df, loc=m_a / m_c - 1, scale=np.sqrt(parts.sum()))
        assert [effect.lift_low, effect.lift_high] == pytest.approx([low, high], rel=1e-9)
        assert effect.lift_error == pytest.approx(np.sqrt(parts.sum()), rel=1e-9)


def test_proportion_equals_welch_on_zeros_and_ones() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        n, m = rng.integers(20, 3000, 2)
        a, c = (rng.random(n) < 0.3).astype(float), (rng.random(m) < 0.25).astype(float)
        ours, theirs = proportion(of(a), of(c), "y"), welch(of(a), of(c), "y")
        assert ours.status == theirs.status == "ok"
        for name in ("difference_low", "difference_high", "lift_low", "lift_high", "p_value"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-14)


def test_score_interval_equals_statsmodels() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        n = int(rng.integers(1, 5000))
        k = int(rng.choice([0, n, int(rng.integers(0, n + 1))]))
        alpha = float(rng.uniform(0.001, 0.3))
        ours = score_interval(of(np.repeat([1.0, 0.0], [k, n - k])), "y", Rules(alpha=alpha))
        low, high = proportion_confint(k, n, alpha, "wilson")
        assert (ours.status, ours.n) == ("ok", n)
        assert [ours.value, ours.low, ours.high] == pytest.approx([k / n, low, high], rel=1e-9, abs=1e-15)


def test_score_interval_says_why_there_is_none() -> None:
    assert score_interval(Aggregates.empty(Y), "y").status == "no_data"
    beyond = score_interval(of(np.array([1.0, 2.0])), "y")
    assert (beyond.status, beyond.value, beyond.low) == ("not_estimable", 1.5, None)


def facts(effect: Effect) -> tuple[bool, bool, bool, bool]:
    """Say which of difference, p-value, lift and lift's interval are given."""
    return (
        effect.difference is not None,
        effect.p_value is not None,
        effect.lift is not None,
        effect.lift_low is not None,
    )


VARIED = np.array([1.0, 2.0, 4.0, 3.0])


@pytest.mark.parametrize(
    ("arm", "control", "status", "given"),
    [
        (np.zeros(0), VARIED, "no_data", (False, False, False, False)),
        (VARIED, np.zeros(0), "no_data", (False, False, False, False)),
        (VARIED[:1], VARIED, "too_few", (False, False, False, False)),
        (np.full(9, 5.0), np.full(7, 4.0), "zero_variance", (True, False, True, False)),
        (np.zeros(9), np.zeros(7), "zero_variance", (True, False, False, False)),
        (VARIED, np.zeros(7), "zero_control", (True, True, False, False)),
        (VARIED, -VARIED, "zero_control", (True, True, False, False)),
        (-VARIED, VARIED, "not_estimable", (True, True, True, False)),
        (np.zeros(9), VARIED, "not_estimable", (True, True, True, False)),
        (np.array([1.0, np.nan]), VARIED, "not_estimable", (False, False, False, False)),
        (VARIED, np.full(7, 4.0), "ok", (True, True, True, True)),
    ],
)
def test_degenerate_arms(
    arm: Array, control: Array, status: str, given: tuple[bool, bool, bool, bool]
) -> None:
    effect = welch(of(arm), of(control), "y")
    assert effect.status == status
    assert facts(effect) == given


def test_rounding_is_no_variance() -> None:
    total = sum([0.1] * 10**5)  # plain summation, as some databases do
    mean = total / 10**5
    moments = np.array([[10**5 * (0.1 - mean) ** 2]])
    assert moments[0, 0] > 0.0
    noisy = Aggregates(Y, 10**5, np.array([mean]), moments)
    assert welch(noisy, of(np.full(50, 0.1)), "y").status == "zero_variance"


def test_min_units_is_a_rule() -> None:
    arms = of(VARIED), of(VARIED + 1.0)
    assert welch(*arms, "y", Rules(min_units=5)).status == "too_few"
    assert welch(*arms, "y", Rules(min_units=5)).mean == 2.5
    assert welch(*arms, "y", Rules(min_units=4)).status == "ok"


def test_a_mean_outside_0_and_1_is_no_proportion() -> None:
    assert proportion(of(VARIED), of(VARIED), "y").status == "not_estimable"


def covers(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def test_coverage_is_nominal() -> None:
    sims, n = 2000, 400
    rng = np.random.default_rng(11)
    truth = 0.1
    a, c = rng.gamma(2.0, 1.0 + truth, (sims, n)), rng.gamma(2.0, 1.0, (sims, n + 100))
    effects = [welch(of(x), of(y), "y") for x, y in zip(a, c, strict=True)]
    difference = np.mean([covers(e.difference_low, e.difference_high, 2 * truth) for e in effects])
    lift = np.mean([covers(e.lift_low, e.lift_high, truth) for e in effects])
    assert abs(difference - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert abs(lift - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
