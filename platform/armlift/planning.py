"""Planning: how many units an experiment needs to see a lift, and in how many days it will have them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, isfinite, sqrt
from typing import Any, NamedTuple

from armlift.aggregates import Question, Stratum
from armlift.answers import Answers
from armlift.comparisons import Found
from armlift.days import DAY_MS, Calendar
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.forecasts import Wait, arrivals_of, units_after, wait
from armlift.metric import Metric, Metrics, window_of
from armlift.runs import Run
from armlift.splitter import generations
from armlift.stats.estimates import Estimate
from armlift.stats.power import baseline_of, minimum_detectable, units_needed
from armlift.stats.results import PAIRED, Effect

POWER = 0.8
"""The power that reports ask for."""
LIFT = 0.02
"""The lift that is planned for where neither the command nor the experiment names one."""


class Aim(NamedTuple):
    """What is asked of a plan: a lift (a fraction), the chance to find it, and days to look ahead or None."""

    lift: float
    power: float = POWER
    days: int | None = None


@dataclass(frozen=True)
class Plan:
    """What one metric of a challenger takes; unknown is None.

    `units` are those of both arms that count in the metric (pairs once). `smallest_lift` is what they detect,
    `smallest_later` what is detected after the days asked for; `lift` is what is planned for: of a guardrail
    with a margin the margin. `units_needed` are of both arms, `all_units_needed` of all arms as exposures
    count them. `remaining_variance` is the share that adjustment leaves. `comparisons` share alpha.
    """

    metric: str
    role: str
    arm: str
    status: str
    comparisons: int
    units: int
    control_mean: float | None
    remaining_variance: float
    lift: float
    smallest_lift: float | None = None
    smallest_later: float | None = None
    units_needed: int | None = None
    all_units_needed: int | None = None
    reached: bool | None = None
    wait: Wait | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the plan as plain data."""
        return asdict(self) | {"wait": None if self.wait is None else self.wait._asdict()}


class Progress(NamedTuple):
    """How far a run has come towards its plan.

    `units` are those of all arms; `units_needed` are planned, or needed to see the smallest lift of interest,
    whichever are more, None where neither is known. The rest is as `Trust` has it.
    """

    units: int
    units_needed: int | None
    planned: bool | None
    power_reached: bool | None
    days_left: int | None


NO_PROGRESS = Progress(0, None, None, None, None)
"""That of a run of which nothing is known."""


class Baseline(NamedTuple):
    """A metric that is only known by numbers: a unit's mean and standard deviation, new units a day.

    `share` says that it is 0 or 1 for a unit.
    """

    mean: float
    deviation: float
    share: bool = False
    units_per_day: float | None = None

    @classmethod
    def of_rate(cls, rate: float, units_per_day: float | None = None) -> "Baseline":
        """Describe a metric that is 1 for a share of the units, else 0."""
        return cls(rate, sqrt(rate * (1.0 - rate)), True, units_per_day)


def plan_run(
    found: Sequence[Found], experiment: Experiment, metrics: Metrics, totals: Answers,
    arrivals: Sequence[int], aim: Aim,
) -> list[Plan]:  # fmt: skip
    """Plan every comparison of a run from its own baseline: control mean and a unit's variance.

    The arms' shares are those of the units so far. Raises InputError where power does not exceed alpha.
    """
    return [_plan(one, experiment, metrics[one.comparison.metric], totals, arrivals, aim) for one in found]


def plan_given(experiment: Experiment, baseline: Baseline, aim: Aim) -> list[Plan]:
    """Plan a first primary metric that is known by numbers alone, for the weights of the last phase.

    With days and units a day the smallest lift is that of the units there will be then. Raises InputError
    where the numbers allow no plan.
    """
    name, (_, weights) = experiment.metrics.primary[0], generations(experiment)[-1]
    return [_given(name, weights, arm, experiment, baseline, aim) for arm in experiment.challengers]


