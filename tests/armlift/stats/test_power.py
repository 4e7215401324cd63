from math import ceil, isfinite, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower, TTestIndPower

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.cuped import cuped
from armlift.stats.estimates import Estimate
from armlift.stats.means import mean, welch
from armlift.stats.paired import paired_means
from armlift.stats.power import MOST_UNITS, baseline_of, minimum_detectable, power_of, units_needed
from armlift.stats.ratios import delta_ratio, ratio


def test_it_equals_statsmodels() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        n, ratio = int(rng.integers(50, 5000)), float(rng.uniform(0.2, 5))
        alpha, power = float(rng.uniform(0.001, 0.1)), float(rng.uniform(0.7, 0.95))
        ours = minimum_detectable(sqrt(1 / n + 1 / (n * ratio)), 4.0, alpha=alpha, power=power)
        assert ours.absolute is not None
        assert ours.relative == pytest.approx(ours.absolute / 4.0)
        # The effect goes in and the power comes out, as their search for the effect stops at 1e-8; one-sided
        # at alpha / 2, as we leave out the wrong direction.
        theirs = NormalIndPower().power(ours.absolute, n, alpha / 2, ratio, alternative="larger")
        assert theirs == pytest.approx(power, rel=1e-9)
        both = NormalIndPower().power(ours.absolute, n, alpha, ratio, alternative="two-sided")
        assert both == pytest.approx(power, rel=1e-3)


def test_an_effect_of_that_size_is_found_as_often_as_asked() -> None:
    rng = np.random.default_rng(2)
    sims, n = 2000, 300
    size = minimum_detectable(sqrt(2 / n), 10.0, power=0.8).absolute
    assert size is not None
    a, c = rng.normal(10.0 + size, 1.0, (sims, n, 1)), rng.normal(10.0, 1.0, (sims, n, 1))
    found = [
        welch(Aggregates.of(("y",), x), Aggregates.of(("y",), y), "y").p_value
        for x, y in zip(a, c, strict=True)
    ]
    share = np.mean([p is not None and p < 0.05 for p in found])
    assert abs(share - 0.8) < 4 * sqrt(0.8 * 0.2 / sims)


@pytest.mark.parametrize(
    ("error", "control", "status", "absolute"),
    [
        (None, 1.0, "no_data", False),
        (0.0, 1.0, "zero_variance", False),
        (0.1, 0.0, "zero_control", True),
        (0.1, -1.0, "zero_control", True),
        (0.1, None, "zero_control", True),
        (-0.1, 1.0, "not_estimable", False),
        (float("nan"), 1.0, "not_estimable", False),
        (0.1, float("nan"), "not_estimable", True),
        (0.1, 1e-320, "not_estimable", True),
        (0.1, 1.0, "ok", True),
    ],
)
def test_status(error: float | None, control: float | None, status: str, absolute: bool) -> None:
    result = minimum_detectable(error, control)
    assert result.status == status
    assert (result.absolute is not None) == absolute
    assert (result.relative is not None) == (status == "ok")


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 0.8), (1.0, 0.8), (0.05, 0.0), (0.05, 1.0), (0.5, 0.4)])
def test_parameters_that_are_no_chances_are_refused(alpha: float, power: float) -> None:
    with pytest.raises(InputError, match="must be above"):
        minimum_detectable(0.1, 1.0, alpha=alpha, power=power)


@given(st.floats() | st.none(), st.floats() | st.none())
def test_it_never_answers_a_nan(error: float | None, control: float | None) -> None:
    result = minimum_detectable(error, control)
    assert all(value is None or isfinite(value) for value in (result.absolute, result.relative))


NAN = float("nan")


def baseline(value: float | None = 4.0, unit_variance: float = 9.0, n: int = 500) -> Estimate:
    return Estimate(n, value, unit_variance / n if n else NAN)


