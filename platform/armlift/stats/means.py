"""Means and proportions of independent arms."""

from math import isfinite, nan, sqrt

from scipy.special import ndtri

from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate, compare, independent, variance_of
from armlift.stats.results import DEFAULT_RULES, Effect, Interval, Rules


def mean(aggregates: Aggregates, metric: str) -> Estimate:
    """Estimate a metric's mean a unit: variance s^2 / n."""
    i = aggregates.index(metric)
    value = aggregates.means.item(i) if aggregates.n else None
    return Estimate(aggregates.n, value, variance_of(aggregates, [(i, 1.0)]))


def share(aggregates: Aggregates, metric: str) -> Estimate:
    """Estimate the share p of units whose value is 1, others' being 0: variance p (1 - p) / (n - 1).

    That is s^2 / n with s^2 = p (1 - p) n / (n - 1), the sample variance of zeros and ones.
    """
    p, n = aggregates.mean(metric), aggregates.n
    if p is None or n < 2:
        return Estimate(n, p, nan)
    if not 0.0 <= p <= 1.0:
        return Estimate(n, nan, nan)
    return Estimate(n, p, p * (1.0 - p) / (n - 1))


def welch(arm: Aggregates, control: Aggregates, metric: str, rules: Rules = DEFAULT_RULES) -> Effect:
    """Compare a metric's mean a unit in two arms that share no unit.

    Difference: m_a - m_c, variance s_a^2/n_a + s_c^2/n_c, t with Welch-Satterthwaite degrees of freedom
    (Welch 1947). Lift: with R = m_a/m_c and e = sqrt(s_a^2/(n_a m_a^2) + s_c^2/(n_c m_c^2)), on the log scale
    R exp(+-t e) - 1, linear R - 1 +- t R e (delta method), degrees of freedom from the terms under the root.
    """
    a, c = mean(arm, metric), mean(control, metric)
    return compare("welch", a, c, independent(a, c), rules)


def proportion(arm: Aggregates, control: Aggregates, metric: str, rules: Rules = DEFAULT_RULES) -> Effect:
    """Compare the share of units whose value is 1 (others' is 0) in two arms that share no unit.

    As `welch`, with s^2 = p (1 - p) n / (n - 1); only the means are read. A mean outside [0, 1] is
    `not_estimable`.
    """
    a, c = share(arm, metric), share(control, metric)
    return compare("proportion", a, c, independent(a, c), rules)


def score_interval(aggregates: Aggregates, metric: str, rules: Rules = DEFAULT_RULES) -> Interval:
    """Give one arm's share with its score interval (Wilson 1927), which holds at small n and at 0 and 1.

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), z the normal quantile of 1 - alpha/2.
    Status `no_data` without units, `not_estimable` where the mean lies outside [0, 1].
    """
    p, n, alpha = aggregates.mean(metric), aggregates.n, rules.alpha
    if p is None:
        return Interval("score", "no_data", n, None, None, None, alpha)
    if not 0.0 <= p <= 1.0:
        return Interval("score", "not_estimable", n, p if isfinite(p) else None, None, None, alpha)
    z = float(ndtri(1.0 - alpha / 2.0))
    scale = 1.0 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * sqrt(p * (1.0 - p) / n + z * z / (4 * n * n)) / scale
    return Interval("score", "ok", n, p, max(0.0, centre - half), min(1.0, centre + half), alpha)
