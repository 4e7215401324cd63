import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array, merge, merge_all

NAMES = ("plays", "clicks")


def assert_same(a: Aggregates, b: Aggregates, rel: float = 1e-9) -> None:
    assert (a.names, a.n) == (b.names, b.n)
    np.testing.assert_allclose(a.means, b.means, rtol=rel, atol=0)
    spread = np.sqrt(np.diag(b.moments))
    assert np.all(np.abs(a.moments - b.moments) <= rel * np.outer(spread, spread))


def draw(seed: int, n: int, level: float) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.normal(level, 1.0, (n, 2))
    values[:, 1] += 0.5 * values[:, 0]
    return values


def test_of_matches_numpy() -> None:
    values = draw(1, 500, 3.0)
    aggregates = Aggregates.of(NAMES, values)
    covariance = np.cov(values.T)
    assert aggregates.mean("plays") == pytest.approx(values[:, 0].mean(), rel=1e-12)
    assert aggregates.variance("clicks") == pytest.approx(covariance[1, 1], rel=1e-12)
    assert aggregates.covariance("plays", "clicks") == pytest.approx(covariance[0, 1], rel=1e-12)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    level=st.sampled_from([0.0, 1.0, -1e6, 1e6]),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_merge_of_any_partition_equals_the_whole(
    seed: int, level: float, sizes: list[int], order: random.Random
) -> None:
    sizes = [*sizes, 25]
    values = draw(seed, sum(sizes), level)
    parts = [Aggregates.of(NAMES, part) for part in np.split(values, np.cumsum(sizes)[:-1])]
    order.shuffle(parts)
    whole = Aggregates.of(NAMES, values)
    assert merge_all(parts).n == whole.n
    if level:
        assert_same(merge_all(parts), whole)
    nested = merge(merge_all(parts[::2]), merge_all(parts[1::2]))
    np.testing.assert_allclose(nested.moments, whole.moments, rtol=1e-7, atol=1e-9)


def test_merge_keeps_the_moments_of_a_million_units_at_a_high_mean() -> None:
    values = draw(3, 200_000, 1e6)
    parts = [Aggregates.of(NAMES, part) for part in np.array_split(values, 997)]
    exact = Aggregates.of(NAMES, values - 1e6)
    np.testing.assert_allclose(merge_all(parts).moments, exact.moments, rtol=1e-9)


def test_no_unit_is_neutral() -> None:
    some, none = Aggregates.of(NAMES, draw(4, 10, 2.0)), Aggregates.of(NAMES, np.zeros((0, 2)))
    assert_same(merge(none, some), some, 0.0)
    assert_same(merge(some, none), some, 0.0)
    assert merge(none, none).n == 0
    assert none.mean("plays") is None
    assert none.variance("plays") is None


def test_one_unit_has_a_mean_and_no_variance() -> None:
    one = Aggregates.of(NAMES, np.array([[2.0, 5.0]]))
    assert one.mean("clicks") == 5.0
    assert one.variance("clicks") is None
    assert one.covariance("plays", "clicks") is None


def test_errors_name_what_is_wrong() -> None:
    some = Aggregates.empty(NAMES)
    with pytest.raises(InputError, match=r"'likes' is not aggregated, must be one of \('plays', 'clicks'\)"):
        some.variance("likes")
    with pytest.raises(InputError, match="cannot be merged"):
        merge(some, Aggregates.empty(("plays",)))
    with pytest.raises(InputError, match=r"shape \(3,\), must be \(n, 2\)"):
        Aggregates.of(NAMES, np.zeros(3))
    with pytest.raises(InputError, match="means have shape"):
        Aggregates(NAMES, 1, np.zeros(1), np.zeros((2, 2)))
    with pytest.raises(InputError, match="n is -1"):
        Aggregates(NAMES, -1, np.zeros(2), np.zeros((2, 2)))
    with pytest.raises(InputError, match="at least 1"):
        merge_all([])
