"""Plans: the units and days of an experiment, from a stored snapshot or from numbers."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from armlift.answers import Answers
from armlift.days import Calendar
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.forecasts import Wait
from armlift.outlooks import Outlook, Planned, outlook_of, plan_from, traffic_of
from armlift.planning import Aim, Baseline, Plan, plan_given, plan_run
from armlift.runs import Run
from armlift.snapshots import Snapshot
from armlift.splitter import generations
from armlift.store.tables import snapshots

LIFTS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2)
"""The lifts, fractions, for which the units needed are shown."""
DAYS = range(1, 61)
"""The days for which the smallest lift is shown."""


class Choice(NamedTuple):
    """The newest snapshot of an experiment; `as_of` is in UTC milliseconds."""

    experiment: str
    snapshot: str
    as_of: int


class Asked(NamedTuple):
    """What is asked: lift, power, error and share of all units are fractions, days whole.

    `share` is None for the traffic that the baseline's run had.
    """

    lift: float
    power: float
    alpha: float
    days: int
    share: float | None = None


class Need(NamedTuple):
    """What a challenger takes: units of all arms, and of each, days from the first one on; unknown is None.

    `lift` is what is planned for, `detects` the smallest lift that the days asked for find.
    """

    arm: str
    status: str
    lift: float
    units: int | None
    by_arm: Mapping[str, int] | None
    lasts: Wait | None
    detects: float | None


class DayPoint(NamedTuple):
    """The smallest lift, a fraction, that so many days find; None where it is not known."""

    arm: str
    days: int
    lift: float | None


class LiftPoint(NamedTuple):
    """The units of all arms that find a lift, a fraction, and the days that takes; None if not known."""

    arm: str
    lift: float
    units: int | None
    days: int | None


class Answer(NamedTuple):
    """What a plan says of one metric; `margin` tells that a guardrail's margin is planned for."""

    metric: str
    role: str
    control: str
    control_mean: float | None
    margin: bool
    share: float
    arrivals: Sequence[int]
    needs: Sequence[Need]
    by_day: Sequence[DayPoint]
    by_lift: Sequence[LiftPoint]

    @property
    def units(self) -> int | None:
        """Give the units in all that every challenger's plan needs; None where one cannot be planned."""
        known = [one.units for one in self.needs if one.units is not None]
        return max(known) if known and len(known) == len(self.needs) else None


def choices(connection: Connection) -> list[Choice]:
    """List the experiments with snapshots, the one of the newest snapshot first."""
    s = snapshots.c
    place = (
        func.row_number()
        .over(partition_by=s.experiment, order_by=(s.created.desc(), s.as_of.desc(), s.id))
        .label("place")
    )
    each = select(s.experiment, s.id, s.as_of, s.created, place).subquery()
    query = (
        select(each.c.experiment, each.c.id, each.c.as_of)
        .where(each.c.place == 1)
        .order_by(each.c.created.desc(), each.c.experiment)
    )
    return [Choice(*row) for row in connection.execute(query)]


def experiment_of(snapshot: Snapshot) -> Experiment:
    """Give the experiment of a snapshot as it was; raises InputError where it tells no lift to plan for."""
    run = Run(**snapshot.aggregates["run"])
    if run.interleaved:
        raise InputError(
            f"{run.experiment}: its newest run is interleaved and tells a preference, no lift; plan from "
            "numbers, or from a run that is not"
        )
    return run.parsed()[0]


