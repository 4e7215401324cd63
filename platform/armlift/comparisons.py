"""Comparisons: every challenger against the control, in every metric of an experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from armlift.aggregates import Stratum, UnitTotals
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.metric import Metric, Metrics, measures
from armlift.runs import Run
from armlift.stats.aggregates import Aggregates, merge_all
from armlift.stats.means import proportion, welch
from armlift.stats.multiplicity import benjamini_hochberg, holm
from armlift.stats.paired import paired_means, paired_ratios
from armlift.stats.ratios import delta_ratio
from armlift.stats.results import Effect, Rules


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


def compare_arms(
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
