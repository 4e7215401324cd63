"""Units that skewed metrics ask for."""

import math

import pytest

from armlift.stats.tails import MOST_SKEWED, least_units


@pytest.mark.parametrize(("skewness", "needed"), [(0.0, 0), (2.0, 178), (-2.0, 178), (9.85, 4313)])
def test_units_follow_the_square_of_the_skewness(skewness: float, needed: int) -> None:
    assert least_units(skewness) == needed


def test_with_these_units_the_mean_is_as_skewed_as_it_may_be() -> None:
    for skewness in (0.5, 3.0, 40.0):
        n = least_units(skewness)
        assert skewness / math.sqrt(n) <= MOST_SKEWED < skewness / math.sqrt(n - 1)