def from_snapshot(snapshot: Snapshot, metric: str, asked: Asked) -> Answer:
    """Plan a metric from a snapshot's kept answers alone, for an experiment that begins anew.

    Raises InputError where the numbers allow no plan, StoreError where an older snapshot lacks some.
    """
    run, kept = Run(**snapshot.aggregates["run"]), snapshot.aggregates
    totals, aim = Answers(kept["answers"], sql=snapshot.sql), Aim(asked.lift, asked.power)
    planned = plan_from(run, Calendar(kept["timezone"]), snapshot.as_of, totals, aim, alpha=asked.alpha)
    own = traffic_of(planned.experiment)
    share = own if asked.share is None else asked.share
    places = [p for p, one in enumerate(planned.found) if one.comparison.metric == metric]
    outlooks = [outlook_of(planned, place, totals, share / own) for place in places]
    first = outlooks[0].plan
    return Answer(
        metric=metric,
        role=first.role,
        control=planned.experiment.control,
        control_mean=first.control_mean,
        margin=first.role == "guardrail" and planned.metrics[metric].margin > 0,
        share=share,
        arrivals=planned.arrivals,
        needs=[_need(one, asked.days) for one in outlooks],
        by_day=[DayPoint(one.plan.arm, day, one.detects(day)) for day in DAYS for one in outlooks],
        by_lift=_by_lift(planned, places, totals, asked.power, share / own),
    )


def _need(one: Outlook, days: int) -> Need:
    plan = one.plan
    return Need(
        plan.arm,
        plan.status,
        plan.lift,
        plan.all_units_needed,
        one.units_by_arm,
        one.lasts,
        one.detects(days),
    )


def _by_lift(
    planned: Planned, places: Sequence[int], totals: Answers, power: float, traffic: float
) -> list[LiftPoint]:
    """Plan for each of LIFTS, of a guardrail too."""
    found = [planned.found[place] for place in places]
    name = found[0].comparison.metric
    metrics = {**planned.metrics, name: planned.metrics[name].model_copy(update={"margin": 0.0})}
    points = []
    for lift in LIFTS:
        plans = plan_run(found, planned.experiment, metrics, totals, planned.arrivals, Aim(lift, power))
        again = Planned(planned.experiment, metrics, found, planned.arrivals, plans)
        for place, plan in enumerate(plans):
            lasts = outlook_of(again, place, totals, traffic).lasts
            days = None if lasts is None else lasts.days
            points.append(LiftPoint(plan.arm, lift, plan.all_units_needed, days))
    return points


def from_numbers(experiment: Experiment, baseline: Baseline, asked: Asked) -> Answer:
    """Plan an experiment's first primary metric from numbers alone; raises InputError where none is possible.

    The baseline's units a day are those of all arms where all units take part.
    """
    analysis = experiment.analysis.model_copy(update={"alpha": asked.alpha})
    experiment = experiment.model_copy(update={"analysis": analysis})
    share = 1.0 if asked.share is None else asked.share
    per_day = baseline.units_per_day
    scaled = baseline._replace(units_per_day=None if per_day is None else per_day * share)
    plans = plan_given(experiment, scaled, Aim(asked.lift, asked.power, asked.days))
    by_day, by_lift = [], []
    for day in DAYS if per_day is not None else ():
        later = plan_given(experiment, scaled, Aim(asked.lift, asked.power, day))
        by_day += [DayPoint(one.arm, day, one.smallest_later) for one in later]
    for lift in LIFTS:
        found = plan_given(experiment, scaled, Aim(lift, asked.power))
        by_lift += [
            LiftPoint(one.arm, lift, one.all_units_needed, one.wait.days if one.wait else None)
            for one in found
        ]
    return Answer(
        metric=experiment.metrics.primary[0],
        role="primary",
        control=experiment.control,
        control_mean=baseline.mean,
        margin=False,
        share=share,
        arrivals=(),
        needs=[_given(experiment, one) for one in plans],
        by_day=by_day,
        by_lift=by_lift,
    )


def _given(experiment: Experiment, plan: Plan) -> Need:
    _, weights = generations(experiment)[-1]
    units, whole = plan.all_units_needed, sum(weights.values())
    by_arm = None if units is None else {arm: ceil(units * one / whole) for arm, one in weights.items()}
    return Need(plan.arm, plan.status, plan.lift, units, by_arm, plan.wait, plan.smallest_later)
