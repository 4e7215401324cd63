"""How many units a skewed metric asks for before its intervals miss as seldom as they say."""

from math import ceil

MOST_SKEWED = 0.15
"""Skewness of an arm's mean up to which intervals keep their word."""


def least_units(skewness: float) -> int:
    """Give the units an arm needs, by the skewness g of its units' values: n >= (g / 0.15)^2.

    The mean of n units has the skewness g / sqrt(n), and a normal interval for it misses the more often the
    larger that is, on one side. Cochran, Sampling Techniques (1977), section 2.15, asks for n > 25 g^2 for
    95 % intervals of a mean; equal arms of one shape do with less, as theirs cancels in the difference, and
    unequal arms ask for more: 44 g^2 is what `benchmarks/validity.py` bears out for both.
    """
    return ceil((skewness / MOST_SKEWED) ** 2)
