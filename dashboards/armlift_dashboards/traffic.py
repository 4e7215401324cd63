"""What the page Traffic shows: events by day and run, and which units met which arm when."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from armlift.answers import Answers
from armlift.check import Check
from armlift.checks import split_strata
from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.runs import LIVE
from armlift.store.tables import arrivals, runs, snapshots
from armlift_dashboards.series import Arrived
from armlift_dashboards.series import arrivals as arrivals_of

DAYS = 30
"""Days of events that are shown, the newest ones."""
MOST_RUNS = 6
"""Runs that are told apart, those with the newest events; the others are counted together."""
OTHERS = "other runs"
BY_ARM = "arrivals_by_arm"
_HOUR = 3_600_000.0


class Events(NamedTuple):
    """Events of a run on a day, as they arrived; `late` is None where it tells nothing: they are not live."""

    run: str
    day: int
    events: int
    late: int | None
    per_hour: float


class RunOf(NamedTuple):
    """A run of an experiment, and its newest snapshot with the time (UTC ms) that is as of, if it has one."""

    run: str
    number: int
    mode: str
    paired: bool
    snapshot: str | None
    as_of: int | None


class ArmShare(NamedTuple):
    """An arm's units, and those that its weights lead to expect of all units there are."""

    arm: str
    units: int
    expected: float


class Split(NamedTuple):
    """How a snapshot's units were split; `days` is empty in a snapshot that did not keep them."""

    as_of: int
    arms: list[ArmShare]
    checks: list[Check]
    days: list[Arrived]

    @property
    def units(self) -> int:
        """Count the units of all arms."""
        return sum(one.units for one in self.arms)


def day_text(day: int) -> str:
    """Write a day of the lab's calendar."""
    return f"{date(1970, 1, 1) + timedelta(days=day):%d %b %Y}"


def labels(connection: Connection) -> dict[str, str]:
    """Name the runs for people: by their id, cut short, and the experiments that have their events."""
    found: dict[str, list[str]] = {}
    for run, experiment in connection.execute(select(runs.c.run, runs.c.experiment).order_by(runs.c.number)):
        found.setdefault(run, []).append(experiment)
    return {run: f"{run[:12]} ({', '.join(names)})" for run, names in found.items()}


def events(connection: Connection, calendar: Calendar, now: int) -> list[Events]:
    """Count the events of the newest days that have any, the newest day first, by run."""
    a = arrivals.c
    live = set(connection.execute(select(runs.c.run).where(runs.c.mode == LIVE)).scalars())
    newest = connection.execute(select(a.day).distinct().order_by(a.day.desc()).limit(DAYS)).scalars().all()
    asked = select(a.run, a.day, func.sum(a.events), func.sum(a.late)).where(a.day.in_(newest))
    found = connection.execute(asked.group_by(a.run, a.day).order_by(a.day.desc(), a.run)).all()
    return [
        Events(
            run, day, int(count), int(late) if run in live else None, int(count) / _hours(calendar, day, now)
        )
        for run, day, count, late in found
    ]


def _hours(calendar: Calendar, day: int, now: int) -> float:
    """Give the hours of a day that have passed; a part of the first one counts as a whole one."""
    begun = calendar.start_of(day)
    return max(1.0, (min(now, calendar.start_of(day + 1)) - begun) / _HOUR)


def grouped(found: Sequence[Events]) -> list[str]:
    """Name the runs that are told apart: those whose events are the newest."""
    return list(dict.fromkeys(one.run for one in found))[:MOST_RUNS]


def experiments(connection: Connection) -> list[str]:
    """Name the experiments that have a run, that with the newest one first."""
    r = runs.c
    asked = select(r.experiment).group_by(r.experiment).order_by(func.max(r.number).desc(), r.experiment)
    return list(connection.execute(asked).scalars())


def runs_of(connection: Connection, experiment: str) -> list[RunOf]:
    """List the runs of an experiment, the newest first."""
    r, s = runs.c, snapshots.c
    place = func.row_number().over(partition_by=s.run, order_by=(s.created.desc(), s.as_of.desc(), s.id))
    ranked = select(s.run, s.id, s.as_of, place.label("place")).where(s.experiment == experiment).subquery()
    asked = (
        select(r.run, r.number, r.mode, r.paired, ranked.c.id, ranked.c.as_of)
        .outerjoin(ranked, (ranked.c.run == r.run) & (ranked.c.place == 1))
        .where(r.experiment == experiment)
        .order_by(r.number.desc())
    )
    return [RunOf(*row) for row in connection.execute(asked)]


def assignments(kept: Mapping[str, Any]) -> list[Arrived]:
    """Give the units by arm and day of first exposure that a snapshot's answers hold, the earliest day first.

    Snapshots of older versions hold none.
    """
    found = arrivals_of(kept) if BY_ARM in kept else []
    return sorted(found, key=lambda one: one.day)


def split_of(connection: Connection, snapshot: str) -> Split | None:
    """Read how the units of a snapshot were split; None where it is gone."""
    s = snapshots.c
    row = connection.execute(select(s.as_of, s.aggregates, s.report).where(s.id == snapshot)).first()
    if row is None:
        return None
    as_of, aggregates, report = row
    kept = aggregates["answers"]
    checks = [Check(**one) for one in report["checks"] if one["name"] in ("srm", "srm_always_valid")]
    return Split(
        as_of, shares(aggregates["run"]["definition"]["experiment"], kept), checks, assignments(kept)
    )


def shares(definition: Mapping[str, Any], kept: Mapping[str, Any]) -> list[ArmShare]:
    """Hold each arm's units against those expected by the weights, which may have changed meanwhile."""
    experiment = Experiment.model_validate(definition)
    observed, expected = ([0.0] * len(experiment.arms) for _ in range(2))
    for stratum in split_strata(experiment, Answers(kept)):
        of_all = sum(stratum.observed) / sum(stratum.weights)
        for place, (units, weight) in enumerate(zip(stratum.observed, stratum.weights, strict=True)):
            observed[place] += units
            expected[place] += of_all * weight
    return [
        ArmShare(arm, int(units), wanted)
        for arm, units, wanted in zip(experiment.arms, observed, expected, strict=True)
    ]
