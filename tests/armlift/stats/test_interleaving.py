from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.interleaving import (
    CREDITS,
    Preference,
    equal_units,
    preference,
    preference_power,
    preference_units,
)
from armlift.stats.results import Rules


def of(values: Array, alpha: float = 0.05) -> Preference:
    return preference(Aggregates.of(CREDITS, values), rules=Rules(alpha=alpha))


def draw(rng: np.random.Generator, shape: tuple[int, ...], share: float = 0.5, alike: float = 20.0) -> Array:
    """Draw credits of units that are active and differ in taste: shape + (2,)."""
    active = rng.geometric(0.3, shape)
    own = rng.binomial(active, rng.beta(share * alike, (1 - share) * alike, shape))
    return np.stack([own, active - own], axis=-1).astype(float)


def test_the_test_equals_scipy_and_its_interval_is_where_it_does_not_reject() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        alpha = float(rng.uniform(0.001, 0.3))
        values = draw(rng, (int(rng.integers(30, 300)),), rng.uniform(0.2, 0.8)) * 10.0 ** rng.integers(-2, 5)
        ours = of(values, alpha)
        own, other = values.T
        assert (ours.status, ours.n) == ("ok", len(values))
        assert ours.value == pytest.approx((own - other).sum() / (own + other).sum(), rel=1e-12, abs=1e-12)
        assert ours.p_value == pytest.approx(stats.ttest_rel(own, other).pvalue, rel=1e-9)
        for bound in (ours.low, ours.high):
            assert bound is not None
            there = own - other - bound * (own + other)
            assert stats.ttest_1samp(there, 0.0).pvalue == pytest.approx(alpha, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.integers(5, 60))
def test_laws(seed: int, share: float, n: int) -> None:
    values = draw(np.random.default_rng(seed), (n,), share)
    ours, turned, scaled = of(values), of(values[:, ::-1]), of(values * 7.0)
    if ours.value is None or ours.low is None or ours.high is None or ours.p_value is None:
        assert ours.status in ("zero_variance", "too_few")
        return
    assert -1.0 <= ours.low <= ours.value <= ours.high <= 1.0
    assert (ours.p_value < 0.05) == (not ours.low <= 0.0 <= ours.high)
    assert turned.value == pytest.approx(-ours.value, abs=1e-12)
    assert turned.p_value == pytest.approx(ours.p_value, rel=1e-9)
    assert [turned.low, turned.high] == pytest.approx([-ours.high, -ours.low], abs=1e-9)
    assert scaled.high == pytest.approx(ours.high, rel=1e-9)


def test_it_agrees_with_all_flips_of_signs() -> None:
    """Without a preference each unit's own and other credits may change places: 4,096 ways for 12 units."""
    flips = np.array(list(product((-1.0, 1.0), repeat=12)))
    exact, ours = np.empty(60), np.empty(60)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # Seconds rather than clicks, so that no two sums tie.
        values = rng.gamma(3.0, 20.0, (12, 2))
        gain = values[:, 0] - values[:, 1]
        p_value = of(values).p_value
        assert p_value is not None
        exact[seed] = np.mean(np.abs(flips @ gain) >= abs(gain.sum()) - 1e-9)
        ours[seed] = p_value
    assert np.abs(exact - ours).max() < 0.06
    assert abs(np.mean(exact - ours)) < 0.01


def test_equal_units_are_a_t_test_on_each_units_preference() -> None:
    values = draw(np.random.default_rng(5), (80,), 0.6)
    values[::9] = 0.0
    ours = of(equal_units(values))
    some = values[values.sum(axis=1) > 0]
    theirs = stats.ttest_1samp((some[:, 0] - some[:, 1]) / some.sum(axis=1), 0.0)
    interval = theirs.confidence_interval(0.95)
    assert ours.n == len(some)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert [ours.low, ours.high] == pytest.approx([interval.low, interval.high])
    with pytest.raises(InputError, match=r"credits have shape \(3, 1\), must be \(n, 2\)"):
        equal_units(np.ones((3, 1)))


