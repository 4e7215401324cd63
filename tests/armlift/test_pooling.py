"""Pooling against hand computations, a slow bootstrap, and the laws it must keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.evaluation import DRAWS, Interval
from armlift.pooling import difference, mean_interval, stopping_point, unit_means

NAN = math.nan


def test_a_units_seeds_are_averaged_and_what_is_unknown_is_left_out() -> None:
    seeds = [np.array([1.0, 0.0, NAN, NAN]), np.array([0.0, 0.5, 0.25, NAN])]
    assert unit_means(seeds)[:3].tolist() == [0.5, 0.25, 0.25]
    assert math.isnan(unit_means(seeds)[3])
    assert mean_interval(unit_means(seeds)) == mean_interval(np.array([0.5, 0.25, 0.25]))
    assert mean_interval(np.array([NAN, NAN])) is None


def test_units_that_earn_the_same_have_an_interval_without_width() -> None:
    assert mean_interval(np.full(7, 0.5)) == Interval(0.5, 0.5, 0.5)
    # Each unit gains .1 however much the units differ: pairing takes the spread out.
    one, other = np.array([0.1, 0.6, 1.1, 0.1]), np.array([0.0, 0.5, 1.0, 0.0])
    assert difference(one, other) == pytest.approx((0.1, 0.1, 0.1))


def test_the_interval_is_that_of_resampled_units() -> None:
    values = np.random.default_rng(5).choice([0.0, 0.3, 1.0], size=400, p=[0.6, 0.3, 0.1])
    found = mean_interval(values)
    assert found is not None
    random = np.random.default_rng(1)
    means = [values[random.integers(400, size=400)].mean() for _ in range(DRAWS)]
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.006)


def test_many_distinct_values_are_resampled_too() -> None:
    values = np.random.default_rng(3).normal(size=1500)
    found = mean_interval(values)
    assert found is not None
    width = 2 * 1.96 * values.std() / math.sqrt(1500)
    assert found.high - found.low == pytest.approx(width, rel=0.1)


def test_more_stops_helping_where_no_later_setting_is_better_beyond_chance() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.01, size=200)
    low, high = noise, 0.5 + noise + random.normal(0, 0.01, size=200)
    assert stopping_point([low, high, high + 0.0, high - 0.1]) == 1
    assert stopping_point([high, low, low]) == 0
    assert stopping_point([low, low, low]) == 0
    assert stopping_point([low, low + 0.1, low + 0.2]) == 2
    assert stopping_point([low, low + 0.1, low + 0.2], lower_is_better=True) == 0


@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=30), st.floats(-1, 1, width=16))
def test_a_shift_of_all_units_shifts_the_interval(values: list[float], shift: float) -> None:
    here, there = mean_interval(np.array(values)), mean_interval(np.array(values) + shift)
    assert here is not None
    assert there is not None
    assert here.low - 1e-12 <= here.value <= here.high + 1e-12
    assert there.value == pytest.approx(here.value + shift, abs=1e-9)
