"""Trust checks: whether a run's lift rests on what it should."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, case, func, or_, select

from armlift import fallbacks
from armlift.aggregates import Question, Stratum
from armlift.answers import Answers
from armlift.check import Check, level
from armlift.comparisons import compare_before, obstacle_of
from armlift.days import Calendar
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.lateness import Arrived, arrived
from armlift.log_checks import answered_pairs, random_exposure
from armlift.metric import Metrics
from armlift.model_checks import stale_model, symbiosis
from armlift.runs import Run
from armlift.splitter import generations
from armlift.stats import srm
from armlift.stats.results import CheckStatus
from armlift.stats.tails import least_units
from armlift.store.tables import aliases, exposures, impressions

SEVERAL_ARMS_WARN, SEVERAL_ARMS_FAIL = 0.01, 0.10
UNSHOWN_WARN, UNSHOWN_FAIL = 0.01, 0.10
"""Shares of units exposed to several arms, and of units exposed without an impression."""
BIAS_WARN, BIAS_FAIL = 0.01, 0.001
"""P-values below which arms were not alike before they met their units."""
FALLBACKS_WARN, FALLBACKS_FAIL = 0.01, 0.10
"""Shares of an arm's impressions that another arm answered."""
LATE_WARN = 0.01
"""Share of events that were late."""
DISPUTED_WARN, DISPUTED_FAIL = 0.01, 0.10
"""Shares of merged ids whose unit is in doubt."""


def make_checks(
    run: Run,
    experiment: Experiment,
    metrics: Metrics,
    answers: Answers,
    question: Question,
    calendar: Calendar,
) -> list[Check]:
    """Check what a lift rests on: random exposure, the split, who is left out, the past, events, and more."""
    return [
        random_exposure(run),
        *answered_pairs(run),
        *_sample_ratios(run, experiment, answers),
        _several_arms(run, answers),
        _exclusions(experiment, answers),
        _pre_exposure_bias(run, experiment, metrics, answers),
        _heavy_tails(run, experiment, metrics, answers),
        _unshown(run, answers, question),
        _fallbacks(run, answers, question),
        stale_model(run, answers, question),
        symbiosis(run, experiment),
        _late(run, answers, question, calendar),
        _merged_ids(run, answers),
    ]


def _sample_ratios(run: Run, experiment: Experiment, totals: Answers) -> list[Check]:
    """Check the split, once and at every look.

    A live run is looked at again and again: there the test that holds at every look decides.
    """
    if run.paired:
        meaning = "every unit meets every arm"
        return [Check(name, "not_applicable", None, meaning) for name in ("srm", "srm_always_valid")]
    counts = totals.assigned()
    strata = split_strata(experiment, totals)
    if not strata:
        return [Check(name, "no_data", None, "no unit was exposed") for name in ("srm", "srm_always_valid")]
    once, always = srm.sample_ratio_strata(strata), srm.sequential_sample_ratio_strata(strata)
    units = [sum(n for stratum, n in counts.items() if stratum.arm == arm) for arm in experiment.arms]
    held = f"the arms hold {' : '.join(map(str, units))} units; p below .001 means the split is off"
    at_once = "warn" if run.live and once.status == "fail" and always.status != "fail" else once.status
    return [
        Check("srm", at_once, once.p_value, held),
        Check("srm_always_valid", always.status, always.p_value, f"{held}, however often it is looked at"),
    ]


def split_strata(experiment: Experiment, totals: Answers) -> list[srm.Stratum]:
    """Give the units of each stratum, in the order of the arms, beside the weights that held then."""
    counts = totals.assigned()
    weights = dict(generations(experiment))
    return [
        srm.Stratum(
            [counts.get(Stratum(arm, generation, phase), 0) for arm in experiment.arms],
            [weights[generation][arm] for arm in experiment.arms],
        )
        for generation, phase in sorted({(s.generation, s.phase) for s in counts})
    ]