def test_power_equals_statsmodels() -> None:
    rng = np.random.default_rng(3)
    theirs = TTestIndPower()
    for _ in range(300):
        n, m, alpha = int(rng.integers(5, 3000)), int(rng.integers(5, 3000)), float(rng.uniform(0.001, 0.1))
        size = float(rng.uniform(0.0, 5.0)) * sqrt(1 / max(n, m))  # beyond five errors theirs is often NaN
        lift = float(rng.choice([-1, 1])) * size * 3.0 / 4.0
        ours = power_of(lift, baseline(), n, n, alpha=alpha)
        assert ours.status == "ok"
        assert ours.power == pytest.approx(theirs.power(size, n, alpha), abs=1e-6)
        # Unequal arms: theirs with Welch's degrees of freedom, which are ours.
        df = (1 / m + 1 / n) ** 2 / (1 / m**2 / (m - 1) + 1 / n**2 / (n - 1))
        unequal = power_of(lift, baseline(), m, n, alpha=alpha).power
        assert unequal == pytest.approx(theirs.power(size, m, alpha, n / m, df=df), abs=1e-6)


def test_units_needed_equal_statsmodels() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        size, alpha = float(rng.uniform(0.05, 0.8)), float(rng.uniform(0.001, 0.1))
        power = float(rng.uniform(0.7, 0.95))
        ours = units_needed(size * 3.0 / 4.0, baseline(), alpha=alpha, power=power)
        theirs = TTestIndPower().solve_power(size, alpha=alpha, power=power)
        assert (ours.units, ours.control_units) == (ceil(theirs), ceil(theirs))


def test_units_needed_are_the_fewest() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        share, lift = float(rng.uniform(0.05, 0.95)), float(rng.uniform(0.02, 0.5))
        known = {"arm_variance": float(rng.uniform(1, 30)), "comparisons": int(rng.integers(1, 9))}
        plan = units_needed(lift, baseline(), arm_share=share, **known)  # type: ignore[arg-type]
        assert plan.units is not None
        assert plan.control_units is not None
        again = power_of(lift, baseline(), plan.units, plan.control_units, **known)  # type: ignore[arg-type]
        assert again == plan
        assert again.power is not None
        assert again.power >= 0.8
        assert plan.units / (plan.units + plan.control_units) == pytest.approx(share, abs=1 / plan.units)
        fewer = power_of(lift, baseline(), plan.units - 2, plan.control_units - 2, **known)  # type: ignore[arg-type]
        assert min(plan.units, plan.control_units) < 4 or (fewer.power is not None and fewer.power < 0.8)


def test_ten_percent_against_ninety_and_three_comparisons_take_more() -> None:
    even, skewed = units_needed(0.1, baseline()), units_needed(0.1, baseline(), arm_share=0.1)
    assert (even.units, even.control_units) == (884, 884)
    assert skewed.units is not None
    assert skewed.control_units is not None
    assert (skewed.units + skewed.control_units) / 1768 == pytest.approx(0.25 / 0.09, rel=0.01)
    three = units_needed(0.1, baseline(), comparisons=3)
    assert three == units_needed(0.1, baseline(), alpha=0.05 / 3)
    assert three.units is not None
    assert three.units > 884


def test_a_baseline_is_any_estimate() -> None:
    rng = np.random.default_rng(6)
    shown = rng.poisson(5.0, (2, 3000)) + 1.0
    liked = rng.binomial(shown.astype(int), rng.beta(2, 8, (2, 3000))).astype(float)
    arm, control = (Aggregates.of(("m", "d"), np.stack([m, d], 1)) for m, d in zip(liked, shown, strict=True))
    for effect, estimate in (
        (welch(arm, control, "m"), mean(control, "m")),
        (delta_ratio(arm, control, "m", "d"), ratio(control, "m", "d")),
    ):
        ours = baseline_of(effect)
        assert (ours.n, ours.value) == (3000, estimate.value)
        assert ours.variance == pytest.approx(estimate.variance, rel=0.1)
        assert power_of(0.05, ours, 3000, 3000).power == pytest.approx(
            power_of(0.05, estimate, 3000, 3000).power, abs=0.05
        )
    constant = Aggregates.of(("y",), np.full((9, 1), 4.0))
    assert power_of(0.1, baseline_of(welch(constant, constant, "y")), 9, 9).status == "zero_variance"
    assert baseline_of(welch(arm, Aggregates.empty(("m", "d")), "m")).value is None
    with pytest.raises(InputError, match="paired"):
        baseline_of(paired_means(arm, "m", "d"))


