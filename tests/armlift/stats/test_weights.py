"""Weights: each figure by hand, and what cannot be told."""

import numpy as np
import pytest
from scipy import stats

from armlift.stats.weights import describe_weights


def test_each_figure_by_hand() -> None:
    weights = np.array([0.0, 0.5, 0.5, 1.0, 4.0])
    found = describe_weights(np.array([1, 1, 2, 2, 3]), weights, alpha=0.1)
    assert (found.status, found.rows, found.units) == ("ok", 5, 3)
    assert found.mean == pytest.approx(1.2)
    assert found.maximum == 4.0
    assert found.effective_rows == pytest.approx(36 / 17.5)
    assert found.top_share == pytest.approx(4 / 6)  # 1 % of five rows is one
    left = np.array([0.5 - 2.4, 1.5 - 2.4, 4.0 - 1.2])
    half = stats.t.ppf(0.95, 2) * np.sqrt((left**2).sum() * 3 / 2) / 5
    assert [found.mean_low, found.mean_high] == pytest.approx([1.2 - half, 1.2 + half])
    assert not found.off_one
    assert (found.clipped, found.clipped_share) == (0, 0.0)


def test_clipping_is_counted_and_leaves_the_mean() -> None:
    weights = np.array([0.0, 0.5, 0.5, 1.0, 4.0])
    found = describe_weights(np.arange(5), weights, clip=2.0)
    assert found.mean == pytest.approx(1.2)
    assert (found.maximum, found.clipped) == (2.0, 1)
    assert found.clipped_share == pytest.approx(2 / 6)
    assert found.effective_rows == pytest.approx(16 / 5.5)


def test_a_mean_that_is_not_one_is_seen() -> None:
    rng = np.random.default_rng(1)
    assert describe_weights(np.arange(900), rng.exponential(0.7, 900)).off_one
    assert not describe_weights(np.arange(900), rng.exponential(1.0, 900)).off_one


def test_what_cannot_be_told_has_a_status() -> None:
    nothing = describe_weights(np.empty(0), np.empty(0))
    assert (nothing.status, nothing.mean, nothing.maximum, nothing.top_share) == ("no_data", None, None, None)
    one = describe_weights(np.ones(2), np.array([1.0, 2.0]))
    assert (one.status, one.mean, one.mean_low, one.off_one) == ("too_few", 1.5, None, False)
    same = describe_weights(np.arange(3), np.ones(3))
    assert (same.status, same.mean, same.mean_low) == ("zero_variance", 1.0, None)
    assert not same.off_one
    none = describe_weights(np.arange(3), np.zeros(3))
    assert (none.effective_rows, none.top_share, none.off_one) == (None, None, True)