def _pre_exposure_bias(run: Run, experiment: Experiment, metrics: Metrics, totals: Answers) -> Check:
    """Check that arms were alike before they met their units: the least p of all primary metrics and arms.

    Where no primary metric has a past, the others tell.
    """
    name = "pre_exposure_bias"
    if run.paired:
        return Check(name, "not_applicable", None, "every unit meets every arm")
    told = experiment.metrics
    found = _past_differences(experiment, metrics, totals, told.primary) or _past_differences(
        experiment, metrics, totals, (*told.secondary, *told.guardrails)
    )
    if not found:
        return Check(name, "no_data", None, "nothing is known of units before their first exposure")
    least = min(found, key=lambda one: found[one])
    p_value = min(1.0, found[least] * len(found))
    status: CheckStatus = "fail" if p_value < BIAS_FAIL else "warn" if p_value < BIAS_WARN else "ok"
    meaning = f"before first exposure {least} differs most from the control's; p is Bonferroni's"
    return Check(name, status, p_value, meaning)


def _past_differences(
    experiment: Experiment, metrics: Metrics, totals: Answers, names: Sequence[str]
) -> dict[str, float]:
    """Give the p-value of what units did before, by metric and arm, where it is known."""
    alpha = experiment.analysis.alpha
    found = {}
    for metric in names:
        for arm in experiment.challengers:
            effect = compare_before(metrics[metric], metric, arm, experiment.control, totals, alpha)
            if effect.p_value is not None:
                found[f"{metric} of {arm}"] = effect.p_value
    return found


def _exclusions(experiment: Experiment, totals: Answers) -> Check:
    """Check that the rules leave out as many units of each arm as it has."""
    name = "exclusions"
    if not experiment.analysis.exclusions:
        return Check(name, "not_applicable", None, "no rule leaves out units")
    excluded, assigned = totals.excluded(), totals.assigned()
    units = {arm: sum(n for s, n in assigned.items() if s.arm == arm) for arm in experiment.arms}
    if not any(units.values()):
        return Check(name, "no_data", None, "no unit was exposed")
    left_out = [excluded.get(arm, 0) for arm in experiment.arms]
    share = sum(left_out) / sum(units.values())
    told = f"units that the rules leave out, {' : '.join(map(str, left_out))} by arm"
    expected = [float(units[arm]) for arm in experiment.arms]
    found = srm.sample_ratio_strata([srm.Stratum(left_out, expected)])
    # Too few units to test are too few to matter.
    status: CheckStatus = "ok" if found.status == "no_data" else found.status
    return Check(name, status, share, f"{told}; they fail where an arm changes who is left out")


def _heavy_tails(run: Run, experiment: Experiment, metrics: Metrics, totals: Answers) -> Check:
    """Check that arms have the units that the skewness of the metrics that decide asks for."""
    name = "heavy_tails"
    if run.paired:
        return Check(name, "not_applicable", None, "arms are compared within units")
    worst: tuple[float, str] | None = None
    for metric in (*experiment.metrics.primary, *experiment.metrics.guardrails):
        if metrics[metric].kind == "quantile" or obstacle_of(run, metrics[metric]):
            continue
        for arm, (n, skewness) in totals.skewness(metric).items():
            if arm in experiment.arms and n >= experiment.analysis.minimum_units:
                needed = least_units(skewness)
                told = f"{metric} of {arm}, of skewness {abs(skewness):.3g}, asks for {needed:,} units"
                worst = max(worst or (0.0, ""), (needed / n, f"{told}, there are {n:,}"))
    if worst is None:
        return Check(name, "no_data", None, "no arm has units enough to be compared")
    short = worst[0] > 1
    meaning = f"most of all {worst[1]}{'; its interval misses more often than it says' if short else ''}"
    return Check(name, "warn" if short else "ok", worst[0], meaning)


def _several_arms(run: Run, totals: Answers) -> Check:
    if run.paired:
        return Check("several_exposures", "not_applicable", None, "every unit meets every arm")
    excluded = totals.left_out()["several_arms"]
    units = excluded + sum(totals.assigned().values())
    share = excluded / units if units else None
    return Check(
        "several_exposures",
        level(share, SEVERAL_ARMS_WARN, SEVERAL_ARMS_FAIL),
        share,
        "units that met more than one arm; they are left out of every figure",
    )


