"""Adjusted p-values for many tests at once; one that is not known (None) stays so and counts for nothing."""

from collections.abc import Sequence

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


def _order(p_values: PValues) -> list[tuple[float, int]]:
    """Give the known p-values, smallest first, with their positions."""
    return sorted((p, i) for i, p in enumerate(p_values) if p is not None and 0.0 <= p <= 1.0)
