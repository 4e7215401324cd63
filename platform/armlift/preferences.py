"""Preferences: what an interleaved run tells, which is no lift: credits compared within units, in words."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from armlift.evidence import percentages
from armlift.metric import Metric
from armlift.stats.aggregates import Aggregates
from armlift.stats.interleaving import Preference, preference
from armlift.stats.results import Effect, Rules

if TYPE_CHECKING:
    from armlift.comparisons import Comparison


class Preferred(NamedTuple):
    """A comparison's numbers in an interleaved run; in others each is None."""

    preference: float | None = None
    preference_low: float | None = None
    preference_high: float | None = None


def credits_compared(pairs: Aggregates, rules: Rules) -> Preference:
    """Compare what units credited to an arm (`num`) and to the control (`control_num`)."""
    return preference(pairs, "num", "control_num", rules)


def effect_of(found: Preference) -> Effect:
    """Give the effect that the report's other parts see: mean credits a unit and the p-value, no lift."""
    means = {"mean": found.own, "control_mean": found.other}
    told = Effect.unknown(
        "interleaved", found.status, alpha=found.alpha, n=found.n, control_n=found.n, **means
    )
    return replace(told, p_value=found.p_value)


def numbers_of(found: Preference) -> Preferred:
    """Give the value and its interval."""
    return Preferred(found.value, found.low, found.high)


def sentence_of(one: "Comparison", metric: Metric, alpha: float) -> str | None:
    """Say which arm units prefer by a metric; None where that is not known.

    A metric that should decrease is credited to the arm that units like less.
    """
    value, low, high, p = one.preference, one.preference_low, one.preference_high, one.p_adjusted
    if one.status != "ok" or value is None or low is None or high is None or p is None:
        return None
    name = one.metric.replace("_", " ")
    of, least, most = percentages(value, low, high)
    interval = f"preference {of} (between {least} and {most})"
    if p >= alpha:
        return f"it is not sure that users prefer {one.arm} or {one.control} by {name}: {interval}"
    liked = (value > 0) == (metric.direction == "increase")
    better, other = (one.arm, one.control) if liked else (one.control, one.arm)
    return f"users prefer {better} to {other} by {name}: {interval}"
