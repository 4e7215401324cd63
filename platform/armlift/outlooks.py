"""Outlooks: what a run's figures say of an experiment like it that begins anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

from armlift.answers import Answers
from armlift.comparisons import Found, compare_arms
from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.forecasts import Wait, arrivals_of, lasting, units_after
from armlift.metric import Metrics
from armlift.planning import Aim, Plan, counting_units, lag_of, plan_run
from armlift.report import question_of
from armlift.runs import Run


class Planned(NamedTuple):
    """A run's comparisons, its new units by complete day (oldest first), and the plan of each comparison."""

    experiment: Experiment
    metrics: Metrics
    found: Sequence[Found]
    arrivals: Sequence[int]
    plans: Sequence[Plan]


def plan_from(
    run: Run, calendar: Calendar, at: int, totals: Answers, aim: Aim, *, alpha: float | None = None
) -> Planned:
    """Plan every comparison of a run as of a time (UTC milliseconds) from answers, wherever they come from.

    `alpha` stands in place of the analysis plan's. Raises InputError where power does not exceed alpha, and
    StoreError where the answers are kept ones that lack some.
    """
    experiment, metrics = run.parsed()
    if alpha is not None:
        analysis = experiment.analysis.model_copy(update={"alpha": alpha})
        experiment = experiment.model_copy(update={"analysis": analysis})
    arrivals = arrivals_of(totals, question_of(run, calendar, at), calendar)
    found = compare_arms(run, experiment, metrics, totals)
    plans = plan_run(found, experiment, metrics, totals, arrivals, aim)
    return Planned(experiment, metrics, found, arrivals, plans)


@dataclass(frozen=True)
class Outlook:
    """What one plan means for an experiment that begins anew with `traffic` times the run's traffic.

    `counting` are the run's units that count in the metric, by arm; a unit counts `lag` days after it came.
    Days are counted from the first one on.
    """

    plan: Plan
    counting: dict[str, int]
    arrivals: Sequence[int]
    lag: int
    traffic: float = 1.0

    @property
    def units_by_arm(self) -> dict[str, int] | None:
        """Give the units needed of each arm, at the shares of the run; None where that is not known."""
        if self.plan.all_units_needed is None:
            return None
        units = sum(self.counting.values())
        return {arm: ceil(self.plan.all_units_needed * n / units) for arm, n in self.counting.items()}

    @property
    def lasts(self) -> Wait | None:
        """Say in how many days all the units needed are there; None where it is not known how many are."""
        if self.plan.all_units_needed is None:
            return None
        return lasting(self.arrivals, ceil(self.plan.all_units_needed / self.traffic), lag=self.lag)

    def detects(self, days: int) -> float | None:
        """Give the smallest lift, a fraction, that the units of so many days find; it falls as their root."""
        smallest, units = self.plan.smallest_lift, sum(self.counting.values())
        now = units_after(self.arrivals, -self.lag)
        then = units_after(self.arrivals, days - len(self.arrivals) - self.lag)
        if smallest is None or now is None or then is None or units + then <= now:
            return None
        return smallest * sqrt(units / (self.traffic * (units + then - now)))


def outlook_of(planned: Planned, place: int, totals: Answers, traffic: float) -> Outlook:
    """Give the outlook of the comparison at a place of a plan."""
    one = planned.found[place]
    return Outlook(
        planned.plans[place],
        counting_units(one, planned.experiment, totals),
        planned.arrivals,
        lag_of(planned.metrics[one.comparison.metric]),
        traffic,
    )


def traffic_of(experiment: Experiment) -> float:
    """Give the share of all units that the last phase with any lets take part, within the layer's slice."""
    low, high = experiment.layer.slice
    shares = [phase.traffic for phase in experiment.phases if phase.traffic]
    return (shares[-1] if shares else 1.0) * (high - low)
