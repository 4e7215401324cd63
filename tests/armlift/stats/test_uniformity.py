"""Uniformity of p-values against SciPy, and how often sound and unsound tests are flagged."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, kstest

from armlift.errors import InputError
from armlift.stats.uniformity import FEWEST, uniformity

P = st.floats(0.0, 1.0)


@settings(max_examples=300, deadline=None)
@given(st.lists(P, min_size=FEWEST, max_size=200), st.floats(0.001, 0.3))
def test_equals_scipy(p_values: list[float], alpha: float) -> None:
    found = uniformity(p_values, alpha=alpha)
    n, below = len(p_values), sum(p < alpha for p in p_values)
    expected = kstest(p_values, "uniform", method="asymp")
    assert found.distance == pytest.approx(expected.statistic, rel=1e-9)
    assert found.distance_p == pytest.approx(expected.pvalue, rel=1e-9)
    tails = binom.cdf(below, n, alpha), binom.sf(below - 1, n, alpha)
    assert found.share_p == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)
    assert found.share == below / n
    assert found.error == pytest.approx(sqrt(below / n * (1 - below / n) / n))
    assert sum(found.tenths) == found.n == n


def test_degenerate_input() -> None:
    few = uniformity([0.5] * (FEWEST - 1))
    assert (few.status, few.share, few.distance, few.tenths[5]) == ("no_data", None, None, FEWEST - 1)
    assert uniformity([]).tenths == (0,) * 10
    for bad in ([-0.1] * 30, [1.1] * 30, [float("nan")] * 30):
        with pytest.raises(InputError, match="must be from 0 to 1"):
            uniformity(bad)
    with pytest.raises(InputError, match="alpha is 0"):
        uniformity([], alpha=0)
    with pytest.raises(InputError, match="level is 1"):
        uniformity([], level=1)


def test_sound_tests_are_flagged_as_seldom_as_promised() -> None:
    """Twenty times the level of the check, so that four thousand checks tell: 5 % at the most."""
    rng = np.random.default_rng(1)
    flagged = sum(uniformity(rng.random(300).tolist(), level=0.05).status != "sound" for _ in range(4000))
    assert flagged / 4000 < 0.05 + 3 * sqrt(0.05 * 0.95 / 4000)
    assert flagged / 4000 > 0.015  # it is not asleep either


@pytest.mark.parametrize(
    ("power", "status"), [(1.0, "sound"), (0.6, "too_often"), (2.0, "too_seldom"), (1.02, "sound")]
)
def test_what_is_off_is_told_apart(power: float, status: str) -> None:
    """With p = u^(1/power), P(p < .05) = .05^power: 17 % at .6, 0.25 % at 2."""
    rng = np.random.default_rng(2)
    told = Counter(uniformity((rng.random(500) ** (1.0 / power)).tolist()).status for _ in range(50))
    assert told[status] >= 49  # type: ignore[index]


def test_p_values_in_lumps_are_uneven() -> None:
    assert uniformity(np.repeat([0.02, 0.3, 0.6, 1.0], [25, 100, 200, 175]).tolist()).status == "uneven"


def test_what_is_not_material_is_sound_however_many_splits() -> None:
    """At 200,000 p-values a share of 5.5 % is far beyond chance, and near enough all the same."""
    rng = np.random.default_rng(3)
    found = uniformity((rng.random(200_000) ** (1.0 / 0.97)).tolist())
    assert found.share_p is not None
    assert found.share_p < 1e-6
    assert found.status == "sound"
