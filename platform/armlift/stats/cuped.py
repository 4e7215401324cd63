"""Less variance by covariates from before a unit's first exposure (CUPED), for means and ratios.

theta = S_xx^-1 S_xy comes from both arms taken together, once a comparison; an arm's estimate is then
y - theta'(x - x of both arms), and its variance that of y - theta'x within the arm. No arm can have moved
what was before exposure, so what is expected of the difference stays the same. Left out are theta's own error
(a share of some covariates / units of the variance) and that of the level both arms share. Source: Deng, Xu,
Kohavi & Walker (WSDM 2013); ratios are linearised by the delta method (Deng, Knoblich & Lu 2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import NamedTuple

import numpy as np

from armlift.stats.aggregates import Aggregates, Array, merge
from armlift.stats.estimates import Estimate, compare, independent, variance_of
from armlift.stats.means import mean, welch
from armlift.stats.ratios import delta_ratio, ratio, ratio_terms
from armlift.stats.results import DEFAULT_RULES, Effect, Rules

COLLINEAR = 1e-8
"""A covariate of which the others leave less than this share of its variance tells nothing new."""
UNITS_A_COVARIATE = 20
"""Units of both arms a covariate needs: theta's own error is then some 5 % of the variance at the most."""

Covariate = str | tuple[str, str]
"""A column, or a (numerator, denominator) whose ratio of totals is the covariate."""
Terms = Sequence[tuple[int, float]]


class _Linear(NamedTuple):
    """A function of a part's means: its value and its gradient by column."""

    value: float
    terms: Terms


class _Fit(NamedTuple):
    """theta by position of the covariate, and the share of the outcome's variance that is left."""

    theta: dict[int, float]
    remaining: float


@dataclass(frozen=True)
class Adjustment:
    """Two arms' estimates after adjustment; without a usable covariate (`used` is empty) the plain ones.

    `used` names the covariates that count, in the order given: left out are those that do not vary, are not
    finite or have no denominator in an arm, those that the ones before them explain, and those beyond one in
    UNITS_A_COVARIATE units. `remaining_variance` is the share of the metric's variance over both arms that
    the covariates leave, 1 - rho^2: 1 without any.
    """

    arm: Estimate
    control: Estimate
    used: tuple[Covariate, ...]
    remaining_variance: float


def cuped(
    arm: Aggregates,
    control: Aggregates,
    metric: str,
    covariates: Sequence[Covariate],
    rules: Rules = DEFAULT_RULES,
) -> Effect:
    """Compare a metric's mean a unit after adjustment; the plain `welch` where no covariate is usable.

    Serves proportions too, on their zeros and ones. A unit without a past has covariate 0: give an indicator
    of having one as a second covariate. Raises InputError where a column is not aggregated.
    """
    found = adjusted_means(arm, control, metric, covariates)
    if not found.used:
        return welch(arm, control, metric, rules)
    return compare("cuped", found.arm, found.control, independent(found.arm, found.control), rules)


def cuped_ratio(
    arm: Aggregates,
    control: Aggregates,
    numerator: str,
    denominator: str,
    covariates: Sequence[Covariate],
    rules: Rules = DEFAULT_RULES,
) -> Effect:
    """Compare a ratio of totals after adjustment; the plain `delta_ratio` where no covariate is usable.

    The natural covariate is the same ratio before exposure, a pair (numerator, denominator); columns may come
    along. Raises InputError where a column is not aggregated.
    """
    found = adjusted_ratios(arm, control, numerator, denominator, covariates)
    if not found.used:
        return delta_ratio(arm, control, numerator, denominator, rules)
    return compare("cuped_ratio", found.arm, found.control, independent(found.arm, found.control), rules)


def adjusted_means(
    arm: Aggregates, control: Aggregates, metric: str, covariates: Sequence[Covariate]
) -> Adjustment:
    """Estimate a metric's mean a unit in two arms with the covariates' help."""
    return _adjust(arm, control, (mean(arm, metric), mean(control, metric)), metric, covariates)


def adjusted_ratios(
    arm: Aggregates, control: Aggregates, numerator: str, denominator: str, covariates: Sequence[Covariate]
) -> Adjustment:
    """Estimate a ratio of totals in two arms with the covariates' help, all linearised (delta method)."""
    plain = ratio(arm, numerator, denominator), ratio(control, numerator, denominator)
    return _adjust(arm, control, plain, (numerator, denominator), covariates)


