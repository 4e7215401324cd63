"""Quantiles of single values, such as the 95th percentile of watch time, with units as clusters."""

from dataclasses import dataclass, replace
from math import ceil, floor, inf, isfinite, nan, sqrt

from scipy.special import ndtri

from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate, compare, independent
from armlift.stats.ratios import ratio
from armlift.stats.results import DEFAULT_RULES, Effect, Rules, Status, check_share

MIN_UNITS = 100
"""Below this many units an arm the normal approximation of ranks is no fair one."""


@dataclass(frozen=True)
class RankInterval:
    """Which of an arm's sorted values bound its quantile's interval of confidence 1 - alpha.

    `n` counts units, `values` their values; `low` and `high` are ranks from 1 to `values`. Status: `no_data`
    without values; `too_few` below MIN_UNITS units; `not_estimable` where a rank falls outside the data, no
    value exceeds the quantile, or the aggregates cannot be; `zero_variance` where every unit has the same
    share of values up to the quantile; else `ok`. The ranks are None unless the status is `ok`.
    """

    status: Status
    n: int
    values: int
    low: int | None
    high: int | None
    alpha: float


def rank_interval(clusters: Aggregates, q: float, rules: Rules = DEFAULT_RULES) -> RankInterval:
    """Give the ranks of the values that bound one arm's quantile q.

    `clusters` has the columns `below`, a unit's number of values up to the arm's quantile (the smallest value
    that a share q of all values does not exceed), and `values`, its number of values. With N values in all,
    p = below / values and s^2 its variance over units (delta method of `ratio`), the ranks are
    N (q -+ z e) + 1/2, rounded outwards, where e^2 = s^2 q (1 - q) / (p (1 - p)): the binomial variance at q,
    scaled by what clustering makes of it at p, which is q unless values tie. The half is the continuity
    correction. Raises InputError for a bad q or a missing column. Source: Woodruff (1952); Deng, Knoblich &
    Lu (2018).
    """
    check_share("q", q)
    share, n = ratio(clusters, "below", "values"), clusters.n
    total = n * (clusters.mean("values") or 0.0)

    def unknown(status: Status) -> RankInterval:
        return RankInterval(status, n, round(total) if isfinite(total) else 0, None, None, rules.alpha)

    if share.value is None:
        return unknown("no_data")
    if n < max(MIN_UNITS, rules.min_units):
        return unknown("too_few")
    if not 0.0 < share.value < 1.0 or not share.variance < inf:
        return unknown("not_estimable")
    if share.variance == 0.0:
        return unknown("zero_variance")
    error = sqrt(share.variance * (q * (1.0 - q)) / (share.value * (1.0 - share.value)))
    half = _z(rules.alpha) * error
    if not isfinite(total * half):
        return unknown("not_estimable")
    low, high = floor(total * (q - half) + 0.5), ceil(total * (q + half) + 0.5)
    if low < 1 or high > round(total):
        return unknown("not_estimable")
    return RankInterval("ok", n, round(total), low, high, rules.alpha)


def quantile(ranks: RankInterval, value: float | None, low: float | None, high: float | None) -> Estimate:
    """Estimate an arm's quantile from its `value` and the values at its two ranks.

    The standard error is (high - low) / (2 z), as of a normal interval.
    z belongs to the ranks' own alpha. Without ranks or values there is no variance.
    """
    if ranks.status == "zero_variance":
        return Estimate(ranks.n, value, 0.0)
    if ranks.status != "ok" or low is None or high is None or not low <= high:
        return Estimate(ranks.n, value, nan)
    error = (high - low) / (2.0 * _z(ranks.alpha))
    return Estimate(ranks.n, value, error * error)


def quantile_difference(arm: Estimate, control: Estimate, rules: Rules = DEFAULT_RULES) -> Effect:
    """Compare a quantile in two arms that share no unit, given each arm's `quantile`.

    Difference with variance v_a + v_c, lift on the log ratio or linear, t with Welch-Satterthwaite degrees of
    freedom over n - 1 each. `too_few` below MIN_UNITS units an arm.
    """
    rules = replace(rules, min_units=max(MIN_UNITS, rules.min_units))
    return compare("quantile", arm, control, independent(arm, control), rules)


def _z(alpha: float) -> float:
    return float(ndtri(1.0 - alpha / 2.0))
