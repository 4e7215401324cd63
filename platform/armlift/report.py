"""The report of a run: metrics by arm against the control, trust checks, resolution, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from armlift.aggregates import Question
from armlift.answers import Answers
from armlift.check import Check
from armlift.checks import make_checks
from armlift.comparisons import Comparison, Found, compare_arms, compare_segments
from armlift.days import Calendar
from armlift.decisions import Decision
from armlift.evidence import Evidence
from armlift.experiment import Experiment
from armlift.log_checks import answered_shares
from armlift.metric import Metric, Metrics
from armlift.novelty import Novelty, novelties
from armlift.planning import NO_PROGRESS, Progress, counting_units, progress
from armlift.predictions import Predicted, predicted_of
from armlift.preferences import sentence_of
from armlift.runs import Run
from armlift.sentence import sentence
from armlift.stats.power import minimum_detectable
from armlift.store.database import reading
from armlift.store.tables import impressions
from armlift.trust import Trust
from armlift.truth import Truth, truths_of
from armlift.verdict import Verdict, judge

Reading = Callable[[Engine, Run, Question], AbstractContextManager[Connection]]
"""Lend a connection on which a question about a run is asked: to its database, or to what stands for it."""


@dataclass(frozen=True)
class Report:
    """Everything a run says; `as_dict` gives the fixed shape of `armlift report --json`.

    `answers` is what its numbers were computed from, see `Answers`; `snapshot` names where that is stored.
    `early` says that it was read before a fixed end, so that always-valid intervals decide. `progress` says
    how far the run has come.
    """

    run: Run
    experiment: Experiment
    metrics: Metrics
    as_of: str
    resolution: Mapping[str, Any]
    verdict: Verdict
    sentence: str
    comparisons: Sequence[Comparison]
    checks: Sequence[Check]
    dropped: Mapping[str, int]
    sql: str
    answers: Mapping[str, Any] = field(default_factory=dict)
    snapshot: str | None = None
    decisions: Sequence[Decision] = ()
    novelty: Sequence[Novelty] = ()
    predicted: Sequence[Predicted] = ()
    early: bool = False
    progress: Progress = NO_PROGRESS

    @property
    def truth(self) -> list[Truth]:
        """Give what is known of the true lifts: of a simulation, where that was asked for."""
        return truths_of(self.run.resolution)

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
            "snapshot": self.snapshot,
            "decisions": [one._asdict() for one in self.decisions],
            "early": self.early,
            "progress": self.progress._asdict(),
            "resolution": dict(self.resolution),
            "verdict": {
                "status": self.verdict.status,
                "sentence": self.sentence,
                "reasons": list(self.verdict.reasons),
                "why_not_ship": list(self.verdict.why_not_ship),
                "trace": [ruling._asdict() for ruling in self.verdict.trace],
                "days_left": self.verdict.days_left,
                "ships": list(self.verdict.ships),
            },
            "comparisons": [one.as_dict(preferences=self.run.interleaved) for one in self.comparisons],
            "checks": [one._asdict() for one in self.checks],
            "novelty": [asdict(one) for one in self.novelty],
            "truth": [one._asdict() for one in self.truth],
            "predicted": [asdict(one) for one in self.predicted],
            "dropped": dict(self.dropped),
        }


def in_database(engine: Engine, _run: Run, _question: Question) -> AbstractContextManager[Connection]:
    """Lend a connection to the database itself."""
    return reading(engine)


def make_report(
    engine: Engine, run: Run, calendar: Calendar, *, as_of: int | None = None, read: Reading = in_database
) -> Report:
    """Compute a run's report as of a time (UTC milliseconds; its day is the last to count) or its end."""
    _, metrics = run.parsed()
    at = time_of_report(run, as_of)
    question = question_of(run, calendar, at)
    with read(engine, run, question) as connection:
        return report_of(run, calendar, at, Answers.from_database(connection, question, metrics))


def time_of_report(run: Run, as_of: int | None) -> int:
    """Give the time (UTC milliseconds) a report is of: the one asked for, or the run's end."""
    return int(str(run.log["last_ts"])) if as_of is None else as_of


