from dataclasses import astuple
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tea_tasting.aggr import Aggregates as TeaAggregates
from tea_tasting.metrics import Mean, RatioOfMeans

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.cuped import UNITS_A_COVARIATE, adjusted_means, adjusted_ratios, cuped, cuped_ratio
from armlift.stats.means import proportion, welch
from armlift.stats.ratios import delta_ratio
from armlift.stats.results import Effect, Rules

NAMES = ("m", "d", "pre_m", "pre_d")


def of(values: Array, names: tuple[str, ...] = NAMES) -> Aggregates:
    return Aggregates.of(names, values)


def tea(values: Array, names: tuple[str, ...] = NAMES) -> TeaAggregates:
    s = np.cov(values.T)
    pairs = {
        tuple(sorted((a, b))): s[i, j] for i, a in enumerate(names) for j, b in enumerate(names) if i < j
    }
    return TeaAggregates(
        len(values),
        dict(zip(names, values.mean(axis=0), strict=True)),
        dict(zip(names, np.diag(s), strict=True)),
        pairs,
    )


def units(rng: np.random.Generator, n: int, lift: float = 0.0) -> Array:
    """Draw clicks and impressions of n units after and before exposure, each with its own rate: [n, 4]."""
    busy, rate = rng.gamma(2.0, 1.0, n), rng.beta(2.0, 4.0, n)
    shown, before = 1 + rng.poisson(8 * busy), 1 + rng.poisson(5 * busy)
    clicks = rng.binomial(shown, np.minimum(1.0, rate * (1 + lift)))
    return np.column_stack([clicks, shown, rng.binomial(before, rate), before]).astype(float)


def numbers(effect: Effect) -> list[float | None]:
    return [
        *(effect.mean, effect.control_mean, effect.p_value),
        *(effect.difference, effect.difference_low, effect.difference_high),
        *(effect.lift, effect.lift_low, effect.lift_high),
    ]


def tea_numbers(theirs: Any) -> list[float]:
    return [
        *(theirs.treatment, theirs.control, theirs.pvalue),
        *(theirs.effect_size, theirs.effect_size_ci_lower, theirs.effect_size_ci_upper),
        *(theirs.rel_effect_size, theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper),
    ]


