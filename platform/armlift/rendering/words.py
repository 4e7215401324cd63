"""How reports write numbers and verdicts: the same in the terminal, in HTML and on pages."""

from armlift.days import utc_text
from armlift.decisions import Decision
from armlift.runs import Run
from armlift.truth import Truth
from armlift.verdict import Verdict

VERDICTS = {
    "ship": "ship",
    "do_not_ship": "do not ship",
    "keep_running": "keep running",
    "broken": "broken, do not read the lift",
    "cannot_tell": "cannot tell",
}
OUTCOMES = {"passed": "passed", "decided": "decided", "not_asked": "not asked"}


SYNTHETIC = "SYNTHETIC DATA: users are simulated, these figures say nothing of real ones"


MODELLED = "MODELLED OUTCOMES: units did what a model says, so the lift is the model's, not the log's"


def kind_of(run: Run) -> str:
    """Say in a few words how a run was made."""
    asked = f"{run.mode}, k = {run.k}" if run.k else run.mode
    return f"{asked}, {'paired' if run.paired else 'split by unit'}"


def further_reasons(verdict: Verdict) -> list[str]:
    """Give the reasons of a verdict that its list of why not to ship does not hold."""
    return [reason for reason in verdict.reasons if reason not in verdict.why_not_ship]


def decided(decision: Decision) -> str:
    """Write a decision in a line."""
    what = "stop" if decision.arm is None else f"{decision.action} {decision.arm}"
    against = f", against the verdict {decision.verdict_status}" if decision.overridden else ""
    said = f"{what}{against}, by {decision.by}, {utc_text(decision.at)}, on snapshot {decision.snapshot}"
    return f"{said}: {decision.reason}"


def percent(value: float | None) -> str:
    """Write a fraction as a percentage."""
    return "unknown" if value is None else f"{value:.2%}" if abs(value) < 0.1 else f"{value:.1%}"


def signed(value: float | None) -> str:
    """Write a lift, a fraction, as a percentage with its sign."""
    return "-" if value is None else f"{value:+.2%}" if abs(value) < 0.1 else f"{value:+.1%}"


def between(low: float | None, high: float | None) -> str:
    """Write an interval of lifts; a hyphen where it is not known."""
    return "-" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def true_lift(truth: Truth) -> str:
    """Write a true lift with its standard error."""
    return "-" if truth.lift is None else f"{signed(truth.lift)} ± {percent(truth.error)}"


WITHIN = {True: "inside", False: "outside", None: ""}
"""Whether a true lift lies in the interval that was estimated."""


def plain(value: float | None) -> str:
    """Write a number with four significant digits."""
    if value is None:
        return "-"
    if value != 0 and abs(value) < 1e-4:
        return f"{value:.1e}"
    return f"{value:.4g}"


def count(value: int) -> str:
    """Write a whole number with separators."""
    return f"{value:,}"


def probability(value: float | None) -> str:
    """Write a p-value with two significant digits."""
    if value is None:
        return "-"
    return f"{value:.2g}" if value == 0 or value >= 1e-4 else f"{value:.1e}"
