"""The report of a run: metrics by arm against the control, trust checks, resolution, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, select

from armlift.aggregates import Question, Stratum, UnitTotals
from armlift.days import Calendar
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.metric import Metric, Metrics, measures
from armlift.runs import Run
from armlift.splitter import generations
from armlift.stats import srm
from armlift.stats.aggregates import Aggregates, merge_all
from armlift.stats.means import proportion, welch
from armlift.stats.multiplicity import benjamini_hochberg, holm
from armlift.stats.paired import paired_means, paired_ratios
from armlift.stats.power import minimum_detectable
from armlift.stats.ratios import delta_ratio
from armlift.stats.results import CheckStatus, Effect, Rules
from armlift.store.tables import exposures, impressions
from armlift.verdict import Evidence, Trust, Verdict, judge

SEVERAL_ARMS_WARN, SEVERAL_ARMS_FAIL = 0.01, 0.10
UNSHOWN_WARN, UNSHOWN_FAIL = 0.01, 0.10
"""Shares of units exposed to several arms, and of units exposed without an impression."""


@dataclass(frozen=True)
class Comparison:
    """A metric of a challenger against the control; `lift` is a fraction, unknown is None."""

    metric: str
    role: str
    arm: str
    control: str
    segment: str | None
    method: str | None
    adjusted: str | None
    units: int
    control_units: int
    mean: float | None
    control_mean: float | None
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    always_low: float | None
    always_high: float | None
    p_value: float | None
    p_adjusted: float | None
    status: str


class Check(NamedTuple):
    """A trust check: its status, the number it rests on, and what it means."""

    name: str
    status: CheckStatus
    value: float | None
    meaning: str


@dataclass(frozen=True)
class Report:
    """Everything a run says; `as_dict` gives the fixed shape of `armlift report --json`."""

    run: Run
    experiment: Experiment
    metrics: Metrics
    as_of: str
    resolution: Mapping[str, Any]
    verdict: Verdict
    comparisons: Sequence[Comparison]
    checks: Sequence[Check]
    dropped: Mapping[str, int]
    sql: str

    def as_dict(self) -> dict[str, Any]:
        """Give the report as plain data."""
        return {
            "run": self.run.run,
            "experiment": self.run.experiment,
            "mode": self.run.mode,
            "paired": self.run.paired,
            "k": self.run.k,
            "seed": self.run.seed,
            "synthetic": self.run.synthetic,
            "as_of": self.as_of,
            "snapshot": None,
            "resolution": dict(self.resolution),
            "verdict": {"status": self.verdict.status, "reasons": list(self.verdict.reasons)},
            "comparisons": [asdict(one) for one in self.comparisons],
            "checks": [one._asdict() for one in self.checks],
            "dropped": dict(self.dropped),
        }


def make_report(engine: Engine, run: Run, calendar: Calendar, *, as_of: int | None = None) -> Report:
    """Compute a run's report as of a time (UTC milliseconds; its day is the last to count) or its end."""
    experiment, metrics = run.parsed()
    end = int(str(run.log["last_ts"]))
    at = end if as_of is None else as_of
    question = Question(run.run, experiment.name, run.paired, at, calendar.day(at))
    with engine.connect() as connection:
        totals = UnitTotals(connection, question, metrics)
        comparisons = _compare(run, experiment, metrics, totals)
        matched = _matched(connection, run, question)
        checks = _checks(connection, run, experiment, totals, question)
        left_out = totals.left_out()
    resolution = _resolution(run, experiment, comparisons, matched)
    verdict = judge(
        [_evidence(one, metrics[one.metric]) for one, _ in comparisons],
        Trust(
            checks={check.name: check.status for check in checks},
            replay=True,
            differing=resolution["differing_requests"],
            matched=matched,
            alpha=experiment.analysis.alpha,
        ),
    )
    return Report(
        run=run,
        experiment=experiment,
        metrics=metrics,
        as_of=calendar.show(at),
        resolution=resolution,
        verdict=verdict,
        comparisons=[one for one, _ in comparisons],
        checks=checks,
        dropped={**run.dropped, **{f"unit_{reason}": count for reason, count in left_out.items()}},
        sql=totals.sql,
    )