def _adjust(
    arm: Aggregates,
    control: Aggregates,
    plain: tuple[Estimate, Estimate],
    outcome: Covariate,
    covariates: Sequence[Covariate],
) -> Adjustment:
    total = merge(arm, control)
    y = _linear(outcome, total, arm, control)
    candidates = [(one, x) for one in covariates if (x := _linear(one, total, arm, control)) is not None]
    if y is None or not 0.0 < plain[0].variance + plain[1].variance < inf:
        return Adjustment(*plain, (), 1.0)  # nothing to explain
    fit = _fit(total, [x[0].terms for _, x in candidates], y[0].terms)
    used = [(*candidates[k], theta) for k, theta in fit.theta.items()]
    if not used:
        return Adjustment(*plain, (), 1.0)
    estimates = [
        _estimate(part, y[k], [(theta, x[k], x[0]) for _, x, theta in used])
        for k, part in ((1, arm), (2, control))
    ]
    return Adjustment(estimates[0], estimates[1], tuple(one for one, _, _ in used), fit.remaining)


def _linear(what: Covariate, *parts: Aggregates) -> list[_Linear] | None:
    """Give a column's mean, or a pair's ratio, in every part; None where a part has none."""
    found = []
    for part in parts:
        if isinstance(what, tuple):
            known = ratio_terms(part, *what)
        else:
            i = part.index(what)
            known = (part.means.item(i), [(i, 1.0)]) if part.n else None
        if known is None:
            return None
        found.append(_Linear(*known))
    return found


def _estimate(
    part: Aggregates, y: _Linear, adjustments: Sequence[tuple[float, _Linear, _Linear]]
) -> Estimate:
    """Give y - theta'(x - x of both arms) of one arm; `adjustments` are (theta, x, x of both arms)."""
    value = y.value - sum(theta * (x.value - total.value) for theta, x, total in adjustments)
    terms = [*y.terms, *((i, -theta * g) for theta, x, _ in adjustments for i, g in x.terms)]
    return Estimate(part.n, value, variance_of(part, terms))


def _fit(total: Aggregates, covariates: Sequence[Terms], outcome: Terms) -> _Fit:
    """Regress the outcome on the covariates that add something, over the units of both arms.

    Sweeps the correlation matrix one covariate at a time: a pivot is what the ones before leave of a
    covariate's variance, the last column holds the coefficients, its end 1 - rho^2. Source: Goodnight (1979).
    """
    functions = [*covariates, outcome]
    spreads = [sqrt(v) if 0.0 < (v := variance_of(total, terms)) < inf else 0.0 for terms in functions]
    varied = [j for j, spread in enumerate(spreads) if spread]
    matrix = np.array([[_correlation(total, functions, spreads, i, j) for j in varied] for i in varied])
    if not spreads[-1] or not np.all(np.abs(matrix) <= 1.0 + COLLINEAR):
        return _Fit({}, 1.0)
    swept: list[int] = []
    for k in range(len(varied) - 1):
        if len(swept) < total.n // UNITS_A_COVARIATE and _sweep(matrix, k):
            swept.append(k)
    theta = {varied[k]: matrix.item(k, -1) * (spreads[-1] / spreads[varied[k]]) for k in swept}
    if not all(map(isfinite, theta.values())):
        return _Fit({}, 1.0)
    return _Fit(theta, min(1.0, max(0.0, matrix.item(-1, -1))))


def _correlation(
    total: Aggregates, functions: Sequence[Terms], spreads: Sequence[float], i: int, j: int
) -> float:
    moment = total.moments.item
    shared = sum(g * h * moment(a, b) for a, g in functions[i] for b, h in functions[j])
    return shared / total.n / (total.n - 1) / spreads[i] / spreads[j]


def _sweep(matrix: Array, k: int) -> bool:
    """Take covariate k into the regression, in place, if enough of its variance is left."""
    pivot = matrix.item(k, k)
    if not pivot > COLLINEAR:
        return False
    row, column = matrix[k] / pivot, matrix[:, k].copy()
    matrix -= np.outer(column, row)
    matrix[k], matrix[:, k] = row, -column / pivot
    matrix[k, k] = 1.0 / pivot
    return True
