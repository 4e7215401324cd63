"""Ratios of two totals, such as clicks an impression, with units as clusters."""

from math import inf, nan

from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate, compare, independent, variance_of
from armlift.stats.results import DEFAULT_RULES, Effect, Rules


def ratio(aggregates: Aggregates, numerator: str, denominator: str) -> Estimate:
    """Estimate R = M / D, the ratio of two columns' means (so of their totals).

    Variance by the delta method: (s_M^2 - 2 R s_MD + R^2 s_D^2) / (n D^2), which is right however a unit's
    own impressions hang together (Deng, Knoblich & Lu 2018, equation 5). There is no value where the mean
    denominator is 0, and no meaning where it is negative. Units with neither numerator nor denominator change
    R by nothing but add to n and so to the degrees of freedom: leave them out where few units have any.
    """
    terms = ratio_terms(aggregates, numerator, denominator)
    if terms is None:
        empty = not aggregates.n or aggregates.means.item(aggregates.index(denominator)) == 0.0
        return Estimate(aggregates.n, None if empty else nan, nan)
    value, gradient = terms
    return Estimate(aggregates.n, value, variance_of(aggregates, gradient))


def ratio_terms(
    aggregates: Aggregates, numerator: str, denominator: str
) -> tuple[float, list[tuple[int, float]]] | None:
    """Give R = M / D and its gradient (1/D, -R/D) by column; None unless D is positive and finite."""
    i, j = aggregates.index(numerator), aggregates.index(denominator)
    below = aggregates.means.item(j)
    if not aggregates.n or not 0.0 < below < inf:
        return None
    value = aggregates.means.item(i) / below
    return value, [(i, 1.0 / below), (j, -value / below)]


def delta_ratio(
    arm: Aggregates, control: Aggregates, numerator: str, denominator: str, rules: Rules = DEFAULT_RULES
) -> Effect:
    """Compare a ratio of totals in two arms that share no unit.

    With v the variance of `ratio`: difference R_a - R_c, variance v_a + v_c; lift on the log ratio with
    v_a/R_a^2 + v_c/R_c^2, or linear. Welch-Satterthwaite degrees of freedom from the very terms.
    """
    a, c = ratio(arm, numerator, denominator), ratio(control, numerator, denominator)
    return compare("ratio", a, c, independent(a, c), rules)
