"""Effects: one metric of one arm against the control, from aggregates by stratum of first exposure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from armlift.metric import Metric, cuped_of
from armlift.stats.aggregates import Aggregates
from armlift.stats.cuped import Adjustment, adjusted_means, adjusted_ratios
from armlift.stats.estimates import Estimate
from armlift.stats.means import mean, share
from armlift.stats.quantiles import quantile, quantile_difference, rank_interval
from armlift.stats.ratios import ratio
from armlift.stats.results import Effect, Method, Rules
from armlift.stats.strata import stratified

BEFORE = ("pre_num", "pre_den")
"""The columns that hold what a unit did before its first exposure."""
PAST = "past"
"""The column that tells (1 or 0) whether a unit did anything that the metric counts before."""

MIN_EVENTS = 10
"""Units with the event, and without it, that each arm needs: with fewer a share is not close to normal, and
Wald's test sees effects in arms that have none."""

Place = tuple[int, int]
"""A stratum: generation and phase of first exposure."""
ByPlace = Mapping[Place, Aggregates]


class Compared(NamedTuple):
    """An effect, the units left out because their stratum is too small, and the variance that is left.

    `remaining` is the share of the variance that adjustment leaves in the largest stratum; 1 without.
    """

    effect: Effect
    left_out: int = 0
    remaining: float = 1.0


def parts_of(metric: Metric) -> tuple[str, ...]:
    """Name the columns a metric's aggregates are of."""
    ratios, adjusted = metric.kind == "ratio", cuped_of(metric) is not None
    named = ("num", "den") if ratios else ("num",)
    return (*named, *(BEFORE if ratios else BEFORE[:1]), PAST) if adjusted else named


def past_of(metric: Metric) -> tuple[str, ...]:
    """Name the columns that tell what units did before their first exposure."""
    return BEFORE if metric.kind == "ratio" else BEFORE[:1]


def compare_strata(metric: Metric, arm: ByPlace, control: ByPlace, rules: Rules) -> Compared:
    """Compare an arm with the control within strata of first exposure, and average over them.

    Both map a stratum to aggregates over `parts_of` the metric. Not for quantiles, see `compare_quantiles`.
    """
    empty = Aggregates.empty(parts_of(metric))
    places = sorted(arm.keys() | control.keys())
    found = [_estimates(metric, arm.get(p, empty), control.get(p, empty)) for p in places] or [
        _estimates(metric, empty, empty)
    ]
    used = any(one.used for one in found)
    whole = stratified([(one.arm, one.control) for one in found], _method(metric, used), rules)
    if (
        metric.kind in ("proportion", "retention")
        and whole.effect.p_value is not None
        and _few_events(arm, control)
    ):
        whole = replace(whole, effect=whole.effect.without_interval("too_few"))
    largest = max(found, key=lambda one: one.arm.n + one.control.n)
    return Compared(whole.effect, whole.left_out_units, largest.remaining_variance)


def compare_past(metric: Metric, arm: ByPlace, control: ByPlace, rules: Rules) -> Effect:
    """Compare what units did before first exposure; both map a stratum to aggregates over `past_of` it."""
    empty = Aggregates.empty(past_of(metric))
    if metric.kind == "ratio":
        return compare_estimates(lambda one: ratio(one, *BEFORE), empty, arm, control, "ratio", rules)
    return compare_estimates(lambda one: mean(one, BEFORE[0]), empty, arm, control, "welch", rules)


def compare_estimates(
    estimate: Callable[[Aggregates], Estimate],
    empty: Aggregates,
    arm: ByPlace,
    control: ByPlace,
    method: Method,
    rules: Rules,
) -> Effect:
    """Compare any estimate of each stratum's aggregates, averaged over strata; `empty` is that of no unit."""
    pairs = [
        (estimate(arm.get(place, empty)), estimate(control.get(place, empty)))
        for place in sorted(arm.keys() | control.keys())
    ]
    return stratified(pairs, method, rules).effect


class Ordered(NamedTuple):
    """What the values of one arm's units say of a quantile.

    `value` is the quantile, None without units; `clusters` are aggregates over (below, values), see
    `rank_interval`; `at` gives order statistics at ranks, 0 the smallest.
    """

    value: float | None
    clusters: Aggregates
    at: Callable[[Sequence[int]], Sequence[float]]


def compare_quantiles(q: float, arm: Ordered, control: Ordered, rules: Rules) -> Effect:
    """Compare a quantile of two arms."""
    return quantile_difference(_quantile(q, arm, rules), _quantile(q, control, rules), rules)


def _quantile(q: float, ordered: Ordered, rules: Rules) -> Estimate:
    ranks = rank_interval(ordered.clusters, q, rules)
    if ranks.low is None or ranks.high is None:
        return quantile(ranks, ordered.value, None, None)
    low, high = ordered.at([ranks.low - 1, ranks.high - 1])
    return quantile(ranks, ordered.value, low, high)


def quantile_rank(q: float, count: int) -> int:
    """Give the rank, 0 the smallest, of the smallest of `count` values that a share q does not exceed."""
    return min(count, max(1, ceil(q * count))) - 1


def _estimates(metric: Metric, arm: Aggregates, control: Aggregates) -> Adjustment:
    """Estimate a metric in two arms of one stratum, with the covariates' help where it is asked for."""
    if metric.kind == "ratio":
        if metric.cuped:
            return adjusted_ratios(arm, control, "num", "den", [BEFORE, PAST])
        return _plain(ratio(arm, "num", "den"), ratio(control, "num", "den"))
    if cuped_of(metric) is not None:
        return adjusted_means(arm, control, "num", [BEFORE[0], PAST])
    one = mean if metric.kind == "mean" else share
    return _plain(one(arm, "num"), one(control, "num"))


def _few_events(arm: ByPlace, control: ByPlace) -> bool:
    """Tell whether an arm has fewer than MIN_EVENTS units with the event, or without it."""
    for side in (arm, control):
        units = sum(one.n for one in side.values())
        events = sum(round(one.n * (one.mean("num") or 0.0)) for one in side.values())
        if not MIN_EVENTS <= events <= units - MIN_EVENTS:
            return True
    return False


def _plain(arm: Estimate, control: Estimate) -> Adjustment:
    return Adjustment(arm, control, (), 1.0)


def _method(metric: Metric, adjusted: bool) -> Method:
    if metric.kind == "ratio":
        return "cuped_ratio" if adjusted else "ratio"
    if adjusted:
        return "cuped"
    return "welch" if metric.kind == "mean" else "proportion"
