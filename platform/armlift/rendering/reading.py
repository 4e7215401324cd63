"""A comparison in words: what its numbers say, by the verdict's rules, and what its status means."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from armlift.comparisons import Comparison
from armlift.metric import Metric
from armlift.rendering.words import between, signed
from armlift.report import Report

Effect = Literal["better", "worse", "open", "unknown"]

ROLES = {"primary": "Primary metrics", "secondary": "Secondary metrics", "guardrail": "Guardrails"}
STATUSES = {
    "ok": "every number is known",
    "no_data": "the log or the arm has nothing that this metric counts",
    "too_few": "fewer units than the analysis plan asks for",
    "zero_variance": "nothing varies between units, so there is no interval",
    "zero_control": "the control's mean is not above 0, so a lift has no meaning",
    "not_estimable": "this kind of run cannot estimate this metric",
}


class Reading(NamedTuple):
    """The effect, and in words, which for guardrails speak of the margin as well."""

    effect: Effect
    words: str


def deciding(report: Report) -> Sequence[Comparison]:
    """Give a report's comparisons with the interval that decides: always valid where it is read early."""
    if not report.early or report.run.interleaved:
        return shown(report)
    return [replace(one, lift_low=one.always_low, lift_high=one.always_high) for one in report.comparisons]


def shown(report: Report) -> Sequence[Comparison]:
    """Give a report's comparisons as they are shown: in an interleaved run preferences stand for lifts."""
    if not report.run.interleaved:
        return report.comparisons
    return [
        replace(one, lift=one.preference, lift_low=one.preference_low, lift_high=one.preference_high)
        for one in report.comparisons
    ]


def gain_of(report: Report) -> str:
    """Name what is shown of an arm against the control."""
    return "preference" if report.run.interleaved else "lift"


def read(one: Comparison, metric: Metric, alpha: float, *, early: bool = False) -> Reading:
    """Read a comparison: better or worse where its p-value (adjusted, of guardrails plain) is below alpha.

    Of a report that is read `early`, where in addition the always-valid interval leaves out 0.
    """
    low, high = (one.always_low, one.always_high) if early else (one.lift_low, one.lift_high)
    if one.lift is None or low is None or high is None:
        return Reading("unknown", one.status.replace("_", " "))
    effect = "open" if early and low <= 0 <= high else _effect(one, metric, alpha)
    words = "may be 0" if effect == "open" else effect
    if one.role != "guardrail":
        return Reading(effect, words)
    harms = [sign_of(metric) * -end for end in (low, high)]
    if min(harms) > metric.margin:
        return Reading(effect, f"{words}, past its margin")
    kept = "within its margin" if max(harms) <= metric.margin else "margin not proven"
    return Reading(effect, f"{words}, {kept}")


def sign_of(metric: Metric) -> int:
    """Give 1 where an increase is better, else -1."""
    return 1 if metric.direction == "increase" else -1


def within(what: str, segment: str | None) -> str:
    """Name something of a segment, or of all units."""
    return what if segment is None else f"{what}, {segment}"


def interval_of(one: Comparison) -> str:
    """Write the lift's interval; a hyphen where it is not known."""
    return between(one.lift_low, one.lift_high)


def always_of(one: Comparison) -> str:
    """Write the interval that holds at every look; a hyphen where it is not known."""
    return between(one.always_low, one.always_high)


def traits(one: Comparison, metric: Metric) -> str:
    """Say which way is better, and of a guardrail where its margin ends."""
    way = "higher is better" if metric.direction == "increase" else "lower is better"
    return f"{way}, margin {signed(margin_end(metric))}" if one.role == "guardrail" else way


def margin_end(metric: Metric) -> float:
    """Give the lift at which a guardrail's margin ends, on its bad side."""
    return -sign_of(metric) * metric.margin


def interval_name(report: Report) -> str:
    """Name the intervals of a report, such as `95% interval`."""
    return f"{100 * (1 - report.experiment.analysis.alpha):g}% interval"


def _effect(one: Comparison, metric: Metric, alpha: float) -> Effect:
    p = one.p_value if one.role == "guardrail" else one.p_adjusted
    if one.status != "ok" or p is None or p >= alpha or one.lift is None:
        return "open"
    return "better" if sign_of(metric) * one.lift > 0 else "worse"
