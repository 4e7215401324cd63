"""Comparisons: every challenger against the control, in every metric of an experiment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from armlift.aggregates import of_arm
from armlift.answers import Answers
from armlift.effects import (
    Compared,
    Ordered,
    compare_past,
    compare_quantiles,
    compare_strata,
    parts_of,
    quantile_rank,
)
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.metric import Metric, Metrics, measures
from armlift.preferences import Preferred, credits_compared, effect_of, numbers_of
from armlift.raw import UNKNOWN, Raw, raw_of, raw_of_pairs
from armlift.runs import MATCH, Run
from armlift.stats.aggregates import Aggregates, merge_all
from armlift.stats.always_valid import AlwaysValid, always_valid
from armlift.stats.multiplicity import (
    at_alpha,
    benjamini_hochberg,
    benjamini_hochberg_levels,
    holm,
    holm_levels,
)
from armlift.stats.paired import paired_means, paired_ratios
from armlift.stats.results import Effect, Rules


@dataclass(frozen=True)
class Comparison:
    """A metric of a challenger against the control; `lift` is a fraction, unknown is None.

    The interval `lift_low` to `lift_high` has the level of the adjusted p-value: it leaves out 0 where that
    is below alpha, and so does that of `difference`, which is in the metric's unit. `always_low` to
    `always_high` holds at every look. Numerators and denominators are raw, see `Raw`. An interleaved run
    knows a preference, a number from -1 to 1 with an interval of the same level, in place of a lift; its
    means are of credits.
    """

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
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    always_difference_low: float | None = None
    always_difference_high: float | None = None
    numerator: float | None = None
    denominator: float | None = None
    control_numerator: float | None = None
    control_denominator: float | None = None
    preference: float | None = None
    preference_low: float | None = None
    preference_high: float | None = None

    def as_dict(self, *, preferences: bool) -> dict[str, Any]:
        """Give the comparison as plain data; only interleaved runs have preferences."""
        left_out = () if preferences else Preferred._fields
        return {name: value for name, value in asdict(self).items() if name not in left_out}


class Found(NamedTuple):
    """A comparison, the effect behind it, and what `Compared` says of it."""

    comparison: Comparison
    effect: Effect
    left_out: int
    remaining: float


def compare_arms(run: Run, experiment: Experiment, metrics: Metrics, totals: Answers) -> list[Found]:
    """Compare every challenger in every metric.

    P-values and intervals of primary metrics and arms are adjusted by Holm, of secondary ones by Benjamini
    and Hochberg; guardrails each stand for themselves. Always-valid intervals of primary metrics share alpha
    equally, which holds at any look.
    """
    plan = experiment.analysis
    rules = Rules(alpha=plan.alpha, min_units=plan.minimum_units)
    asked = [
        (name, role, arm, obstacle_of(run, metrics[name], role))
        for name, role in experiment.metrics.roles.items()
        for arm in experiment.challengers
    ]
    compare = _interleaved if run.interleaved else _paired if run.paired else compare_units
    compared = [
        compare(name, metrics[name], arm, experiment.control, totals, rules) for name, _, arm, _ in asked
    ]
    found: list[Found | None] = [None] * len(asked)
    for role in ("primary", "secondary", "guardrail"):
        places = [place for place, one in enumerate(asked) if one[1] == role]
        known = [None if asked[p][3] else compared[p].effect.p_value for p in places]
        family = _adjust(role, known, plan.alpha)
        share = plan.alpha / len(places) if role == "primary" else plan.alpha
        for place, (p_adjusted, level) in zip(places, family, strict=True):
            name, _, arm, obstacle = asked[place]
            one = compared[place]
            effect = one.effect if level is None else at_alpha(one.effect, level)
            always = always_valid(at_alpha(one.effect, share), tuning=plan.always_valid_units)
            comparison = Comparison(
                metric=name,
                role=role,
                arm=arm,
                control=experiment.control,
                segment=None,
                adjusted=ADJUSTED.get(role),
                p_adjusted=p_adjusted,
                **_numbers(effect, always, obstacle),
                **_raw(run, metrics[name], name, arm, experiment.control, totals, obstacle)._asdict(),
            )
            comparison = _preferring(comparison, run, totals, plan.alpha if level is None else level)
            found[place] = Found(comparison, effect, one.left_out, one.remaining)
    return [one for one in found if one is not None]


def compare_segments(run: Run, experiment: Experiment, metrics: Metrics, totals: Answers) -> list[Comparison]:
    """Compare every challenger in every metric once more, within each segment.

    P-values and intervals of all segments, metrics and arms are adjusted together by Benjamini and Hochberg.
    """
    alpha = experiment.analysis.alpha
    told = [
        (segment, one)
        for segment in totals.segments()
        for one in compare_arms(run, experiment, metrics, totals.within(segment))
    ]
    p_values = [one.comparison.p_value for _, one in told]
    adjusted = benjamini_hochberg(p_values)
    levels = benjamini_hochberg_levels(p_values, alpha)
    found = []
    for (segment, one), p_adjusted, level in zip(told, adjusted, levels, strict=True):
        effect = at_alpha(one.effect, alpha if level is None else level)
        known = one.comparison.p_value is not None
        found.append(
            replace(
                one.comparison,
                segment=str(segment),
                adjusted="benjamini_hochberg",
                p_adjusted=p_adjusted,
                lift_low=effect.lift_low if known else one.comparison.lift_low,
                lift_high=effect.lift_high if known else one.comparison.lift_high,
                difference_low=effect.difference_low if known else one.comparison.difference_low,
                difference_high=effect.difference_high if known else one.comparison.difference_high,
            )
        )
        found[-1] = _preferring(found[-1], run, totals.within(segment), effect.alpha)
    return found


ADJUSTED = {"primary": "holm", "secondary": "benjamini_hochberg"}
"""How the p-values of a role's family are adjusted."""


