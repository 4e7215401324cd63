"""Predictions: what each challenger would have earned in the control's place, from the control's own slates.

Where the control explores, its propensities say how often it would have shown what a challenger shows, and
so its requests predict the challenger's lift before anybody has met it. A report holds that against the lift
that was observed: where they disagree, one of propensities, routing, or rewards is not what it should be.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, log1p, sqrt
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from armlift.arm import Slate
from armlift.events import IMPRESSION_KIND
from armlift.hashing import key_of
from armlift.metric import Measure, Metrics, RatioMetric
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.paired import paired_mix
from armlift.stats.results import Effect, Rules, Status

CLUSTERS = 4096
"""Units are added up in so many clusters by their hash: intervals need no more, and memory stays flat."""
LEAST_EFFECTIVE = 100
"""Below so many effective rows nothing is predicted."""


class Target(NamedTuple):
    """The metric that is predicted, and what of an impression is its reward."""

    metric: str
    reward: Measure


def target_of(primary: Sequence[str], metrics: Metrics) -> Target | None:
    """Find the first primary metric that is a ratio per impression over all time; None if there is none."""
    for name in primary:
        metric = metrics[name]
        if not isinstance(metric, RatioMetric) or metric.window is not None:
            continue
        if metric.denominator == Measure(event=IMPRESSION_KIND) and metric.numerator.aggregate != "days":
            return Target(name, metric.numerator)
    return None


def reward_of(measure: Measure, feedback: Collection[tuple[str, float]]) -> float:
    """Give what a ratio's numerator counts of one impression with this (kind, value) feedback."""
    if measure.event == IMPRESSION_KIND:
        return 1.0
    low = -np.inf if measure.minimum is None else measure.minimum
    high = np.inf if measure.maximum is None else measure.maximum
    values = [value for kind, value in feedback if kind == measure.event and low <= value <= high]
    return float(len(values)) if measure.aggregate == "count" else sum(values)


def slot_weights(propensities: Sequence[float | None]) -> list[float] | None:
    """Give the weight of each slot's item as one of the items a challenger shows; None without exploration.

    With E the explored slots (propensity p below 1) slot i (from 1) has (1/p_i if i is in E + the number of
    later slots in E) / |E|. Summed over the slots that hold an item of a challenger's slate, the expectation
    is the sum over the whole slate: after any slots, items already shown count once, and the next slot stands
    for those not yet shown (Des Raj 1956, equation 1, for draws of unequal probability without repeats).
    """
    known = [p for p in propensities if p is not None]
    if len(known) < len(propensities):
        return None
    explored = [0.0 < p < 1.0 for p in known]
    count = later = sum(explored)
    if not count:
        return None
    weights = []
    for p, own in zip(known, explored, strict=True):
        later -= own
        weights.append(((1.0 / p if own else 0.0) + later) / count)
    return weights


class _Answer(NamedTuple):
    """One request as the control answered it: items, rewards (None where none counts), and slot weights."""

    items: Sequence[str]
    rewards: Sequence[float | None]
    propensities: Sequence[float | None]
    weights: Sequence[float] | None