def _compare(
    run: Run, experiment: Experiment, metrics: Metrics, totals: UnitTotals
) -> list[tuple[Comparison, Effect | None]]:
    """Compare every challenger in every metric, then adjust p-values within each role's family."""
    rules = Rules(alpha=experiment.analysis.alpha, min_units=experiment.analysis.minimum_units)
    found: list[tuple[Comparison, Effect | None]] = []
    for name, role in experiment.metrics.roles.items():
        metric = metrics[name]
        obstacle = _obstacle(run, metric)
        arms = {} if run.paired else _by_arm(totals.by_stratum(name), experiment)
        for arm in experiment.challengers:
            if run.paired:
                effect = _paired(name, metric, arm, experiment.control, totals, rules)
            else:
                effect = _independent(metric, arms[arm], arms[experiment.control], rules)
            found.append((_comparison(name, role, arm, experiment.control, effect, obstacle), effect))
    adjusted = _adjust([one for one, _ in found])
    return [(one, effect) for one, (_, effect) in zip(adjusted, found, strict=True)]


def _by_arm(strata: Mapping[Stratum, Aggregates], experiment: Experiment) -> dict[str, Aggregates]:
    empty = Aggregates.empty(("num", "den"))
    return {
        arm: merge_all([empty, *(part for stratum, part in strata.items() if stratum.arm == arm)])
        for arm in experiment.arms
    }


def _independent(metric: Metric, arm: Aggregates, control: Aggregates, rules: Rules) -> Effect:
    if metric.kind == "ratio":
        return delta_ratio(arm, control, "num", "den", rules)
    if metric.kind == "proportion":
        return proportion(arm, control, "num", rules)
    return welch(arm, control, "num", rules)


def _paired(name: str, metric: Metric, arm: str, control: str, totals: UnitTotals, rules: Rules) -> Effect:
    pairs = totals.pairs(name, arm, control)
    if metric.kind != "ratio":
        return paired_means(pairs, "num", "control_num", rules)
    effect = paired_ratios(pairs, ("num", "den"), ("control_num", "control_den"), rules)
    carriers = totals.carriers(name)
    if effect.status != "no_data" and min(carriers.get(arm, 0), carriers.get(control, 0)) < rules.min_units:
        # A pair needs only one side with a denominator; each side needs enough of them by itself.
        return Effect.unknown(
            effect.method,
            "too_few",
            alpha=rules.alpha,
            n=effect.n,
            control_n=effect.control_n,
            mean=effect.mean,
            control_mean=effect.control_mean,
        )
    return effect


def _obstacle(run: Run, metric: Metric) -> str | None:
    """Say why a metric cannot be read off this run at all."""
    known = {IMPRESSION_KIND, *list(run.log["kinds"])}  # type: ignore[call-overload]
    parts = measures(metric).values()
    if any(measure.event not in known for measure in parts):
        return "no_data"
    # In `match` a sum rewards likeness to the logging policy; in no replay do units come back for the arm's
    # sake.
    if run.mode == "match" and metric.kind != "ratio":
        return "not_estimable"
    if any(measure.aggregate == "days" for measure in parts):
        return "not_estimable"
    return None


def _comparison(
    metric: str, role: str, arm: str, control: str, effect: Effect, obstacle: str | None
) -> Comparison:
    told = obstacle is None
    return Comparison(
        metric=metric,
        role=role,
        arm=arm,
        control=control,
        segment=None,
        method=effect.method if told else None,
        adjusted=None,
        units=effect.n,
        control_units=effect.control_n,
        mean=effect.mean if told else None,
        control_mean=effect.control_mean if told else None,
        lift=effect.lift if told else None,
        lift_low=effect.lift_low if told else None,
        lift_high=effect.lift_high if told else None,
        always_low=None,
        always_high=None,
        p_value=effect.p_value if told else None,
        p_adjusted=None,
        status=effect.status if obstacle is None else obstacle,
    )


