"""Trust checks: whether a run's lift rests on what it should."""

from typing import NamedTuple

from sqlalchemy import Connection, case, func, or_, select

from armlift.aggregates import Question, Stratum, UnitTotals
from armlift.days import Calendar
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.lateness import arrived
from armlift.runs import IMPORTED, LIVE, Run
from armlift.splitter import generations
from armlift.stats import srm
from armlift.stats.results import CheckStatus
from armlift.store.tables import aliases, exposures, impressions

SEVERAL_ARMS_WARN, SEVERAL_ARMS_FAIL = 0.01, 0.10
UNSHOWN_WARN, UNSHOWN_FAIL = 0.01, 0.10
"""Shares of units exposed to several arms, and of units exposed without an impression."""
LATE_WARN = 0.01
"""Share of events that were late."""
DISPUTED_WARN, DISPUTED_FAIL = 0.01, 0.10
"""Shares of merged ids whose unit is in doubt."""


class Check(NamedTuple):
    """A trust check: its status, the number it rests on, and what it means."""

    name: str
    status: CheckStatus
    value: float | None
    meaning: str


def make_checks(
    connection: Connection,
    run: Run,
    experiment: Experiment,
    totals: UnitTotals,
    question: Question,
    calendar: Calendar,
) -> list[Check]:
    """Check what a lift rests on: random exposure, the split, single arms, events, ids."""
    return [
        _random_exposure(run),
        _sample_ratio(run, experiment, totals),
        _several_arms(run, totals),
        _unshown(connection, run, question),
        _late(connection, run, question, calendar),
        _merged_ids(connection, run),
    ]


def _random_exposure(run: Run) -> Check:
    if run.mode == IMPORTED:
        return Check(
            "random_exposure", "not_applicable", None, "no log was replayed: arms chose what was shown"
        )
    rows, random = run.resolution["rows"], run.resolution["random_rows"]
    share = None if random is None or not rows else random / rows
    status: CheckStatus = "ok" if share == 1.0 else "warn"
    if share is None:
        meaning = "the log does not say which rows were shown at random: lifts may be biased by its policy"
    elif status == "warn":
        meaning = (
            f"{share:.1%} of the replayed rows were shown at random: lifts may be biased by the log's policy"
        )
    else:
        meaning = "every replayed row was shown uniformly at random"
    return Check("random_exposure", status, share, meaning)


def _sample_ratio(run: Run, experiment: Experiment, totals: UnitTotals) -> Check:
    if run.paired:
        return Check("srm", "not_applicable", None, "every unit meets every arm")
    counts = totals.counts()
    weights = dict(generations(experiment))
    strata = [
        srm.Stratum(
            [counts.get(Stratum(arm, generation, phase), 0) for arm in experiment.arms],
            [weights[generation][arm] for arm in experiment.arms],
        )
        for generation, phase in sorted({(s.generation, s.phase) for s in counts})
    ]
    found = srm.sample_ratio_strata(strata) if strata else None
    if found is None:
        return Check("srm", "no_data", None, "no unit was exposed")
    units = [sum(n for stratum, n in counts.items() if stratum.arm == arm) for arm in experiment.arms]
    meaning = f"the arms hold {' : '.join(map(str, units))} units; p below .001 means the split is off"
    return Check("srm", found.status, found.p_value, meaning)


def _several_arms(run: Run, totals: UnitTotals) -> Check:
    if run.paired:
        return Check("several_exposures", "not_applicable", None, "every unit meets every arm")
    excluded = totals.left_out()["several_arms"]
    units = excluded + sum(totals.counts().values())
    share = excluded / units if units else None
    return Check(
        "several_exposures",
        _level(share, SEVERAL_ARMS_WARN, SEVERAL_ARMS_FAIL),
        share,
        "units that met more than one arm; they are left out of every figure",
    )


def _unshown(connection: Connection, run: Run, question: Question) -> Check:
    """Check that exposed units were shown something: an exposure without an impression lost its events."""
    if run.paired:
        return Check("event_loss", "not_applicable", None, "every unit meets every arm")
    if run.mode == "match":
        return Check("event_loss", "not_applicable", None, "not every request has an impression that counts")
    if run.mode == IMPORTED and IMPRESSION_KIND not in list(run.log["kinds"]):  # type: ignore[call-overload]
        return Check("event_loss", "not_applicable", None, "no impressions were imported")
    e, i = exposures.c, impressions.c
    shown = select(i.unit_id).where(i.run == run.run, i.unit_id == e.unit_id, i.ts >= e.ts).exists()
    of_run = (e.run == run.run, e.experiment == question.experiment, e.ts <= question.as_of)
    count = select(func.count(e.unit_id.distinct()))
    units = connection.execute(count.where(*of_run)).scalar_one()
    unshown = connection.execute(count.where(*of_run, ~shown)).scalar_one()
    share = unshown / units if units else None
    return Check(
        "event_loss",
        _level(share, UNSHOWN_WARN, UNSHOWN_FAIL),
        share,
        "exposed units without an impression since",
    )


def _late(connection: Connection, run: Run, question: Question, calendar: Calendar) -> Check:
    """Check that events arrived in time, and that the days asked for are complete."""
    if run.mode != LIVE:
        told = "the events of a replay are as old as its log"
        if run.mode == IMPORTED:
            told = "events were imported when the experiment was over"
        return Check("lateness", "not_applicable", None, told)
    found = arrived(connection, run.run, question.as_of_day)
    if found is None:
        return Check("lateness", "no_data", None, "no event has arrived")
    share = found.late / found.events
    today = calendar.day(found.watermark)
    complete = calendar.show(calendar.start_of(today - 1))[:10]
    whole = question.as_of_day < today
    meaning = (
        f"{found.late} of {found.events} events arrived late; they count. Days up to {complete} are complete"
        + ("" if whole else ", the report's last ones may still grow")
    )
    return Check("lateness", "ok" if whole and share < LATE_WARN else "warn", share, meaning)


def _merged_ids(connection: Connection, run: Run) -> Check:
    """Check that merged ids have one unit: none is claimed by two, or by one that is merged itself."""
    a, into = aliases.c, aliases.alias()
    chained = select(into.c.run).where(into.c.run == a.run, into.c.anonymous_id == a.unit_id).exists()
    of_id = (
        select(
            func.count(a.unit_id.distinct()).label("units"),
            func.max(case((chained, 1), else_=0)).label("chained"),
        )
        .where(a.run == run.run)
        .group_by(a.anonymous_id)
        .subquery()
    )
    disputed = case((or_(of_id.c.units > 1, of_id.c.chained == 1), 1), else_=0)
    ids, doubtful = connection.execute(select(func.count(), func.sum(disputed)).select_from(of_id)).one()
    if not ids:
        return Check("merged_ids", "not_applicable", None, "no id was merged into another")
    share = doubtful / ids
    return Check(
        "merged_ids",
        _level(share, DISPUTED_WARN, DISPUTED_FAIL),
        share,
        f"of {ids} merged ids {doubtful} are claimed by several units, or by one that is merged itself; "
        "the first merge counts, one step far",
    )


def _level(share: float | None, warn: float, fail: float) -> CheckStatus:
    if share is None:
        return "no_data"
    if share >= fail:
        return "fail"
    return "warn" if share >= warn else "ok"