def _adjust(
    role: str, p_values: Sequence[float | None], alpha: float
) -> list[tuple[float | None, float | None]]:
    """Give each comparison of a role's family its adjusted p-value, and the level of its interval."""
    if role == "primary":
        return list(zip(holm(p_values), holm_levels(p_values, alpha), strict=True))
    if role == "secondary":
        levels = benjamini_hochberg_levels(p_values, alpha)
        return list(zip(benjamini_hochberg(p_values), levels, strict=True))
    return [(None, None)] * len(p_values)


def compare_units(
    name: str, metric: Metric, arm: str, control: str, totals: Answers, rules: Rules
) -> Compared:
    """Compare a metric of two arms that share no unit."""
    if metric.kind == "quantile":
        return Compared(_quantiles(name, metric.quantile, (arm, control), totals, rules))
    strata = totals.by_stratum(name)
    return compare_strata(metric, of_arm(strata, arm), of_arm(strata, control), rules)


def compare_before(
    metric: Metric, name: str, arm: str, control: str, totals: Answers, alpha: float
) -> Effect:
    """Compare what units of two arms did before their first exposure, which no arm can have moved."""
    strata = totals.before(name)
    return compare_past(metric, of_arm(strata, arm), of_arm(strata, control), Rules(alpha=alpha))


def _quantiles(name: str, q: float, arms: tuple[str, str], totals: Answers, rules: Rules) -> Effect:
    """Compare a quantile of units' totals; strata are taken together, for quantiles do not average."""
    own, others = (_ordered(name, q, arm, totals) for arm in arms)
    return compare_quantiles(q, own, others, rules)


def _ordered(name: str, q: float, arm: str, totals: Answers) -> Ordered:
    at = partial(totals.quantile, name, arm)
    empty, units = Aggregates.empty(("below", "values")), totals.units(name, arm)
    if not units:
        return Ordered(None, empty, at)
    (value,) = at([quantile_rank(q, units)])
    below = of_arm(totals.share_at_most(name, value), arm)
    return Ordered(value, merge_all([empty, *below.values()]), at)


