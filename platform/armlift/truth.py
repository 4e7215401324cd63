"""The truth of a simulated run: each arm's lift when all users meet it, beside what the run estimates."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from armlift.comparisons import Comparison

TRUTH = "truth"
"""The key of a run's resolution that holds it."""


class Truth(NamedTuple):
    """The lift of an arm over the control in a metric, each with all users; `error` is its standard error.

    `mean` and `control_mean` are the metric's, over `users`. `lift` and `error` are fractions, None where
    there is no control to divide by, or the metric cannot be compared within users.
    """

    metric: str
    arm: str
    mean: float | None
    control_mean: float | None
    lift: float | None
    error: float | None
    users: int


class Beside(NamedTuple):
    """A truth and the run's comparison of the same metric and arm.

    `inside` tells whether the true lift lies in the run's interval, None where either is not known.
    """

    truth: Truth
    comparison: Comparison
    inside: bool | None


def truths_of(resolution: Mapping[str, Any]) -> list[Truth]:
    """Read the truth that a run's resolution holds; nothing where it was not asked for."""
    return [Truth(**one) for one in resolution.get(TRUTH, ())]


def beside(truths: Sequence[Truth], comparisons: Sequence[Comparison]) -> list[Beside]:
    """Put each truth beside the comparison of all units."""
    whole = {(one.metric, one.arm): one for one in comparisons if one.segment is None}
    pairs = [(one, whole[one.metric, one.arm]) for one in truths if (one.metric, one.arm) in whole]
    return [Beside(truth, one, _inside(truth, one)) for truth, one in pairs]


def _inside(truth: Truth, one: Comparison) -> bool | None:
    if truth.lift is None or one.lift_low is None or one.lift_high is None:
        return None
    return one.lift_low <= truth.lift <= one.lift_high
