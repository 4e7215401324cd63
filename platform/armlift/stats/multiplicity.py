"""Adjusted p-values, levels and intervals for many tests at once.

A p-value that is not known (None) stays so and counts for nothing. A test's level is the alpha to hold its
raw p-value against: p <= level says the same as adjusted p <= alpha, and the interval at that level leaves 0
out in the same cases. These intervals follow the decisions; they do not hold all effects at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from armlift.stats.estimates import half_width, lift_interval
from armlift.stats.results import Effect, check_share

PValues = Sequence[float | None]
Adjusted = tuple[float | None, ...]


def holm(p_values: PValues) -> Adjusted:
    """Adjust p-values so that the chance of any false discovery stays below alpha, whatever their dependence.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1. Order is kept; NaN
    and values outside [0, 1] become None. Source: Holm (1979).
    """
    order = _order(p_values)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[position] = largest
    return tuple(adjusted)


def benjamini_hochberg(p_values: PValues) -> Adjusted:
    """Adjust p-values so that the expected share of false discoveries among all stays below alpha.

    The i-th smallest of m becomes the smallest of p_(j) m / j over j >= i. For independent or positively
    dependent tests. Order is kept; NaN and values outside [0, 1] become None. Source: Benjamini & Hochberg
    (1995).
    """
    order = _order(p_values)
    adjusted: list[float | None] = [None] * len(p_values)
    smallest = 1.0
    for rank in range(len(order), 0, -1):
        p, position = order[rank - 1]
        smallest = min(smallest, p * len(order) / rank)
        adjusted[position] = smallest
    return tuple(adjusted)


def holm_levels(p_values: PValues, alpha: float) -> Adjusted:
    """Give each test's level under Holm's procedure.

    The i-th smallest of m has alpha / (m - i + 1); from the first that exceeds its own on, all have that
    one's. Order is kept; None where p is not known. Raises InputError for a bad alpha. Source: Holm (1979).
    """
    check_share("alpha", alpha)
    order = _order(p_values)
    levels: list[float | None] = [None] * len(p_values)
    stop: float | None = None
    for rank, (p, position) in enumerate(order):
        level = alpha / (len(order) - rank) if stop is None else stop
        if p > level:
            stop = level
        levels[position] = level
    return tuple(levels)


def benjamini_hochberg_levels(p_values: PValues, alpha: float) -> Adjusted:
    """Give each test's level under Benjamini and Hochberg's procedure.

    With the R smallest of m p-values discovered these have alpha R / m: for independent tests the expected
    share of their intervals that miss their effect then stays below alpha (Benjamini & Yekutieli 2005). The
    i-th smallest of the others has alpha i / m. Order is kept; None where p is not known. Raises InputError
    for a bad alpha.
    """
    check_share("alpha", alpha)
    order = _order(p_values)
    levels: list[float | None] = [None] * len(p_values)
    discovered = 0.0
    for rank in range(len(order), 0, -1):
        p, position = order[rank - 1]
        level = max(discovered, alpha * rank / len(order))
        if p <= level:
            discovered = level
        levels[position] = level
    return tuple(levels)


def at_alpha(effect: Effect, alpha: float) -> Effect:
    """Give an effect with its intervals at another alpha, from its errors and degrees of freedom.

    Equal to comparing at that alpha, as far as the effect knows its errors: an interval that overflows goes,
    one that was not given stays so. Raises InputError for a bad alpha.
    """
    check_share("alpha", alpha)
    effect = replace(effect, alpha=alpha)
    if effect.difference is None or effect.standard_error is None or effect.degrees_of_freedom is None:
        return effect
    half = half_width(effect.standard_error, effect.degrees_of_freedom, alpha)
    if not isfinite(abs(effect.difference) + half):
        return effect.without_interval("not_estimable")
    low, high = effect.difference - half, effect.difference + half
    return _lift_at_alpha(replace(effect, difference_low=low, difference_high=high))


def _lift_at_alpha(effect: Effect) -> Effect:
    error, df, scale = effect.lift_error, effect.lift_degrees_of_freedom, effect.lift_scale
    if effect.mean is None or effect.control_mean is None or error is None or df is None or scale is None:
        return effect
    bounds = lift_interval(effect.mean / effect.control_mean, half_width(error, df, effect.alpha), scale)
    if bounds is None:
        return replace(
            effect,
            status="not_estimable",
            lift_low=None,
            lift_high=None,
            lift_error=None,
            lift_degrees_of_freedom=None,
            lift_scale=None,
        )
    return replace(effect, lift_low=bounds[0], lift_high=bounds[1])


def _order(p_values: PValues) -> list[tuple[float, int]]:
    """Give the known p-values, smallest first, with their positions."""
    return sorted((p, i) for i, p in enumerate(p_values) if p is not None and 0.0 <= p <= 1.0)
