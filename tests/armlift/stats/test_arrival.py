from math import ceil, exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.errors import InputError
from armlift.stats.aggregates import Array
from armlift.stats.arrival import FEWEST_DAYS, days_left

WEEK = np.array([1.0, 1.0, 1.0, 1.0, 1.1, 1.6, 1.5]) / 8.2 * 7.0


def first_visits(seed: int, users: int, shape: float, rate: float, days: int, rhythm: bool = False) -> Array:
    """Simulate new users by day: Poisson visits, a mean of `rate` a day, gamma distributed between users."""
    rng = np.random.default_rng(seed)
    busy = np.roll(np.resize(WEEK, days), seed) if rhythm else np.ones(days)
    first = rng.exponential(1.0 / np.maximum(rng.gamma(shape, rate / shape, users), 1e-300))
    return np.histogram(first, np.concatenate([[0.0], busy.cumsum()]))[0].astype(np.float64)


def wrong_by(arrivals: Array, seen: int, ahead: int) -> float:
    """Give forecast over truth; a forecast of never counts as the horizon."""
    counts = [int(one) for one in arrivals]
    result = days_left(counts[:seen], sum(counts[: seen + ahead]))
    return (result.horizon if result.days is None else max(result.days, 0.5)) / ahead


@pytest.mark.parametrize("seen", [5, 10, 21])
def test_what_stays_as_it_is_is_counted_on(seen: int) -> None:
    result = days_left([100] * seen, 100 * seen + 1000)
    assert result.status == "ok"
    assert result.days is not None
    assert 9 <= result.days <= 14
    assert result.days_low is not None
    assert result.days_low <= 10 <= (result.days_high or result.horizon)


@pytest.mark.parametrize("c", [0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("seen", [7, 14, 28])
def test_curves_of_the_family_are_forecast_within_a_third(c: float, seen: int) -> None:
    t = np.arange(200.0)
    edges = (
        np.log1p(np.arange(201.0) / 5) if c == 1 else ((1 + np.arange(201.0) / 5) ** (1 - c)) / (1 - c)
    ) * 5
    arrivals = np.round(np.diff(edges) * 3000.0)
    assert len(arrivals) == len(t)
    assert 0.67 <= wrong_by(arrivals, seen, seen) <= 1.5


@pytest.mark.parametrize("b", [0.6, 0.8])
def test_heaps_law_is_forecast_within_a_factor_of_two(b: float) -> None:
    total = 1000.0 * np.arange(101.0) ** b
    for seen in (7, 14, 28):
        assert 0.5 <= wrong_by(np.round(np.diff(total)), seen, seen) <= 2.0


def test_an_exponential_approach_has_an_end() -> None:
    arrivals = [round(1000.0 * exp(-day / 4.0)) for day in range(20)]
    end = sum(round(1000.0 * exp(-day / 4.0)) for day in range(200))
    assert days_left(arrivals, int(1.2 * end)).status == "never"
    assert days_left(arrivals, sum(arrivals) + 5).status == "ok"
    assert days_left([500, 400, 0, 0, 0, 0], 1200).status == "never"


@pytest.mark.parametrize(
    ("users", "shape", "rate"),
    [(20_000, 0.3, 0.1), (20_000, 1.0, 0.1), (20_000, 1.0, 0.02), (5_000, 3.0, 0.1), (2_000, 0.5, 0.1)],
)
@pytest.mark.parametrize("rhythm", [False, True])
def test_users_who_visit_at_their_own_rates(users: int, shape: float, rate: float, rhythm: bool) -> None:
    wrong, held = [], []
    for seed in range(14):
        arrivals = first_visits(seed, users, shape, rate, 100, rhythm)
        for seen in (10, 14, 21):
            for ahead in (seen, 2 * seen):
                wrong.append(wrong_by(arrivals, seen, ahead))
                counts = [int(one) for one in arrivals]
                result = days_left(counts[:seen], sum(counts[: seen + ahead]))
                low, high = result.days_low, result.days_high
                held.append((low or 0) <= ahead <= (result.horizon if high is None else high))
    assert np.mean([0.5 <= one <= 2.0 for one in wrong]) >= (0.75 if rhythm else 0.9)
    assert 0.6 <= np.median(wrong) <= 1.35
    assert np.mean(held) >= 0.6


def test_the_first_week_of_a_rhythm_is_forecast_within_a_factor_of_two_and_a_half() -> None:
    wrong = [wrong_by(first_visits(seed, 20_000, 1.0, 0.1, 40, True), 6, 6) for seed in range(21)]
    assert np.mean([0.4 <= one <= 2.5 for one in wrong]) >= 0.9


def test_a_straight_line_would_be_too_early() -> None:
    arrivals = first_visits(1, 20_000, 1.0, 0.1, 100)
    counts = [int(one) for one in arrivals]
    need = sum(counts[:42])
    line = ceil((need - sum(counts[:14])) / (sum(counts[:14]) / 14))
    days = days_left(counts[:14], need).days
    assert days is not None
    assert line < 28 / 2.5
    assert abs(days - 28) < abs(line - 28)


@pytest.mark.parametrize(
    ("arrivals", "needed", "status", "days"),
    [
        ([], 10, "no_data", None),
        ([5] * (FEWEST_DAYS - 1), 100, "no_data", None),
        ([0, 0, 0, 0, 0], 100, "no_data", None),
        ([], 0, "reached", 0),
        ([5, 5], 10, "reached", 0),
        ([10] * 14, 4000, "beyond_horizon", None),
        ([0, 0, 0, 9, 9, 9], 40, "ok", 2),
    ],
)
def test_status(arrivals: list[int], needed: int, status: str, days: int | None) -> None:
    result = days_left(arrivals, needed)
    assert result.status == status
    assert result.units == sum(arrivals)
    if status != "ok":
        assert result.days == days
    assert (result.days is None) == (days is None)


def test_the_horizon_caps() -> None:
    assert days_left([10] * 10, 400, horizon=400).status == "ok"
    assert days_left([10] * 10, 400, horizon=5).status == "beyond_horizon"


@pytest.mark.parametrize(
    ("arrivals", "needed", "horizon", "names"),
    [
        ([1, -1], 9, 9, "arrivals: -1"),
        ([1], -9, 9, "units_needed is -9"),
        ([1], 9, 0, "horizon is 0"),
    ],
)
def test_bad_arguments_are_refused(arrivals: list[int], needed: int, horizon: int, names: str) -> None:
    with pytest.raises(InputError, match=names):
        days_left(arrivals, needed, horizon=horizon)


@given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(0, 10**13))
def test_it_never_fails_and_its_range_is_in_order(arrivals: list[int], needed: int) -> None:
    result = days_left(arrivals, needed)
    known = [one for one in (result.days_low, result.days, result.days_high) if one is not None]
    assert known == sorted(known)
    assert all(0 <= one <= result.horizon for one in known)
    assert (result.days is not None) == (result.status in ("ok", "reached"))