def report_of(run: Run, calendar: Calendar, at: int, answers: Answers) -> Report:
    """Compute a run's report as of a time (UTC milliseconds) from answers, wherever they come from."""
    experiment, metrics = run.parsed()
    question = question_of(run, calendar, at)
    found = compare_arms(run, experiment, metrics, answers)
    matched = (
        {}
        if run.imported or run.simulated or run.live
        else answers.ask("matched", lambda connection: _matched(connection, run, question))
    )
    checks = make_checks(run, experiment, metrics, answers, question, calendar)
    plan = progress(run, experiment, metrics, found, answers, question, calendar)
    for one in found:
        counting_units(one, experiment, answers)  # so that a snapshot can be planned from
    left_out = answers.left_out() | {
        f"too_young_{metric}": count for metric, count in answers.too_young().items()
    }
    left_out |= _small_strata(found)
    resolution = _resolution(run, experiment, found, matched)
    answers.arrivals_by_arm()  # pages show them; a snapshot keeps what was asked
    evidence = [_evidence(one.comparison, metrics[one.comparison.metric]) for one in found]
    trust = Trust(
        checks=checks,
        replay=not run.live,
        differing=resolution["differing_requests"],
        matched=matched,
        alpha=experiment.analysis.alpha,
        smallest_lift=experiment.analysis.smallest_lift,
        planned=plan.planned,
        power_reached=plan.power_reached,
        days_left=plan.days_left,
        data="data" if run.imported else "simulation" if run.simulated else "log",
        preferences=_preferences(experiment, metrics, found),
        modelled=run.modelled,
    )
    verdict = judge(evidence, trust)
    return Report(
        run=run,
        experiment=experiment,
        metrics=metrics,
        as_of=calendar.show(at),
        resolution=resolution,
        verdict=verdict,
        sentence=sentence(verdict, evidence, trust),
        comparisons=[
            *(one.comparison for one in found),
            *compare_segments(run, experiment, metrics, answers),
        ],
        checks=checks,
        dropped={**run.dropped, **{f"unit_{reason}": count for reason, count in left_out.items()}},
        novelty=novelties(experiment, metrics, _told(run, experiment, found), answers, question.as_of_day),
        predicted=_predicted(run, found),
        early=trust.early,
        progress=plan,
        sql=answers.sql,
        answers=answers.kept,
    )


def _preferences(experiment: Experiment, metrics: Metrics, found: Sequence[Found]) -> list[str]:
    """Say what is known of preferences by primary metrics; nothing unless the run was interleaved."""
    primary = [one.comparison for one in found if one.comparison.role == "primary"]
    said = (sentence_of(one, metrics[one.metric], experiment.analysis.alpha) for one in primary)
    return [one for one in said if one is not None]


def _predicted(run: Run, found: Sequence[Found]) -> list[Predicted]:
    """Hold what the control's requests predicted against what was observed; nothing where none did."""
    stored = run.resolution.get("predicted")
    if stored is None:
        return []
    told = []
    for arm in stored["arms"]:
        same = [
            one for one in found if (one.comparison.metric, one.comparison.arm) == (stored["metric"], arm)
        ]
        known = [one for one in same if one.comparison.lift is not None]
        seen = known[0].comparison if known else None
        interval = (None, None) if seen is None else (seen.lift_low, seen.lift_high)
        told.append(predicted_of(stored, arm, known[0].effect if known else None, interval))
    return told


def _told(run: Run, experiment: Experiment, found: Sequence[Found]) -> list[str]:
    """Name the primary metrics that can be compared, where a unit meets one arm."""
    told = {one.comparison.metric for one in found if one.comparison.p_value is not None}
    return [] if run.paired else [name for name in experiment.metrics.primary if name in told]


def _small_strata(found: Sequence[Found]) -> dict[str, int]:
    """Count the units of strata that are too small to compare, by metric: of the arm that loses most."""
    counts: dict[str, int] = {}
    for one in found:
        if one.left_out:
            reason = f"small_stratum_{one.comparison.metric}"
            counts[reason] = max(counts.get(reason, 0), one.left_out)
    return counts


def question_of(run: Run, calendar: Calendar, at: int) -> Question:
    """Ask of a run what there is up to a time (UTC milliseconds)."""
    experiment, _ = run.parsed()
    plan = experiment.analysis
    own = (run.run, run.experiment, run.paired)
    return Question(*own, at, calendar.day(at), plan.segments, plan.exclusions)


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
        always_low=one.always_low,
        always_high=one.always_high,
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
    found: Sequence[Found],
    matched: Mapping[str, int],
) -> dict[str, Any]:
    """Say how finely this run can tell arms apart; `mde` is of the first primary metric, at 80 % power.

    `answered` is the share of the pairs asked of a matrix that it answered; None in other modes.
    """
    counts: Mapping[str, Any] = run.resolution
    compared = counts.get("compared", 0)
    first = experiment.metrics.primary[0]
    mde = {
        one.comparison.arm: _detectable(one, experiment.analysis.alpha)
        for one in found
        if one.comparison.metric == first
    }
    known = [value for value in mde.values() if value is not None]
    answered = answered_shares(run)
    return {
        "differing_requests": counts["differing"] / compared if compared else None,
        "matched": min(matched.values(), default=None),
        "mde": max(known) if len(known) == len(mde) else None,
        "compared_requests": compared,
        "answered": min(answered.values(), default=None),
        "by_arm": {
            arm: {
                "differing_requests": counts["differing_by_arm"][arm] / compared
                if compared and arm != experiment.control
                else None,
                "matched": matched.get(arm),
                "mde": mde.get(arm),
                "answered": answered.get(arm),
            }
            for arm in experiment.arms
        },
    }


def _detectable(one: Found, alpha: float) -> float | None:
    if one.comparison.status != "ok":
        return None
    effect = one.effect
    return minimum_detectable(effect.standard_error, effect.control_mean, alpha=alpha).relative
