"""Perspectives: a stored report's lifts against another baseline, at another confidence, or of one phase.

They are computed from what the snapshot keeps, without the database. The verdict stays that of the plan: what
is looked at otherwise after the fact decides nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from armlift.answers import Answers
from armlift.comparisons import compare_arms, compare_segments
from armlift.complaints import choices
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.report import Report


class Perspective(NamedTuple):
    """How a report is looked at; None is as its plan has it. `alpha` is 1 - confidence, `phase` from 0."""

    control: str | None = None
    alpha: float | None = None
    phase: int | None = None


class Seen(NamedTuple):
    """A report with other comparisons, and the metrics of which the snapshot keeps too little for that."""

    report: Report
    left_out: Sequence[str]


def phases_of(report: Report) -> list[int]:
    """List the phases in which units were first exposed; a paired report is not kept by phase."""
    if report.run.paired:
        return []
    return sorted({stratum.phase for stratum in Answers(report.answers).counts()})


def baselines_of(report: Report) -> list[str]:
    """List the arms that others can be held against, the control first; of pairs only it is kept."""
    control = report.experiment.control
    return [control] if report.run.paired else [control, *report.experiment.challengers]


def see(report: Report, perspective: Perspective) -> Seen:
    """Look at a report from a perspective; raises InputError for a baseline or phase it does not have."""
    plan = report.experiment.analysis
    control, alpha = perspective.control or report.experiment.control, perspective.alpha or plan.alpha
    _check(report, perspective, alpha)
    if (control, alpha, perspective.phase) == (report.experiment.control, plan.alpha, None):
        return Seen(report, [])
    left_out = _orders(report) if alpha != plan.alpha or perspective.phase is not None else []
    update = {"control": control, "analysis": plan.model_copy(update={"alpha": alpha})}
    experiment = _without(report.experiment.model_copy(update=update), left_out)
    answers = Answers(report.answers)
    if perspective.phase is not None:
        answers = answers.in_phase(perspective.phase)
    found = [one.comparison for one in compare_arms(report.run, experiment, report.metrics, answers)]
    found += compare_segments(report.run, experiment, report.metrics, answers)
    return Seen(replace(report, experiment=experiment, comparisons=found), left_out)


def _check(report: Report, perspective: Perspective, alpha: float) -> None:
    asked: Sequence[tuple[str, Any, Callable[[Report], Sequence[Any]]]] = (
        ("baseline", perspective.control, baselines_of),
        ("phase", perspective.phase, phases_of),
    )
    for name, value, allowed in asked:
        if value is not None and value not in allowed(report):
            raise InputError(f"{name} {value!r} {choices(str(value), [str(one) for one in allowed(report)])}")
    if not 0.0 < alpha < 1.0:
        raise InputError(f"confidence {1 - alpha:g}: must be above 0 and below 1")


def _orders(report: Report) -> list[str]:
    """Name the metrics told from order statistics: a snapshot keeps those of all its units, at its alpha."""
    return [name for name in report.experiment.metrics.roles if report.metrics[name].kind == "quantile"]


def _without(experiment: Experiment, names: Sequence[str]) -> Experiment:
    roles = {
        role: tuple(name for name in getattr(experiment.metrics, role) if name not in names)
        for role in ("primary", "secondary", "guardrails")
    }
    return experiment.model_copy(update={"metrics": experiment.metrics.model_copy(update=roles)})