@pytest.mark.parametrize(
    ("values", "status", "value"),
    [
        (np.zeros((0, 2)), "no_data", None),
        (np.zeros((9, 2)), "no_data", None),
        (np.array([[2.0, 1.0]]), "too_few", None),
        (np.array([[2.0, 2.0], [5.0, 5.0], [1.0, 1.0]]), "zero_variance", 0.0),
        (np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), "zero_variance", 1.0),
        (np.array([[np.nan, 1.0], [1.0, 0.0], [1.0, 0.0]]), "not_estimable", None),
        (np.array([[-3.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), "not_estimable", None),
        # One of five units has nearly all credits: their mean is not clear of 0.
        (np.array([[100.0, 90.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), "too_few", 10 / 192),
    ],
)
def test_degenerate_credits(values: Array, status: str, value: float | None) -> None:
    found = of(values)
    assert found.status == status
    assert found.value == (None if value is None else pytest.approx(value))
    assert (found.low, found.high, found.p_value, found.standard_error) == (None, None, None, None)
    planned = preference_units(0.1, found)
    assert (planned.status, planned.units, planned.power) == (status, None, None)


def test_units_without_credits_change_next_to_nothing() -> None:
    values = draw(np.random.default_rng(8), (400,), 0.55)
    alone, beside = of(values), of(np.concatenate([values, np.zeros((400, 2))]))
    assert beside.value == pytest.approx(alone.value)
    assert beside.standard_error == pytest.approx(alone.standard_error, rel=0.02)


@pytest.mark.parametrize("active", ["geometric", "lognormal"])
def test_errors_are_as_rare_as_they_should_be(active: str) -> None:
    """Units differ in taste; with a few very active ones the test errs on the safe side."""
    rng, runs, n = np.random.default_rng(11), 2500, 200
    rejected = covered = by_unit = 0
    for _ in range(runs):
        values = draw(rng, (n,), 0.5, alike=6.0)
        if active == "lognormal":
            values = values * np.ceil(rng.lognormal(0.0, 1.5, (n, 1)))
        found, equal = of(values), of(equal_units(values))
        rejected += found.p_value is not None and found.p_value < 0.05
        by_unit += equal.p_value is not None and equal.p_value < 0.05
        shifted = draw(rng, (n,), 0.65, alike=6.0)
        there = of(shifted)
        covered += there.low is not None and there.high is not None and there.low <= 0.3 <= there.high
    error = np.sqrt(0.05 * 0.95 / runs)
    assert rejected / runs < 0.05 + 3.5 * error
    assert rejected / runs > (0.05 - 3.5 * error if active == "geometric" else 0.015)
    assert abs(by_unit / runs - 0.05) < 3.5 * error
    assert abs(covered / runs - 0.95) < 3.5 * error


def test_planned_units_reach_the_power() -> None:
    rng = np.random.default_rng(12)
    pilot = of(draw(rng, (4000,), 0.55))
    planned = preference_units(0.1, pilot)
    assert pilot.standard_error is not None
    by_normal = ((1.959964 + 0.841621) * pilot.standard_error / 0.1) ** 2 * 4000
    assert planned.status == "ok"
    assert planned.units == pytest.approx(by_normal, abs=3)
    assert planned.units is not None
    assert planned.power is not None
    assert planned.power >= 0.8
    before = preference_power(0.1, pilot, planned.units - 1).power
    assert before is not None
    assert before < 0.8
    runs = 1500
    found = 0
    for _ in range(runs):
        p_value = of(draw(rng, (planned.units,), 0.55)).p_value
        found += p_value is not None and p_value < 0.05
    assert abs(found / runs - 0.8) < 0.05


def test_a_plan_by_another_formula() -> None:
    """Power of the one-sample t test, from the noncentral t distribution of SciPy."""
    pilot = of(draw(np.random.default_rng(13), (300,), 0.6))
    assert pilot.standard_error is not None
    for units in (5, 40, 700):
        delta = 0.08 / (pilot.standard_error * np.sqrt(300 / units))
        t = stats.t.ppf(0.975, units - 1)
        theirs = stats.nct.sf(t, units - 1, delta) + stats.nct.cdf(-t, units - 1, delta)
        assert preference_power(-0.08, pilot, units).power == pytest.approx(theirs, rel=1e-6)


def test_plans_that_cannot_be_made() -> None:
    pilot = of(draw(np.random.default_rng(14), (50,)))
    assert preference_units(0.0, pilot).status == "not_estimable"
    assert preference_units(1e-9, pilot).status == "not_estimable"
    assert preference_power(0.1, pilot, 1).status == "too_few"
    with pytest.raises(InputError, match=r"preference is 1\.5, must be from -1 to 1"):
        preference_units(1.5, pilot)
    with pytest.raises(InputError, match=r"power is 0\.01, must be above alpha, 0\.05"):
        preference_units(0.1, pilot, power=0.01)
