"""Novelty: whether an effect wears off, or grows, the longer a unit has met its arm.

A lift by days since first exposure compares other units on every day. Whether it changes is asked of units
that all have the same number of days: each one's own slope over them, compared between the arms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from armlift.aggregates import Stratum, of_arm
from armlift.effects import compare_estimates
from armlift.experiment import Experiment
from armlift.metric import Metrics
from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate
from armlift.stats.means import mean, share
from armlift.stats.multiplicity import holm
from armlift.stats.ratios import ratio
from armlift.stats.results import Effect, Method, Rules

MOST_DAYS = 14
"""Days since first exposure that are looked at."""
LEAST_SHARE = 0.5
"""The slope is taken over as many days as at least this share of the units have."""
ESTIMATES: Mapping[str, tuple[Callable[[Aggregates], Estimate], Method]] = {
    "mean": (lambda one: mean(one, "num"), "welch"),
    "proportion": (lambda one: share(one, "num"), "proportion"),
    "ratio": (lambda one: ratio(one, "num", "den"), "ratio"),
}
"""How the days of a kind of metric are compared; other kinds do not add up over days."""
ByStratum = Mapping[Stratum, Aggregates]


class Ages(Protocol):
    """Who knows what units did on each day since their first exposure; see `UnitTotals`."""

    def by_age(self, metric: str) -> Mapping[int, ByStratum]:
        """Give aggregates over (num, den) of single days, by days since first exposure."""

    def slopes(self, metric: str, days: int) -> ByStratum:
        """Give aggregates over (num,) of units' slopes over their first days."""

    def arrivals(self) -> Mapping[int, int]:
        """Count the units by the day of their first exposure."""


@dataclass(frozen=True)
class Day:
    """The lift of one day since first exposure, 0 the first; unknown is None."""

    day: int
    units: int
    lift: float | None
    lift_low: float | None
    lift_high: float | None


@dataclass(frozen=True)
class Novelty:
    """How an arm's effect on a metric changes with the days since first exposure.

    `slope` is how much the difference to the control (of a ratio: of its numerator) changes a day over the
    first `over_days` days, with its interval; `p_adjusted` is Holm's over metrics and arms. Unknown is None.
    """

    metric: str
    arm: str
    days: list[Day]
    over_days: int
    slope: float | None
    slope_low: float | None
    slope_high: float | None
    p_adjusted: float | None


def novelties(
    experiment: Experiment, metrics: Metrics, names: Sequence[str], ages: Ages, as_of_day: int
) -> list[Novelty]:
    """Look at some metrics, those that add up over days."""
    rules = Rules(alpha=experiment.analysis.alpha, min_units=experiment.analysis.minimum_units)
    span = _span(ages.arrivals(), as_of_day)
    found: list[tuple[str, str, list[Day], Effect]] = []
    for name in names:
        kind = metrics[name].kind
        if kind not in ESTIMATES:
            continue
        by_age = ages.by_age(name)
        slopes = ages.slopes(name, span) if span > 1 else {}
        for arm in experiment.challengers:
            days = [
                _day(age, _compare(kind, strata, arm, experiment.control, rules))
                for age, strata in by_age.items()
                if age < MOST_DAYS
            ]
            found.append((name, arm, days, _compare("mean", slopes, arm, experiment.control, rules)))
    p_values = holm([effect.p_value for *_, effect in found])
    return [
        Novelty(
            name,
            arm,
            days,
            span,
            effect.difference,
            effect.difference_low,
            effect.difference_high,
            p_adjusted,
        )
        for (name, arm, days, effect), p_adjusted in zip(found, p_values, strict=True)
    ]


def _span(arrivals: Mapping[int, int], as_of_day: int) -> int:
    """Give the most days that enough of the units have."""
    units = sum(arrivals.values())
    for span in range(MOST_DAYS, 1, -1):
        old = sum(n for since, n in arrivals.items() if since + span - 1 <= as_of_day)
        if units and old >= LEAST_SHARE * units:
            return span
    return 0


def _compare(kind: str, strata: ByStratum, arm: str, control: str, rules: Rules) -> Effect:
    own, others = of_arm(strata, arm), of_arm(strata, control)
    empty = Aggregates.empty(("num", "den"))
    estimate, method = ESTIMATES[kind]
    return compare_estimates(estimate, empty, own, others, method, rules)


def _day(age: int, effect: Effect) -> Day:
    return Day(age, effect.units, effect.lift, effect.lift_low, effect.lift_high)
