"""Comparisons within units: every unit met both arms, as in a paired replay."""

from collections.abc import Sequence
from math import nan

from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate, Spread, SpreadOf, compare, variance_of
from armlift.stats.means import mean
from armlift.stats.ratios import ratio, ratio_terms
from armlift.stats.results import DEFAULT_RULES, Effect, Rules

Terms = Sequence[tuple[int, float]]


def paired_means(pairs: Aggregates, arm: str, control: str, rules: Rules = DEFAULT_RULES) -> Effect:
    """Compare a metric's mean a unit within units; `arm` and `control` name its two columns in `pairs`.

    Difference: t on the mean of d = y_a - y_c with n - 1 degrees of freedom, s_d^2 = s_a^2 + s_c^2 - 2 s_ac
    (Student 1908). Lift on the log ratio: variance (s_a^2/m_a^2 + s_c^2/m_c^2 - 2 s_ac/(m_a m_c)) / n (delta
    method); linear: R^2 times that. Pairs that never differ are `zero_variance` with difference 0.
    """
    terms = ([(pairs.index(arm), 1.0)], [(pairs.index(control), 1.0)])
    return compare("paired", mean(pairs, arm), mean(pairs, control), _within(pairs, *terms), rules)


def paired_ratios(
    pairs: Aggregates, arm: tuple[str, str], control: tuple[str, str], rules: Rules = DEFAULT_RULES
) -> Effect:
    """Compare a ratio of totals within units; `arm` and `control` each name (numerator, denominator).

    Delta method on (M_a, D_a, M_c, D_c) with all cross products: R_a - R_c has the gradient (1/D_a, -R_a/D_a,
    -1/D_c, R_c/D_c), ln(R_a/R_c) has (1/M_a, -1/D_a, -1/M_c, 1/D_c); variance g' S g / (n (n - 1)), n - 1
    degrees of freedom. Source: Deng, Knoblich & Lu (2018), section 3. As in `ratio`, leave out units whose
    columns are all 0 where few units have any.
    """
    return paired_mix(pairs, [(1.0, *arm)], control, rules)


def paired_mix(
    pairs: Aggregates,
    arm: Sequence[tuple[float, str, str]],
    control: tuple[str, str],
    rules: Rules = DEFAULT_RULES,
) -> Effect:
    """Compare a weighted sum of ratios of totals with a ratio, within units.

    `arm` has (weight, numerator, denominator) of each; weights are taken as fixed. Delta method as of
    `paired_ratios`, with the weighted gradients. There is no value where a denominator adds up to 0.
    """
    parts = [(weight, ratio_terms(pairs, *names)) for weight, *names in arm]
    c = ratio_terms(pairs, *control)
    gradient = [(i, weight * g) for weight, part in parts if part is not None for i, g in part[1]]
    if len(arm) == 1 and arm[0][0] == 1.0:
        estimate = ratio(pairs, *arm[0][1:])
    elif any(part is None for _, part in parts):
        estimate = Estimate(pairs.n, None, nan)
    else:
        value = sum(weight * part[0] for weight, part in parts if part is not None)
        estimate = Estimate(pairs.n, value, variance_of(pairs, gradient))
    spread = _within(pairs, gradient, [] if c is None else c[1])
    return compare("paired_ratio", estimate, ratio(pairs, *control), spread, rules)


def _within(pairs: Aggregates, arm: Terms, control: Terms) -> SpreadOf:
    """Give the spread of f_a * arm + f_c * control where both are functions of the same units' means."""

    def spread(arm_factor: float, control_factor: float) -> Spread:
        gradient = [(i, g * arm_factor) for i, g in arm] + [(i, g * control_factor) for i, g in control]
        return Spread(variance_of(pairs, gradient), pairs.n - 1)

    return spread