def _paired(name: str, metric: Metric, arm: str, control: str, totals: Answers, rules: Rules) -> Compared:
    pairs = totals.pairs(name, arm, control)
    if metric.kind != "ratio":
        return Compared(paired_means(pairs, "num", "control_num", rules))
    effect = paired_ratios(pairs, ("num", "den"), ("control_num", "control_den"), rules)
    carriers = totals.carriers(name)
    if effect.status != "no_data" and min(carriers.get(arm, 0), carriers.get(control, 0)) < rules.min_units:
        # A pair needs only one side with a denominator; each side needs enough of them by itself.
        effect = effect.without_interval("too_few")
    return Compared(effect)


def _interleaved(
    name: str, metric: Metric, arm: str, control: str, totals: Answers, rules: Rules
) -> Compared:
    return Compared(effect_of(credits_compared(totals.pairs(name, arm, control), rules)))


def _preferring(one: Comparison, run: Run, totals: Answers, alpha: float) -> Comparison:
    """Give an interleaved run's comparison with its preference, whose interval is of a level."""
    if not run.interleaved or one.p_value is None:
        return one
    pairs = totals.pairs(one.metric, one.arm, one.control)
    return replace(one, **numbers_of(credits_compared(pairs, Rules(alpha=alpha)))._asdict())


def _raw(
    run: Run, metric: Metric, name: str, arm: str, control: str, totals: Answers, obstacle: str | None
) -> Raw:
    """Give the raw totals behind a comparison; none where it cannot be made, or is of no totals."""
    if obstacle or metric.kind == "quantile" or run.interleaved:
        return UNKNOWN
    if run.paired:
        return raw_of_pairs(totals.pairs(name, arm, control))
    strata, empty = totals.by_stratum(name), Aggregates.empty(parts_of(metric))
    own, others = (merge_all([empty, *of_arm(strata, one).values()]) for one in (arm, control))
    return raw_of(own, others)


def obstacle_of(run: Run, metric: Metric, role: str = "primary") -> str | None:
    """Say why a metric cannot be read off this run at all."""
    known = {*list(run.log["kinds"])}  # type: ignore[call-overload]
    if not run.imported:
        known.add(IMPRESSION_KIND)
    parts = measures(metric).values()
    if any(measure.event not in known for measure in parts):
        return "no_data"
    # In `match` a sum rewards likeness to the logging policy; in no replay do units come back for the arm's
    # sake.
    if run.mode == MATCH and metric.kind != "ratio":
        return "not_estimable"
    if run.paired and metric.kind == "quantile":
        return "not_estimable"
    # What a unit did once or never has no credits to divide; a guardrail's margin is one of a lift.
    if run.interleaved and (metric.kind not in ("mean", "ratio") or role == "guardrail"):
        return "not_estimable"
    if run.replayed and any(measure.aggregate == "days" for measure in parts):
        return "not_estimable"
    return None


def _numbers(effect: Effect, always: AlwaysValid, obstacle: str | None) -> dict[str, Any]:
    """Give the numbers of a comparison; none but the units where it cannot be made."""
    told = {
        "method": effect.method,
        "mean": effect.mean,
        "control_mean": effect.control_mean,
        "lift": effect.lift,
        "lift_low": effect.lift_low,
        "lift_high": effect.lift_high,
        "always_low": always.lift_low,
        "always_high": always.lift_high,
        "p_value": effect.p_value,
        "difference": effect.difference,
        "difference_low": effect.difference_low,
        "difference_high": effect.difference_high,
        "always_difference_low": always.difference_low,
        "always_difference_high": always.difference_high,
    }
    return {
        "units": effect.n,
        "control_units": effect.control_n,
        "status": obstacle or effect.status,
        **(dict.fromkeys(told) if obstacle else told),
    }