@pytest.mark.parametrize("block", range(4))
def test_one_covariate_equals_tea_tasting(block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(15, 500, 2)
        scale = 10.0 ** rng.integers(-3, 6)
        a, c = units(rng, n, 0.1) * scale, units(rng, m) * scale
        alpha = float(rng.uniform(0.001, 0.3))
        mean = Mean("m", "pre_m", confidence_level=1 - alpha, equal_var=False, use_t=True)
        ours = cuped(of(a), of(c), "m", ["pre_m"], Rules(alpha=alpha))
        assert (ours.status, ours.method, ours.n, ours.control_n) == ("ok", "cuped", n, m)
        assert numbers(ours) == pytest.approx(tea_numbers(mean.analyze_aggregates(tea(c), tea(a))), rel=1e-9)
        ratio = RatioOfMeans(
            "m", "d", "pre_m", "pre_d", confidence_level=1 - alpha, equal_var=False, use_t=True
        )
        ours = cuped_ratio(of(a), of(c), "m", "d", [("pre_m", "pre_d")], Rules(alpha=alpha))
        assert (ours.status, ours.method, ours.n, ours.control_n) == ("ok", "cuped_ratio", n, m)
        assert numbers(ours) == pytest.approx(tea_numbers(ratio.analyze_aggregates(tea(c), tea(a))), rel=1e-9)


def by_least_squares(a: Array, c: Array, y: int, x: list[int]) -> tuple[list[float], list[float], float]:
    """Give both arms' estimates and variances, and 1 - R^2, by regression over the units of both arms."""
    both = np.vstack([a, c])
    design = np.column_stack([np.ones(len(both)), both[:, x]])
    coefficients = np.linalg.lstsq(design, both[:, y])[0]
    residuals = both[:, y] - design @ coefficients
    adjusted = [part[:, y] - (part[:, x] - both[:, x].mean(axis=0)) @ coefficients[1:] for part in (a, c)]
    left = residuals.var() / both[:, y].var()
    return [one.mean() for one in adjusted], [one.var(ddof=1) / len(one) for one in adjusted], left


def with_past(rng: np.random.Generator, n: int, share: float = 0.6) -> Array:
    """Draw (metric, covariate, past) of n units; those without a past have covariate 0: [n, 3]."""
    past = rng.random(n) < share
    level = rng.gamma(4.0, 2.0, n)
    x = np.where(past, level + rng.normal(0, 1, n), 0.0)
    return np.column_stack([level + 3.0 * past + rng.normal(0, 2, n), x, past])


def test_two_covariates_equal_least_squares() -> None:
    names = ("y", "x", "past")
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, c = with_past(rng, int(rng.integers(40, 300))), with_past(rng, int(rng.integers(40, 300)))
        scales = 10.0 ** rng.integers(-4, 6, 2)
        for part in (a, c):
            part[:, :2] *= scales
        found = adjusted_means(of(a, names), of(c, names), "y", ["x", "past"])
        means, variances, left = by_least_squares(a, c, 0, [1, 2])
        assert found.used == ("x", "past")
        assert [found.arm.value, found.control.value] == pytest.approx(means, rel=1e-9)
        assert [found.arm.variance, found.control.variance] == pytest.approx(variances, rel=1e-9)
        assert found.remaining_variance == pytest.approx(left, rel=1e-9)


def test_remaining_variance_is_one_minus_the_squared_correlation() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, c = units(rng, int(rng.integers(20, 300))), units(rng, int(rng.integers(20, 300)))
        both = np.vstack([a, c])
        rho = np.corrcoef(both[:, 0], both[:, 2])[0, 1]
        assert adjusted_means(of(a), of(c), "m", ["pre_m"]).remaining_variance == pytest.approx(1 - rho**2)
        means = both.mean(axis=0)
        y, x = (both[:, i] - means[i] / means[i + 1] * both[:, i + 1] for i in (0, 2))
        found = adjusted_ratios(of(a), of(c), "m", "d", [("pre_m", "pre_d")])
        assert found.remaining_variance == pytest.approx(1 - np.corrcoef(x, y)[0, 1] ** 2, rel=1e-9)


def test_a_ratio_of_equal_denominators_is_a_mean() -> None:
    rng = np.random.default_rng(1)
    a, c = (units(rng, n) for n in (90, 120))
    for part in (a, c):
        part[:, 1] = part[:, 3] = 1.0
    ratio = cuped_ratio(of(a), of(c), "m", "d", [("pre_m", "pre_d")])
    assert numbers(ratio) == pytest.approx(numbers(cuped(of(a), of(c), "m", ["pre_m"])), rel=1e-12)


def test_ratio_and_column_covariates_go_together() -> None:
    rng = np.random.default_rng(2)
    a, c = units(rng, 400), units(rng, 500)
    one = adjusted_ratios(of(a), of(c), "m", "d", [("pre_m", "pre_d")])
    two = adjusted_ratios(of(a), of(c), "m", "d", [("pre_m", "pre_d"), "pre_d"])
    assert two.used == (("pre_m", "pre_d"), "pre_d")
    assert two.remaining_variance < one.remaining_variance < 1.0


def test_the_order_of_covariates_changes_nothing() -> None:
    names = ("y", "x", "past")
    rng = np.random.default_rng(3)
    a, c = of(with_past(rng, 150), names), of(with_past(rng, 90), names)
    there, back = (cuped(a, c, "y", order) for order in (["x", "past"], ["past", "x"]))
    assert numbers(there) == pytest.approx(numbers(back), rel=1e-9)


def columns(rng: np.random.Generator, n: int) -> Array:
    """Draw (y, x, constant, twice x and a bit, zeros, not finite): [n, 6]."""
    x = rng.normal(5, 2, n)
    y = x + rng.normal(0, 1, n)
    return np.column_stack([y, x, np.full(n, 0.1), 2 * x + 7, np.zeros(n), np.full(n, np.inf)])


ODD = ("y", "x", "constant", "again", "zeros", "infinite")


@pytest.mark.parametrize(
    ("covariates", "used"),
    [
        ([], ()),
        (["constant"], ()),
        (["zeros", ("x", "zeros")], ()),
        (["infinite", ("x", "infinite")], ()),
        (["x", "again"], ("x",)),
        (["again", "x", "x"], ("again",)),
        (["infinite", "constant", "x"], ("x",)),
        ([("zeros", "x"), "x"], ("x",)),
    ],
)
def test_covariates_that_tell_nothing_are_left_out(covariates: list[Any], used: tuple[Any, ...]) -> None:
    rng = np.random.default_rng(4)
    with np.errstate(invalid="ignore"):
        a, c = of(columns(rng, 60), ODD), of(columns(rng, 80), ODD)
        found, effect = adjusted_means(a, c, "y", covariates), cuped(a, c, "y", covariates)
    assert found.used == used
    assert effect.status == "ok"
    if used:
        assert effect.method == "cuped"
        assert numbers(effect) == pytest.approx(numbers(cuped(a, c, "y", ["x"])), rel=1e-9)
    else:
        assert found.remaining_variance == 1.0
        assert effect == welch(a, c, "y")


def test_without_usable_covariates_ratios_stay_what_they_were() -> None:
    rng = np.random.default_rng(5)
    a, c = units(rng, 100), units(rng, 100)
    c[:, 3] = 0.0  # no unit of the control has a past
    plain = delta_ratio(of(a), of(c), "m", "d")
    assert plain.method == "ratio"
    assert cuped_ratio(of(a), of(c), "m", "d", [("pre_m", "pre_d")]) == plain


def test_few_units_carry_few_covariates() -> None:
    names = ("y", "x", "past")
    rng = np.random.default_rng(6)
    a, c = with_past(rng, UNITS_A_COVARIATE), with_past(rng, UNITS_A_COVARIATE)
    found = adjusted_means(of(a, names), of(c, names), "y", ["x", "past"])
    assert found.used == ("x", "past")
    found = adjusted_means(of(a, names), of(c[1:], names), "y", ["x", "past"])
    assert found.used == ("x",)
    assert adjusted_means(of(a[:9], names), of(c[:9], names), "y", ["x", "past"]).used == ()


def test_a_proportion_is_adjusted_on_its_zeros_and_ones() -> None:
    rng = np.random.default_rng(7)
    parts = []
    for n in (300, 400):
        x = rng.normal(0, 1, n)
        parts.append(np.column_stack([x + rng.normal(0, 0.5, n) > 0, x]))
    a, c = (of(part.astype(float), ("y", "x")) for part in parts)
    plain, adjusted = proportion(a, c, "y"), cuped(a, c, "y", ["x"])
    means, variances, left = by_least_squares(parts[0].astype(float), parts[1].astype(float), 0, [1])
    assert adjusted.difference == pytest.approx(means[0] - means[1], rel=1e-9)
    assert adjusted.standard_error == pytest.approx(np.sqrt(sum(variances)), rel=1e-9)
    assert left < 0.6
    assert (adjusted.standard_error or 1) < 0.8 * (plain.standard_error or 0)


def row(*values: float) -> Array:
    return np.array([values], dtype=float)


@pytest.mark.parametrize(
    ("arm", "status"),
    [
        (np.zeros((0, 4)), "no_data"),
        (row(1, 2, 1, 2), "too_few"),
        (np.tile(row(1, 2, 1, 2), (40, 1)), "ok"),
        (np.tile(row(np.nan, 2, 1, 2), (40, 1)), "not_estimable"),
        (np.tile(row(-50, 2, 1, 2), (40, 1)), "not_estimable"),
    ],
)
def test_degenerate_arms(arm: Array, status: str) -> None:
    control = of(units(np.random.default_rng(8), 60))
    assert cuped(of(arm), control, "m", ["pre_m"]).status == status
    assert cuped_ratio(of(arm), control, "m", "d", [("pre_m", "pre_d")]).status == status


def test_a_metric_that_does_not_vary_within_arms_gets_no_variance_from_covariates() -> None:
    rng = np.random.default_rng(9)
    a, c = (np.column_stack([np.full(60, level), rng.normal(0, 1, 60)]) for level in (5.0, 4.0))
    effect = cuped(of(a, ("y", "x")), of(c, ("y", "x")), "y", ["x"])
    assert (effect.status, effect.method, effect.p_value) == ("zero_variance", "welch", None)


def test_a_covariate_that_explains_all_leaves_no_variance() -> None:
    rng = np.random.default_rng(10)
    a, c = (np.column_stack([2 * x + 3, x]) for x in (rng.normal(9, 1, 60), rng.normal(9, 1, 70)))
    effect = cuped(of(a, ("y", "x")), of(c, ("y", "x")), "y", ["x"])
    assert (effect.status, effect.method) == ("zero_variance", "cuped")
    assert effect.difference == pytest.approx(0.0, abs=1e-12)


def test_a_column_that_is_not_there_is_refused() -> None:
    a = of(units(np.random.default_rng(11), 50))
    with pytest.raises(InputError, match="column 'past' is not aggregated"):
        cuped(a, a, "m", ["past"])
    with pytest.raises(InputError, match="column 'past' is not aggregated"):
        cuped_ratio(a, a, "m", "d", [("past", "pre_d")])


values = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-320, 1e-160, 1e160, 1.7e308, float("inf"), float("nan")]),
    st.floats(-10, 10),
)


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregates:
    """Draw aggregates of units, or numbers that no units could have."""
    n = draw(st.sampled_from([0, 1, 2, 3, 30]))
    rows = st.lists(values, min_size=4, max_size=4)
    with np.errstate(all="ignore"):
        if draw(st.booleans()):
            distinct = np.array(draw(st.lists(rows, min_size=1, max_size=5)))
            return of(np.resize(distinct, (n, 4)))
        moments = np.array(draw(st.lists(rows, min_size=4, max_size=4)))
        return Aggregates(NAMES, n, np.array(draw(rows)), (moments + moments.T) * n)


