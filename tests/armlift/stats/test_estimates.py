"""Every method on degenerate input: it answers, and no number in the answer is NaN or infinite."""

from dataclasses import astuple
from math import isfinite

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate, compare, independent, variance_of
from armlift.stats.means import proportion, score_interval, welch
from armlift.stats.paired import paired_means, paired_ratios
from armlift.stats.ratios import delta_ratio
from armlift.stats.results import Effect, Interval, LiftScale, Rules

NAMES = ("w", "x", "y", "z")
numbers = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-320, 1e-200, 1e200, 1.7e308, float("inf"), float("nan")]),
    st.floats(-10, 10),
)


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregates:
    """Draw aggregates of units, or numbers that no units could have."""
    n = draw(st.integers(0, 5))
    columns = st.lists(numbers, min_size=4, max_size=4)
    with np.errstate(all="ignore"):
        if draw(st.booleans()):
            rows = draw(st.lists(columns, min_size=n, max_size=n))
            return Aggregates.of(NAMES, np.array(rows).reshape(n, 4))
        moments = np.array(draw(st.lists(columns, min_size=4, max_size=4)))
        return Aggregates(NAMES, n, np.array(draw(columns)), moments)


def assert_numbers(result: Effect | Interval) -> None:
    values = [value for value in astuple(result) if isinstance(value, float | int)]
    assert all(map(isfinite, values)), result


@settings(deadline=None, max_examples=600)
@given(a=aggregates(), c=aggregates(), lift=st.sampled_from(["log", "linear"]))
def test_no_method_raises_or_answers_a_nan(a: Aggregates, c: Aggregates, lift: LiftScale) -> None:
    rules = Rules(lift=lift)
    assert_numbers(score_interval(a, "w", rules))
    for effect in (
        welch(a, c, "w", rules),
        proportion(a, c, "w", rules),
        delta_ratio(a, c, "w", "x", rules),
        paired_means(a, "w", "y", rules),
        paired_ratios(a, ("w", "x"), ("y", "z"), rules),
    ):
        assert_numbers(effect)
        numbers_given = [
            *(effect.mean, effect.difference_low, effect.lift_low, effect.lift_high),
            *(effect.p_value, effect.lift_error, effect.degrees_of_freedom),
        ]
        if effect.status == "ok":
            assert None not in numbers_given
            assert effect.lift is not None
            assert effect.lift_low is not None
            assert effect.lift_high is not None
            assert effect.lift_low <= effect.lift <= effect.lift_high
        else:
            assert effect.lift_low is None
            assert effect.lift_high is None
        if effect.status in ("no_data", "too_few"):
            assert effect.difference is None
        assert (effect.p_value is None) == (effect.difference_low is None) == (effect.standard_error is None)


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(st.floats(0.5, 100), min_size=4, max_size=30, unique=True),
    factor=st.floats(1e-6, 1e6),
)
def test_lift_and_p_do_not_depend_on_the_unit_of_measure(values: list[float], factor: float) -> None:
    y = np.array(values).reshape(-1, 1)
    half = len(y) // 2
    plain, scaled = (
        welch(Aggregates.of(("y",), k * y[:half]), Aggregates.of(("y",), k * y[half:]), "y")
        for k in (1.0, factor)
    )
    assert plain.status == scaled.status
    assert plain.p_value == pytest.approx(scaled.p_value, rel=1e-6)
    assert plain.lift_low == pytest.approx(scaled.lift_low, rel=1e-6, abs=1e-9)


def test_swapping_the_arms_mirrors_the_effect() -> None:
    a, c = Estimate(50, 3.0, 0.04), Estimate(80, 2.0, 0.01)
    there = compare("welch", a, c, independent(a, c), Rules())
    back = compare("welch", c, a, independent(c, a), Rules())
    assert there.difference_low == -(back.difference_high or 0)
    assert there.p_value == back.p_value
    assert 1 + (there.lift_low or 0) == pytest.approx(1 / (1 + (back.lift_high or 0)), rel=1e-12)


def test_a_lift_too_wide_for_a_number_is_not_estimable() -> None:
    a, c = Estimate(50, 1e-9, 1.0), Estimate(80, 1.0, 1.0)
    effect = compare("welch", a, c, independent(a, c), Rules())
    assert (effect.status, effect.lift_high) == ("not_estimable", None)
    assert effect.p_value is not None


def test_variance_of_a_combination_is_its_units_variance() -> None:
    values = np.random.default_rng(1).normal(5, 2, (60, 4))
    combined = values @ [1.0, -2.0, 0.0, 0.5]
    ours = variance_of(Aggregates.of(NAMES, values), [(0, 1.0), (1, -2.0), (3, 0.5)])
    assert ours == pytest.approx(combined.var(ddof=1) / 60, rel=1e-12)


@pytest.mark.parametrize("moment", [float("inf"), float("nan")])
def test_a_moment_that_is_not_finite_is_not_estimable(moment: float) -> None:
    odd = Aggregates(("y",), 9, np.ones(1), np.array([[moment]]))
    sound = Aggregates.of(("y",), np.array([[1.0], [2.0]]))
    assert welch(odd, sound, "y").status == "not_estimable"
    assert welch(sound, odd, "y").status == "not_estimable"


def test_a_denominator_that_is_not_finite_is_not_estimable() -> None:
    odd = Aggregates(("m", "d"), 9, np.array([1.0, np.inf]), np.eye(2))
    sound = Aggregates.of(("m", "d"), np.array([[1.0, 2.0], [2.0, 3.0]]))
    assert delta_ratio(odd, sound, "m", "d").status == "not_estimable"