def progress(
    run: Run, experiment: Experiment, metrics: Metrics, found: Sequence[Found], totals: Answers,
    question: Question, calendar: Calendar,
) -> Progress:  # fmt: skip
    """Say whether the planned units are there, whether they suffice, and in how many days both will be.

    They suffice where every challenger's first primary metric has POWER to show the smallest lift of
    interest. A log does not grow: a replay has no days left.
    """
    analysis = experiment.analysis
    planned = analysis.planned_units
    arrivals = arrivals_of(totals, question, calendar)
    counts = totals.counts()
    units = max(_of_arms(counts).values(), default=0) if run.paired else sum(counts.values())
    needed = [] if planned is None else [planned]
    there = None if planned is None else sum(counts.values()) >= planned
    waits = [wait(arrivals, planned)] if planned is not None and not there else []
    reached: bool | None = None
    if analysis.smallest_lift is not None:
        first = [one for one in found if one.comparison.metric == experiment.metrics.primary[0]]
        plans = plan_run(first, experiment, metrics, totals, arrivals, Aim(analysis.smallest_lift))
        known = [one.reached for one in plans]
        reached = None if None in known else all(known)
        needed += [one.all_units_needed for one in plans if one.all_units_needed is not None]
        waits += [one.wait for one in plans if one.wait is not None and not one.reached]
    days = [one.days for one in waits if one.days is not None]
    left = max(1, *days) if days and len(days) == len(waits) and run.live else None
    return Progress(units, max(needed, default=None), there, reached, left)


def _of_arms(counts: Mapping[Stratum, int]) -> dict[str, int]:
    """Count the units of each arm."""
    arms = {stratum.arm for stratum in counts}
    return {arm: sum(n for stratum, n in counts.items() if stratum.arm == arm) for arm in arms}


def _plan(
    one: Found, experiment: Experiment, metric: Metric, totals: Answers, arrivals: Sequence[int], aim: Aim
) -> Plan:
    comparison, effect = one.comparison, one.effect
    lift = metric.margin if comparison.role == "guardrail" and metric.margin else aim.lift
    comparisons = _comparisons(experiment, comparison.role)
    plan = Plan(
        comparison.metric, comparison.role, comparison.arm, comparison.status, comparisons,
        effect.units, comparison.control_mean, one.remaining, lift,
    )  # fmt: skip
    alpha = experiment.analysis.alpha / comparisons
    smallest = minimum_detectable(
        effect.standard_error, effect.control_mean, alpha=alpha, power=aim.power
    ).relative
    if comparison.status != "ok" or smallest is None:
        return plan
    signed = lift if metric.direction == "increase" else -lift
    needed = _needed(effect, signed, smallest, alpha, aim.power)
    counting = sum(counting_units(one, experiment, totals).values())
    all_needed = None if needed is None else ceil(needed * counting / effect.units)
    lag = lag_of(metric)
    return Plan(
        **asdict(plan)
        | {
            "smallest_lift": smallest,
            "smallest_later": _later(smallest, counting, arrivals, aim.days, lag),
            "units_needed": needed,
            "all_units_needed": all_needed,
            "reached": None if needed is None else effect.units >= needed,
            "wait": None if all_needed is None else _wait_of(effect, needed, arrivals, all_needed, lag),
        }
    )


def _comparisons(experiment: Experiment, role: str) -> int:
    """Count the comparisons that share alpha with one of a role; guardrails stand for themselves."""
    family = sum(one == role for one in experiment.metrics.roles.values())
    return 1 if role == "guardrail" else family * len(experiment.challengers)


def _needed(effect: Effect, lift: float, smallest: float, alpha: float, power: float) -> int | None:
    """Give the units of both arms that find a lift, as their shares are; of pairs by the normal's rule."""
    if effect.method in PAIRED:
        return ceil(effect.n * (smallest / lift) ** 2)
    baseline = baseline_of(effect)
    variance = None
    if effect.method == "proportion" and baseline.value is not None:
        variance = _share_variance(baseline.value * (1.0 + lift))
    share = effect.n / effect.units
    found = units_needed(lift, baseline, arm_share=share, alpha=alpha, power=power, arm_variance=variance)
    return None if found.units is None or found.control_units is None else found.units + found.control_units