class Predictions:
    """Adds up what challengers would have earned on the control's requests; memory is flat.

    By default an item's reward is its own, whatever slot shows it, as in replays of logs: a challenger's item
    may stand in any slot of the control's slate. With `by_slot` it must stand in the very slot, weighted by
    1 / propensity, as rewards need where slots are seen unlike; each slot is normalised by itself, and counts
    as the control's does. This is exact where the control's earlier slots hold the challenger's later items
    alike often in all requests.
    """

    def __init__(self, control: str, arms: Collection[str], *, by_slot: bool = False) -> None:
        self._arms = [arm for arm in arms if arm != control]
        self._by_slot = by_slot
        # By cluster, arm, and slot (one for all unless by slot): the control's reward and impressions, and
        # the reward and weight of those that stand for the challenger.
        self._totals = np.zeros((CLUSTERS, len(self._arms), 1, 4))
        self._squares = np.zeros(len(self._arms))
        self._unsupported = [0] * len(self._arms)
        self._requests = self._explored = 0

    def add(
        self, unit: str, slate: Slate, rewards: Sequence[float | None], answers: Mapping[str, Slate]
    ) -> None:
        """Add a request that the control answered by `slate`.

        `rewards` has one number a slot, None or NaN where no impression counts; `answers` the challengers'
        slates by arm, drawn independently of the control's.
        """
        told = [None if reward is None or isnan(reward) else reward for reward in rewards]
        answer = _Answer(slate.items, told, slate.propensities, slot_weights(slate.propensities))
        self._requests += 1
        self._explored += answer.weights is not None
        shown = [reward for reward in told if reward is not None]
        if not shown:
            return
        if self._by_slot and len(told) > self._totals.shape[2]:
            more = np.zeros((CLUSTERS, len(self._arms), len(told) - self._totals.shape[2], 4))
            self._totals = np.concatenate([self._totals, more], axis=2)
        totals = self._totals[key_of(unit) % CLUSTERS]
        for index, arm in enumerate(self._arms):
            weights = self._weights(answer, answers[arm])
            if weights is None:
                self._unsupported[index] += 1
                continue
            rows = [
                (slot, reward, weight)
                for slot, (reward, weight) in enumerate(zip(told, weights, strict=True))
                if reward is not None
            ]
            self._squares[index] += sum(weight * weight for _, _, weight in rows)
            for group in [[row] for row in rows] if self._by_slot else [rows]:
                totals[index, group[0][0] if self._by_slot else 0] += (
                    sum(reward for _, reward, _ in group),
                    len(group),
                    sum(weight * reward for _, reward, weight in group),
                    sum(weight for _, _, weight in group),
                )

    def result(self, metric: str, *, alpha: float = 0.05) -> dict[str, Any]:
        """Give, as plain data, each challenger's predicted lift in a metric.

        Both are self-normalised ratios of totals over the same requests; the interval is that of the log
        ratio, by the delta method over clusters of units with all covariances. Status: `not_estimable` where
        the control never explores, `too_few` below LEAST_EFFECTIVE effective rows, else that of `Effect`.
        """
        return {
            "metric": metric,
            "requests": self._requests,
            "explored": self._explored,
            "arms": {arm: self._arm(index, alpha) for index, arm in enumerate(self._arms)},
        }

    def _arm(self, index: int, alpha: float) -> dict[str, Any]:
        totals = self._totals[:, index]
        effect = _lift_of(totals[totals[:, :, 1].sum(axis=1) > 0], Rules(alpha=alpha))
        weight, squares = float(totals[:, :, 3].sum()), float(self._squares[index])
        effective = weight * weight / squares if squares > 0.0 else 0.0
        status: Status = (
            "no_data"
            if not self._requests
            else "not_estimable"
            if not self._explored
            else "too_few"
            if effective < LEAST_EFFECTIVE
            else effect.status
        )
        known = status in ("ok", "zero_variance")
        return {
            "status": status,
            "rows": round(float(totals[:, :, 1].sum())),
            "effective_rows": effective,
            "unsupported": self._unsupported[index],
            "lift": effect.lift if known else None,
            "lift_low": effect.lift_low if known else None,
            "lift_high": effect.lift_high if known else None,
            "lift_error": effect.lift_error if known else None,
        }

    def _weights(self, answer: _Answer, challenger: Slate) -> Sequence[float] | None:
        """Weigh the control's slots for a challenger, 0 where it lacks the item; None if they cannot."""
        held = set(challenger.items)
        if answer.weights is None or (answer.propensities[-1] == 1.0 and held <= set(answer.items)):
            # Nothing was left to chance. Either the same is shown, or (behind explored slots) the last item
            # was the only one left, so that the slate holds all there is.
            same = answer.weights is not None or held == set(answer.items)
            if self._by_slot:
                same = list(challenger.items) == list(answer.items)
            if same:
                return [float(item in held) for item in answer.items]
            if answer.weights is None:
                return None
        if not self._by_slot:
            pairs = zip(answer.items, answer.weights, strict=True)
            return [weight if item in held else 0.0 for item, weight in pairs]
        wanted = [*challenger.items, *[None] * len(answer.items)]
        slots = zip(answer.items, wanted, answer.propensities, strict=False)
        return [1.0 / p if item == other and p else 0.0 for item, other, p in slots]


def _lift_of(totals: Array, rules: Rules) -> Effect:
    """Compare the challenger with the control, from totals [clusters, slots, 4] of `Predictions`."""
    by_slot = totals.sum(axis=0)
    slots = np.flatnonzero(by_slot[:, 1] > 0).tolist()
    columns = {"control_reward": totals[:, :, 0].sum(axis=1), "control_rows": totals[:, :, 1].sum(axis=1)}
    mix: list[tuple[float, str, str]] = []
    for slot in slots:
        columns |= {f"reward_{slot}": totals[:, slot, 2], f"weight_{slot}": totals[:, slot, 3]}
        mix.append((float(by_slot[slot, 1] / by_slot[:, 1].sum()), f"reward_{slot}", f"weight_{slot}"))
    pairs = Aggregates.of(tuple(columns), np.stack(list(columns.values()), axis=1))
    return paired_mix(pairs, mix, ("control_reward", "control_rows"), rules)


@dataclass(frozen=True)
class Predicted:
    """A challenger's predicted lift beside the observed one; lifts are fractions, unknown is None.

    `z` is the difference of the log ratios over the root of the sum of their variances. Both rest on the
    control's units, so it is a cautious one: where they agree it is mostly nearer 0 than a normal number.
    """

    metric: str
    arm: str
    status: str
    requests: int
    rows: int
    effective_rows: float
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    observed_lift: float | None
    observed_low: float | None
    observed_high: float | None
    z: float | None
    agrees: bool | None


def predicted_of(
    stored: Mapping[str, Any], arm: str, observed: Effect | None, interval: tuple[float | None, float | None]
) -> Predicted:
    """Hold what `Predictions.result` told of an arm against the observed effect, at its alpha.

    `interval` is the observed lift's as the report shows it; `observed` is None where there is none.
    """
    own = stored["arms"][arm]
    z = None if observed is None else _z(own["lift"], own["lift_error"], observed)
    level = 0.05 if observed is None else observed.alpha
    return Predicted(
        metric=stored["metric"],
        arm=arm,
        status=own["status"],
        requests=stored["requests"],
        rows=own["rows"],
        effective_rows=own["effective_rows"],
        lift=own["lift"],
        lift_low=own["lift_low"],
        lift_high=own["lift_high"],
        observed_lift=None if observed is None else observed.lift,
        observed_low=interval[0],
        observed_high=interval[1],
        z=z,
        agrees=None if z is None else abs(z) <= -float(ndtri(level / 2)),
    )


def _z(lift: float | None, error: float | None, observed: Effect) -> float | None:
    other, other_error = observed.lift, observed.lift_error
    if lift is None or error is None or other is None or other_error is None or observed.lift_scale != "log":
        return None
    spread = sqrt(error * error + other_error * other_error)
    return (log1p(lift) - log1p(other)) / spread if spread else None