def test_a_past_that_explains_half_needs_half_the_units() -> None:
    rng = np.random.default_rng(8)
    x = rng.gamma(2.0, 1.0, (2, 20_000))
    y = x + rng.gamma(2.0, 1.0, x.shape)
    arm, control = (
        Aggregates.of(("y", "x"), np.stack([one, past], 1)) for one, past in zip(y, x, strict=True)
    )
    plain = units_needed(0.02, baseline_of(welch(arm, control, "y"))).units
    adjusted = units_needed(0.02, baseline_of(cuped(arm, control, "y", ["x"]))).units
    assert plain is not None
    assert adjusted is not None
    assert adjusted / plain == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("units", "control_units"), [(8, 8), (60, 60), (20, 180), (180, 20)])
def test_power_is_how_often_the_effect_is_found(units: int, control_units: int) -> None:
    rng = np.random.default_rng(7)
    sims, lift, sd = 4000, 0.3, 2.0
    share = units / (units + control_units)
    value = 1.0 / lift * 3.0 * sqrt(1.0 / units + sd * sd / control_units)
    plan = power_of(lift, Estimate(2, value, sd * sd / 2), units, control_units, arm_variance=1.0)
    a = rng.normal(value * (1 + lift), 1.0, (sims, units, 1))
    c = rng.normal(value, sd, (sims, control_units, 1))
    found = [
        welch(Aggregates.of(("y",), x), Aggregates.of(("y",), y), "y").p_value
        for x, y in zip(a, c, strict=True)
    ]
    rate = np.mean([p is not None and p < 0.05 for p in found])
    assert plan.power is not None
    assert 0.05 < share < 0.95
    assert abs(rate - plan.power) < 4 * sqrt(plan.power * (1 - plan.power) / sims)


@pytest.mark.parametrize(
    ("lift", "given", "units", "status"),
    [
        (0.1, Estimate(0, None, NAN), 100, "no_data"),
        (0.1, Estimate(1, 4.0, NAN), 100, "too_few"),
        (0.1, baseline(), 1, "too_few"),
        (0.1, baseline(NAN), 100, "not_estimable"),
        (NAN, baseline(), 100, "not_estimable"),
        (0.1, baseline(4.0, -1.0), 100, "not_estimable"),
        (1e308, baseline(1e308), 100, "not_estimable"),
        (0.1, baseline(0.0), 100, "zero_control"),
        (0.1, baseline(4.0, 0.0), 100, "zero_variance"),
        (0.0, baseline(), 100, "ok"),
    ],
)
def test_degenerate_plans(lift: float, given: Estimate, units: int, status: str) -> None:
    plan = power_of(lift, given, units, 100)
    assert plan.status == status
    assert (plan.power is not None) == (status == "ok")
    if units > 1 and lift != 0.0:
        assert units_needed(lift, given).status == status


def test_no_effect_is_found_as_often_as_alpha_and_never_reached() -> None:
    assert power_of(0.0, baseline(), 50, 20, alpha=0.03).power == pytest.approx(0.03)
    assert units_needed(0.0, baseline()).status == "not_estimable"
    assert units_needed(1e-9, baseline()).status == "not_estimable"
    assert units_needed(5e-6, baseline()).units is not None
    assert power_of(50.0, baseline(), MOST_UNITS, MOST_UNITS).power == 1.0


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"comparisons": 0}, {"power": 0.01}, {"arm_share": 1.0}, {"arm_share": 0.0}]
)
def test_bad_plans_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be"):
        units_needed(0.1, baseline(), **wrong)  # type: ignore[arg-type]


@given(st.floats(), st.floats() | st.none(), st.floats(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_plans_never_answer_a_nan(
    lift: float, value: float | None, variance: float, units: int, control_units: int
) -> None:
    for plan in (
        power_of(lift, Estimate(units, value, variance), units, control_units),
        units_needed(lift, Estimate(units, value, variance)),
    ):
        assert (plan.status == "ok") == (plan.power is not None)
        assert plan.power is None or 0.0 <= plan.power <= 1.0
