"""Group-sequential boundaries: a fixed plan of looks that share one alpha by a spending function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, e, log1p, sqrt
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, roots_legendre

from armlift.errors import InputError
from armlift.stats.aggregates import Array
from armlift.stats.results import check_share

Spending = Literal["obrien_fleming", "pocock", "quadratic"]

LARGEST_Z = 8.0
"""No boundary is set higher: beyond it lies a chance of 1e-15."""
SMALLEST_STEP = 1e-4
"""Looks closer than this share of the information are no looks of their own."""
SMALLEST_ALPHA = 1e-9


@dataclass(frozen=True)
class Boundaries:
    """The plan: at look k reject no difference where |difference / standard error| exceeds `z[k]`.

    `spent[k]` is the chance under no difference to have rejected by look k, both directions together; it is
    alpha at full information.
    """

    information: tuple[float, ...]
    z: tuple[float, ...]
    spent: tuple[float, ...]
    alpha: float
    spending: Spending


def boundaries(
    information: Sequence[float], *, alpha: float = 0.05, spending: Spending = "obrien_fleming"
) -> Boundaries:
    """Give the two-sided symmetric boundary of every look.

    `information` holds the looks' shares of the planned information (units so far / planned units), rising,
    the last at most 1. Each side spends a(t) by share t of alpha/2: `obrien_fleming` 2 - 2 Phi(z / sqrt(t))
    with z the normal quantile of 1 - alpha/4, strict early; `pocock` (alpha/2) ln(1 + (e - 1) t), near
    constant z; `quadratic` (alpha/2) t^2, in between. The statistics' joint law is that of sums of
    independent normal increments; the density of the sums not yet stopped goes from look to look by
    Gauss-Legendre quadrature.

    Looks need not be planned, but neither their times nor the planned units may follow from the effect seen.
    A boundary does not change when later looks are added. A day without new units is no look: leave it out.
    Raises InputError for information that does not rise by SMALLEST_STEP or leaves (0, 1], an alpha outside
    [SMALLEST_ALPHA, 1), or an unknown spending. Sources: Lan & DeMets (1983); Armitage, McPherson & Rowe
    (1969), the recursion; Kim & DeMets (1987), powers of t; Jennison & Turnbull (2000), chapters 7 and 19.
    """
    _check(information, alpha, spending)
    spend = _SPENDINGS[spending]
    spent = [2.0 * spend(share, alpha / 2.0) for share in information]
    z: list[float] = []
    nodes, density = np.zeros(1), np.ones(1)  # before the first look the sum is 0
    before, spent_before = 0.0, 0.0
    for look, share in enumerate(information):
        sd = sqrt(share - before)
        z.append(_boundary(nodes, density, sd, sqrt(share), spent[look] - spent_before))
        if look + 1 < len(information):
            step = sqrt(information[look + 1] - share)
            nodes, density = _advance(nodes, density, sd, z[-1] * sqrt(share), step)
        before, spent_before = share, spent[look]
    return Boundaries(tuple(information), tuple(z), tuple(spent), alpha, spending)


def _obrien_fleming(share: float, alpha: float) -> float:
    return 2.0 * float(ndtr(ndtri(alpha / 2.0) / sqrt(share)))


def _pocock(share: float, alpha: float) -> float:
    return alpha * log1p((e - 1.0) * share)


def _quadratic(share: float, alpha: float) -> float:
    return alpha * share * share


_SPENDINGS: dict[Spending, Callable[[float, float], float]] = {
    "obrien_fleming": _obrien_fleming,
    "pocock": _pocock,
    "quadratic": _quadratic,
}


def _check(information: Sequence[float], alpha: float, spending: Spending) -> None:
    if check_share("alpha", alpha) < SMALLEST_ALPHA:
        raise InputError(f"alpha is {alpha}, must be {SMALLEST_ALPHA} or more")
    if spending not in _SPENDINGS:
        raise InputError(f"spending is {spending!r}, must be one of {', '.join(_SPENDINGS)}")
    before = 0.0
    for look, share in enumerate(information):
        if not before + SMALLEST_STEP <= share <= 1.0:
            raise InputError(
                f"information of look {look + 1} is {share}, must be at most 1 and exceed {before} by "
                f"{SMALLEST_STEP}"
            )
        before = share


def _boundary(nodes: Array, density: Array, sd: float, scale: float, spend: float) -> float:
    """Find the z at which the chance to cross now, not having crossed before, is `spend`.

    `nodes` and `density` [m] are the sum's values before this look and their weights, `sd` is the standard
    deviation of the step to this look and `scale` that of the sum at it.
    """

    def excess(z: float) -> float:
        limit = z * scale
        tails = ndtr((nodes - limit) / sd) + ndtr((-nodes - limit) / sd)
        return float(density @ tails) - spend

    if excess(LARGEST_Z) >= 0.0:
        return LARGEST_Z
    return float(brentq(excess, 0.0, LARGEST_Z, xtol=1e-12, rtol=1e-13))


def _advance(nodes: Array, density: Array, sd: float, limit: float, step: float) -> tuple[Array, Array]:
    """Give nodes and weights of the sum at this look where it has stayed within +-limit.

    The next step's standard deviation says how fine they must be: the integrand is no narrower than it.
    """
    points, weights = roots_legendre(ceil(5.0 * limit / min(step, sd)) + 40)
    values = limit * points
    kernel = np.exp(-0.5 * ((values[:, None] - nodes[None, :]) / sd) ** 2) / (sd * sqrt(2.0 * np.pi))
    return values, limit * weights * (kernel @ density)
