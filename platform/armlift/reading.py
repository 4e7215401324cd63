"""A comparison in words: what its numbers say, by the verdict's rules, and what its status means."""

from typing import Literal, NamedTuple

from armlift.metric import Metric
from armlift.report import Comparison
from armlift.words import signed

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
    """The effect as a class of its own, and in words; of guardrails the words speak of the margin."""

    effect: Effect
    words: str


def read(one: Comparison, metric: Metric, alpha: float) -> Reading:
    """Read a comparison: better or worse where its p-value (adjusted, of guardrails plain) is below alpha."""
    if one.lift is None or one.lift_low is None or one.lift_high is None:
        return Reading("unknown", one.status.replace("_", " "))
    effect = _effect(one, metric, alpha)
    if one.role != "guardrail":
        return Reading(effect, {"open": "may be 0"}.get(effect, effect))
    harms = [sign_of(metric) * -end for end in (one.lift_low, one.lift_high)]
    if min(harms) > metric.margin:
        return Reading(effect, "past its margin")
    return Reading(effect, "within its margin" if max(harms) <= metric.margin else "margin not proven")


def sign_of(metric: Metric) -> int:
    """Give 1 where an increase is better, else -1."""
    return 1 if metric.direction == "increase" else -1


def name_of(one: Comparison) -> str:
    """Name the arm of a comparison, with its segment where it has one."""
    return one.arm if one.segment is None else f"{one.arm}, {one.segment}"


def interval_of(one: Comparison) -> str:
    """Write the lift's interval; a hyphen where it is not known."""
    if one.lift_low is None or one.lift_high is None:
        return "-"
    return f"{signed(one.lift_low)} to {signed(one.lift_high)}"


def wanted(metric: Metric) -> str:
    """Say which way is better."""
    return "higher is better" if metric.direction == "increase" else "lower is better"


def _effect(one: Comparison, metric: Metric, alpha: float) -> Effect:
    p = one.p_value if one.role == "guardrail" else one.p_adjusted
    if one.status != "ok" or p is None or p >= alpha or one.lift is None:
        return "open"
    return "better" if sign_of(metric) * one.lift > 0 else "worse"
