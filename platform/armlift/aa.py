"""A/A checks: units of one arm, split afresh many times, tell whether a metric's p-values can be trusted.

No arm changes anything between two random halves of the same units, so p-values must be uniform. Each split
is one of armlift's own, with a fresh salt. Given the units, splits are independent: the p-values are draws
from the distribution that chance in splitting makes of these very units. What is found holds for them and for
units like them; it cannot see what all splits share, such as units that are not independent of each other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from armlift.aggregates import UnitTotals
from armlift.comparisons import obstacle_of
from armlift.effects import Ordered, Place, compare_quantiles, compare_strata, parts_of, quantile_rank
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.hashing import keys_of
from armlift.metric import Metric, Metrics
from armlift.runs import Run
from armlift.splitter import Split, assign_many, generations
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.results import Effect, Rules
from armlift.stats.uniformity import Uniformity, uniformity

LEVEL = 0.01
"""The chance that a check of sound metrics flags any of them."""
FIRST, SECOND = "first", "second"
"""The arms of a split."""

Mask = npt.NDArray[np.bool_]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Checked:
    """One metric's A/A check.

    `status` says why it was not checked (as of a comparison), or ok. `unknown` counts the splits that gave no
    p-value; `method` is that of the comparisons.
    """

    metric: str
    role: str
    method: str
    status: str
    units: int
    unknown: int
    found: Uniformity

    @property
    def verdict(self) -> str:
        """Say sound, too_often, too_seldom, uneven or no_data."""
        return self.found.status

    def as_dict(self) -> dict[str, Any]:
        """Give the check as plain data."""
        own = {key: value for key, value in asdict(self).items() if key != "found"}
        numbers = {key: value for key, value in asdict(self.found).items() if key not in ("n", "status")}
        return own | {"verdict": self.verdict, "splits": self.found.n} | numbers


@dataclass(frozen=True)
class Units:
    """The units that count in a metric: their keys, the strata there are, each unit's, and its values."""

    keys: npt.NDArray[np.uint64]
    places: Sequence[Place]
    place: npt.NDArray[np.int64]
    values: Array


def share_of(experiment: Experiment) -> float:
    """Give the first group's share: that of the challenger whose weight is farthest from the control's."""
    weights = generations(experiment)[-1][1]
    control = weights[experiment.control]
    shares = [weights[arm] / (weights[arm] + control) for arm in experiment.challengers if weights[arm]]
    if not control or not shares:
        raise InputError(f"experiment {experiment.name!r}: the control or every challenger has weight 0")
    return max(shares, key=lambda share: abs(share - 0.5))


def splits_of(experiment: Experiment, share: float, count: int, seed: int) -> list[Split]:
    """Prepare splits of all units into two groups, each with a salt of its own."""
    plain = Experiment(
        name=experiment.name,
        arms={FIRST: share, SECOND: 1.0 - share},
        control=SECOND,
        metrics=experiment.metrics,
    )
    # A colon is in no experiment's name, so that no salt is one in use.
    names = (f"{experiment.name}:aa:{seed}:{number}" for number in range(count))
    return [Split.of(plain.model_copy(update={"name": name}), default_arm=SECOND) for name in names]


def check(
    run: Run,
    experiment: Experiment,
    metrics: Metrics,
    totals: UnitTotals,
    *,
    asked: Sequence[str],
    splits: int,
    seed: int,
    everybody: bool,
    tell: Tell | None = None,
) -> list[Checked]:
    """Check the metrics asked for, on the control's units or everybody's; `tell` hears (done, total).

    Comparisons are those of a run that is split by unit, with their strata and covariates. All metrics
    together are flagged with chance LEVEL where they are sound.
    """
    arms = list(experiment.arms) if everybody else [experiment.control]
    share = share_of(experiment)
    prepared = splits_of(experiment, share, splits, seed)
    roles = experiment.metrics.roles
    found = []
    for number, name in enumerate(asked):
        effects: list[Effect] = []
        units = _units(totals, name, arms)
        blocked = obstacle_of(run, metrics[name])
        for effect in _effects(units, metrics[name], prepared[: 1 if blocked else splits], experiment):
            effects.append(effect)
            if tell is not None and len(effects) % 10 == 0:
                tell(number * splits + len(effects), splits * len(asked))
        known = [] if blocked else [one.p_value for one in effects if one.p_value is not None]
        alpha = experiment.analysis.alpha
        result = uniformity(known, alpha=alpha, level=LEVEL / len(asked))
        status = blocked or ("ok" if known else effects[0].status)
        found.append(
            Checked(
                name, roles[name], effects[0].method, status, len(units.keys), splits - len(known), result
            )
        )
    return found


def _units(totals: UnitTotals, metric: str, arms: Sequence[str]) -> Units:
    names, strata, values = totals.each(metric, arms)
    places = sorted(set(strata))
    index = {place: number for number, place in enumerate(places)}
    return Units(keys_of(names), places, np.array([index[one] for one in strata], dtype=np.int64), values)


def _effects(
    units: Units, metric: Metric, splits: Sequence[Split], experiment: Experiment
) -> Iterator[Effect]:
    """Compare the two groups of each split."""
    rules = Rules(alpha=experiment.analysis.alpha, min_units=experiment.analysis.minimum_units)
    for split in splits:
        first = assign_many(split, 0, units.keys).arm == 0
        if metric.kind == "quantile":
            yield _quantiles(metric.quantile, units.values[:, 0], first, rules)
        else:
            own, others = (_by_place(units, metric, mask) for mask in (first, ~first))
            yield compare_strata(metric, own, others, rules).effect


def _by_place(units: Units, metric: Metric, mask: Mask) -> Mapping[Place, Aggregates]:
    names = parts_of(metric)
    if len(units.places) == 1:
        return {units.places[0]: Aggregates.of(names, units.values[mask])}
    return {
        place: Aggregates.of(names, units.values[mask & (units.place == number)])
        for number, place in enumerate(units.places)
    }


def _quantiles(q: float, values: Array, first: Mask, rules: Rules) -> Effect:
    own, others = (_ordered(q, np.sort(values[mask])) for mask in (first, ~first))
    return compare_quantiles(q, own, others, rules)


def _ordered(q: float, values: Array) -> Ordered:
    """Say what sorted values tell of a quantile."""
    at = partial(_at, values)
    if not len(values):
        return Ordered(None, Aggregates.empty(("below", "values")), at)
    value = values.item(quantile_rank(q, len(values)))
    columns = np.column_stack([values <= value, np.ones(len(values))])
    return Ordered(value, Aggregates.of(("below", "values"), columns), at)


def _at(ordered: Array, ranks: Sequence[int]) -> list[float]:
    return [ordered.item(rank) for rank in ranks]