def _adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Adjust p-values: Holm over primary metrics and arms, Benjamini-Hochberg over secondary ones."""
    adjusted = list(comparisons)
    for role, method, adjust in (
        ("primary", "holm", holm),
        ("secondary", "benjamini_hochberg", benjamini_hochberg),
    ):
        places = [index for index, one in enumerate(adjusted) if one.role == role]
        for index, p in zip(places, adjust([adjusted[i].p_value for i in places]), strict=True):
            one = adjusted[index]
            adjusted[index] = Comparison(**{**asdict(one), "adjusted": method, "p_adjusted": p})
    return adjusted


def _evidence(one: Comparison, metric: Metric) -> Evidence:
    return Evidence(
        metric=one.metric,
        role=one.role,
        arm=one.arm,
        status=one.status,
        lift=one.lift,
        lift_low=one.lift_low,
        lift_high=one.lift_high,
        p=one.p_adjusted if one.role != "guardrail" else one.p_value,
        good=1 if metric.direction == "increase" else -1,
        margin=metric.margin,
    )


def _matched(connection: Connection, run: Run, question: Question) -> dict[str, int]:
    """Count the impressions that count, by arm."""
    rows = connection.execute(
        select(impressions.c.arm, func.count())
        .where(impressions.c.run == run.run, impressions.c.day <= question.as_of_day)
        .group_by(impressions.c.arm)
    )
    found = {row[0]: row[1] for row in rows}
    return {arm: found.get(arm, 0) for arm in run.arms}


def _resolution(
    run: Run,
    experiment: Experiment,
    comparisons: Sequence[tuple[Comparison, Effect | None]],
    matched: Mapping[str, int],
) -> dict[str, Any]:
    """Say how finely this run can tell arms apart; `mde` is of the first primary metric, at 80 % power."""
    counts: Mapping[str, Any] = run.resolution
    compared = counts.get("compared", 0)
    first = experiment.metrics.primary[0]
    mde = {
        one.arm: _detectable(one, effect, experiment.analysis.alpha)
        for one, effect in comparisons
        if one.metric == first
    }
    known = [value for value in mde.values() if value is not None]
    return {
        "differing_requests": counts["differing"] / compared if compared else None,
        "matched": min(matched.values()),
        "mde": max(known) if len(known) == len(mde) else None,
        "compared_requests": compared,
        "by_arm": {
            arm: {
                "differing_requests": counts["differing_by_arm"][arm] / compared
                if compared and arm != experiment.control
                else None,
                "matched": matched[arm],
                "mde": mde.get(arm),
            }
            for arm in experiment.arms
        },
    }


def _detectable(one: Comparison, effect: Effect | None, alpha: float) -> float | None:
    if effect is None or one.status != "ok":
        return None
    return minimum_detectable(effect.standard_error, effect.control_mean, alpha=alpha).relative


def _checks(
    connection: Connection, run: Run, experiment: Experiment, totals: UnitTotals, question: Question
) -> list[Check]:
    return [
        _random_exposure(run),
        _sample_ratio(run, experiment, totals),
        _several_arms(run, totals),
        _unshown(connection, run, question),
    ]


def _random_exposure(run: Run) -> Check:
    rows, random = int(str(run.log["rows"])), run.log["random_rows"]
    share = None if random is None else int(str(random)) / rows
    status: CheckStatus = "ok" if share == 1.0 else "warn"
    if share is None:
        meaning = "the log does not say which exposures were random: lifts may be biased by its own policy"
    elif status == "warn":
        meaning = f"{share:.1%} of the log's exposures were random: lifts may be biased by its own policy"
    else:
        meaning = "every exposure of the log was uniformly random"
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
    meaning = (
        f"the arms hold {' : '.join(map(str, found.observed))} units; p below .001 means the split is off"
    )
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
    if run.paired or run.mode == "match":
        return Check("event_loss", "not_applicable", None, "not every request has an impression that counts")
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


def _level(share: float | None, warn: float, fail: float) -> CheckStatus:
    if share is None:
        return "no_data"
    if share >= fail:
        return "fail"
    return "warn" if share >= warn else "ok"