def _share_variance(p: float) -> float | None:
    """Give the variance of zeros and ones; None beyond a share of 1, where the control's has to do."""
    return p * (1.0 - p) if 0.0 < p < 1.0 else None


def counting_units(one: Found, experiment: Experiment, totals: Answers) -> dict[str, int]:
    """Count the units that count in a comparison's metric, by arm; of pairs those of the challenger."""
    arms = [one.comparison.arm] if one.effect.method in PAIRED else list(experiment.arms)
    return {arm: totals.units(one.comparison.metric, arm) for arm in arms}


def lag_of(metric: Metric) -> int:
    """Give the days after its first exposure at which a unit counts in a metric."""
    if metric.kind == "retention":
        return metric.day
    return ceil((window_of(metric) or 0) / DAY_MS)


def _wait_of(effect: Effect, needed: int | None, arrivals: Sequence[int], all_needed: int, lag: int) -> Wait:
    """Forecast; where the units are there already, those of the day that is not over are among them."""
    if needed is not None and effect.units >= needed:
        return Wait("reached", 0, 0, 0)
    return wait(arrivals, all_needed, lag=lag)


def _later(
    smallest: float, counting: int, arrivals: Sequence[int], days: int | None, lag: int
) -> float | None:
    """Give the smallest lift some days later: it falls with the root of the units."""
    if days is None:
        return None
    now, then = units_after(arrivals, -lag), units_after(arrivals, days - lag)
    if now is None or then is None:
        return None
    return smallest * sqrt(counting / (counting + max(0, then - now)))


def _given(
    name: str, weights: dict[str, float], arm: str, experiment: Experiment, baseline: Baseline, aim: Aim
) -> Plan:
    both = weights[arm] + weights[experiment.control]
    if not weights[arm] or not weights[experiment.control]:
        raise InputError(f"arm {arm} or the control has weight 0, both must have some to be compared")
    comparisons = _comparisons(experiment, "primary")
    alpha, share = experiment.analysis.alpha / comparisons, weights[arm] / both
    estimate = Estimate(2, baseline.mean, baseline.deviation**2 / 2)
    lifted = _share_variance(baseline.mean * (1.0 + aim.lift)) if baseline.share else None
    found = units_needed(
        aim.lift, estimate, arm_share=share, alpha=alpha, power=aim.power, arm_variance=lifted
    )
    if found.units is None or found.control_units is None:
        raise InputError(f"no number of units finds a lift of {aim.lift} at this baseline ({found.status})")
    needed = found.units + found.control_units
    all_needed = ceil(needed * sum(weights.values()) / both)
    per_day, smallest, units = baseline.units_per_day, None, 0
    if aim.days is not None and per_day is not None:
        units = int(per_day * aim.days * both / sum(weights.values()))
        smallest = _smallest(baseline, units, share, alpha, aim.power)
    days = None if per_day is None else ceil(all_needed / per_day)
    return Plan(
        name, "primary", arm, "ok", comparisons, 0, baseline.mean, 1.0, aim.lift,
        smallest_later=smallest, units_needed=needed, all_units_needed=all_needed, reached=False,
        wait=None if days is None else Wait("ok", days, days, days),
    )  # fmt: skip


def _smallest(baseline: Baseline, units: int, share: float, alpha: float, power: float) -> float | None:
    """Give the smallest lift that so many units of both arms detect."""
    if units * min(share, 1.0 - share) < 2:
        return None
    error = baseline.deviation / sqrt(units * share * (1.0 - share))
    found = minimum_detectable(error, baseline.mean, alpha=alpha, power=power).relative
    return found if found is not None and isfinite(found) else None