def _unshown(run: Run, answers: Answers, question: Question) -> Check:
    """Check that exposed units were shown something: an exposure without an impression lost its events."""
    if run.paired:
        return Check("event_loss", "not_applicable", None, "every unit meets every arm")
    if not run.shows_all:
        return Check("event_loss", "not_applicable", None, "not every request has an impression that counts")
    if run.imported and IMPRESSION_KIND not in list(run.log["kinds"]):  # type: ignore[call-overload]
        return Check("event_loss", "not_applicable", None, "no impressions were imported")
    units, unshown = answers.ask("unshown", lambda connection: _count_unshown(connection, run, question))
    share = unshown / units if units else None
    return Check(
        "event_loss",
        level(share, UNSHOWN_WARN, UNSHOWN_FAIL),
        share,
        "exposed units without an impression since",
    )


def _count_unshown(connection: Connection, run: Run, question: Question) -> tuple[int, int]:
    """Count the exposed units, and those without an impression from then until the day asked for."""
    e, i = exposures.c, impressions.c
    since = (i.run == run.run, i.unit_id == e.unit_id, i.ts >= e.ts, i.day <= question.as_of_day)
    shown = select(i.unit_id).where(*since).exists()
    of_run = (e.run == run.run, e.experiment == question.experiment, e.ts <= question.as_of)
    count = select(func.count(e.unit_id.distinct()))
    units = connection.execute(count.where(*of_run)).scalar_one()
    return units, connection.execute(count.where(*of_run, ~shown)).scalar_one()


def _fallbacks(run: Run, answers: Answers, question: Question) -> Check:
    """Check that arms answered for themselves: of the arm that did least, the share that the fallback did."""
    found: Mapping[str, Sequence[int]] = answers.ask(
        "fallbacks",
        lambda connection: fallbacks.count(
            connection, run.run, question.experiment, list(run.arms),
            as_of_day=question.as_of_day, live=run.live,
        ),
    )  # fmt: skip
    shares = {arm: number / shown for arm, (number, shown) in found.items() if number}
    if not shares:
        return Check("fallbacks", "ok", 0.0, "no impression was a fallback's in an arm's name")
    told = ", ".join(f"{share:.1%} of {arm}'s" for arm, share in shares.items())
    worst = max(shares.values())
    meaning = f"impressions that were a fallback's, in the arm's name: {told}"
    return Check("fallbacks", level(worst, FALLBACKS_WARN, FALLBACKS_FAIL), worst, meaning)


def _late(run: Run, answers: Answers, question: Question, calendar: Calendar) -> Check:
    """Check that events arrived in time, and that the days asked for are complete."""
    if not run.live:
        told = "the events of a replay are as old as its log"
        if run.simulated:
            told = "simulated events arrive when they are made"
        if run.imported:
            told = "events were imported when the experiment was over"
        return Check("lateness", "not_applicable", None, told)
    counted = answers.ask("arrived", lambda connection: arrived(connection, run.run, question.as_of_day))
    if counted is None:
        return Check("lateness", "no_data", None, "no event has arrived")
    found = Arrived(*counted)
    share = found.late / found.events
    today = calendar.day(found.watermark)
    complete = calendar.show(calendar.start_of(today - 1))[:10]
    whole = question.as_of_day < today
    meaning = (
        f"{found.late} of {found.events} events arrived late; they count. Days up to {complete} are complete"
        + ("" if whole else ", the report's last ones may still grow")
    )
    return Check("lateness", "ok" if whole and share < LATE_WARN else "warn", share, meaning)


def _merged_ids(run: Run, answers: Answers) -> Check:
    """Check that merged ids have one unit: none is claimed by two, or by one that is merged itself."""
    ids, doubtful = answers.ask("merged_ids", lambda connection: _count_merged(connection, run))
    if not ids:
        return Check("merged_ids", "not_applicable", None, "no id was merged into another")
    share = doubtful / ids
    return Check(
        "merged_ids",
        level(share, DISPUTED_WARN, DISPUTED_FAIL),
        share,
        f"of {ids} merged ids {doubtful} are claimed by several units, or by one that is merged itself; "
        "the first merge counts, one step far",
    )


def _count_merged(connection: Connection, run: Run) -> tuple[int, int]:
    """Count the merged ids, and those in doubt."""
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
    count = select(func.count(), func.coalesce(func.sum(disputed), 0)).select_from(of_id)
    ids, doubtful = connection.execute(count).one()
    return ids, doubtful