@settings(deadline=None, max_examples=500)
@given(a=aggregates(), c=aggregates())
def test_it_never_raises_or_answers_a_nan(a: Aggregates, c: Aggregates) -> None:
    with np.errstate(all="ignore"):  # merging infinite moments
        effects = [
            cuped(a, c, "m", ["pre_m", "pre_d"]),
            cuped(a, c, "m", [("pre_m", "pre_d"), "d"]),
            cuped_ratio(a, c, "m", "d", [("pre_m", "pre_d"), "pre_m"]),
        ]
        shares = [adjusted_means(a, c, "m", ["pre_m"]), adjusted_ratios(a, c, "m", "d", ["pre_m", "pre_d"])]
    for effect in effects:
        assert all(isfinite(one) for one in astuple(effect) if isinstance(one, float | int)), effect
        assert (effect.lift_low is None) == (effect.status != "ok")
    assert all(0.0 <= one.remaining_variance <= 1.0 for one in shares)


def covers(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def test_coverage_is_nominal_and_intervals_are_shorter() -> None:
    sims = 1000
    rng = np.random.default_rng(12)
    names = ("y", "x", "past")
    hits, widths = [], []
    for _ in range(sims):
        a, c = with_past(rng, 300), with_past(rng, 200)
        a[:, 0] += 0.5
        plain, adjusted = (
            welch(of(a, names), of(c, names), "y"),
            cuped(of(a, names), of(c, names), "y", names[1:]),
        )
        hits.append(covers(adjusted.difference_low, adjusted.difference_high, 0.5))
        widths.append((adjusted.standard_error or 0) / (plain.standard_error or 1))
    assert abs(np.mean(hits) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert np.mean(widths) < 0.85


def test_coverage_of_ratios_is_nominal() -> None:
    sims, lift = 800, 0.1
    rng = np.random.default_rng(13)
    hits, widths = [], []
    for _ in range(sims):
        a, c = of(units(rng, 300, lift)), of(units(rng, 400))
        plain, adjusted = delta_ratio(a, c, "m", "d"), cuped_ratio(a, c, "m", "d", [("pre_m", "pre_d")])
        hits.append(covers(adjusted.difference_low, adjusted.difference_high, lift / 3))
        widths.append((adjusted.standard_error or 0) / (plain.standard_error or 1))
    assert abs(np.mean(hits) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert np.mean(widths) < 0.8
