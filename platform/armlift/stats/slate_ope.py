"""Slate off-policy evaluation: what a policy would have earned a slate, from the slates of another one.

A slate has k slots. `p` is the logging policy's probability of a slot's item given those before it, `q` the
evaluated policy's. Every estimator is a sum over slots of ratios of totals, and units are the clusters, for
what one unit does hangs together. The estimators trade bias for variance by what a reward may depend on: the
whole slate, the items up to it, or the item and slot alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.estimates import half_width, variance_of
from armlift.stats.ratios import ratio_terms
from armlift.stats.results import Status, check_share

SlateMethod = Literal[
    "slate_ips", "slate_snips", "item_ips", "item_snips", "interaction_ips", "interaction_snips",
    "pseudo_inverse", "pseudo_inverse_snips",
]  # fmt: skip
SLATE_METHODS: tuple[SlateMethod, ...] = (
    "slate_ips", "slate_snips", "item_ips", "item_snips", "interaction_ips", "interaction_snips",
    "pseudo_inverse", "pseudo_inverse_snips",
)  # fmt: skip
ASSUMPTIONS: Mapping[str, str] = {
    "slate": "nothing of how a reward comes about; any slate of the policy may be logged",
    "item": "a slot's reward depends on its item and slot alone",
    "interaction": "a slot's reward depends on its item and on those before it, not on those after it",
    "pseudo_inverse": "a slate's reward is a sum over its items and their slots; the log draws slots "
    "independently, or uniformly without repeats",
}


class Slates(NamedTuple):
    """Slates of a log, arrays [n, k] but for `units` [n].

    `rewards` is what came of each slot (a reward of the whole slate stands in its last slot, and then `item`
    estimates mean nothing), `logged` the probability of the slot's item given those before it under the log's
    policy, above 0, and `target` that under the evaluated one. `logged_at` and `target_at` are the
    probabilities of the item in that slot whatever is before it; None: slots are drawn independently, so that
    they are the same. `pool` says that the log draws without repeats, uniformly from so many items;
    `target_any` is then the expected number of slots in which the evaluated policy shows the item.
    """

    units: npt.NDArray[np.generic]
    rewards: Array
    logged: Array
    target: Array
    logged_at: Array | None = None
    target_at: Array | None = None
    target_any: Array | None = None
    pool: int | None = None


@dataclass(frozen=True)
class SlateValue:
    """What a policy earns a slate, with an interval over units; see `PolicyValue` for what is given when.

    `effective_slates` and `mean_weight` are those of the method's weights; by slot, the least of them.
    """

    method: SlateMethod
    status: Status
    n: int
    slates: int
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    alpha: float
    effective_slates: float | None
    mean_weight: float | None

    @property
    def assumption(self) -> str:
        """Say what the estimator takes for granted."""
        return ASSUMPTIONS[_kind(self.method)]


def slate_totals(slates: Slates, *, clip: float | None = None) -> Aggregates:
    """Add slates up by unit: of each kind of weight w, and slot, the totals of w, w^2 and w r.

    Weights above `clip` count as `clip`. Raises InputError where shapes differ, or a probability is none or,
    of the log, 0.
    """
    _check(slates)
    n, k = slates.rewards.shape
    columns: dict[str, Array] = {"slates": np.ones(n)}
    for kind, weights in _weights(slates).items():
        rewards = slates.rewards if weights.shape[1] == k else slates.rewards.sum(axis=1, keepdims=True)
        used = weights if clip is None else np.minimum(weights, clip)
        for slot in range(used.shape[1]):
            columns[f"{kind}_weight_{slot}"] = used[:, slot]
            columns[f"{kind}_square_{slot}"] = used[:, slot] ** 2
            columns[f"{kind}_reward_{slot}"] = used[:, slot] * rewards[:, slot]
    _, whose = np.unique(slates.units, return_inverse=True)
    sums = np.stack([np.bincount(whose, column) for column in columns.values()], axis=1)
    return Aggregates.of(tuple(columns), sums.astype(np.float64))


def slate_value(totals: Aggregates, method: SlateMethod, *, alpha: float = 0.05) -> SlateValue:
    """Estimate what the evaluated policy earns a slate, from `slate_totals`.

    With w_j the product of q / p over the slots up to j, and r_j a slot's reward:

    - `slate_ips`: sum of w_k (r_1 + ... + r_k) over slates (Horvitz & Thompson 1952);
    - `item_ips`: sum of r_j q_j / p_j, probabilities of the item at its slot (Li et al. 2018);
    - `interaction_ips`: sum of w_j r_j (McInerney et al. 2020, "reward interaction");
    - `pseudo_inverse`: sum of (r_1 + ... + r_k) w, w = q' G^+ s with G the log's mean of s s' over its slates
      as vectors s of (slot, item) indicators (Swaminathan et al. 2017, equation 5). With independent slots w
      is 1 + sum (q_j / p_j - 1); uniformly without repeats from m items, see `_uniform_weight`.

    The `_snips` of each divides by the weights' total instead, slot by slot where weights differ by slot.
    Variance by the delta method over units; t quantile of n - 1.
    """
    check_share("alpha", alpha)
    kind, n = _kind(method), totals.n
    slots = [name.rsplit("_", 1)[1] for name in totals.names if name.startswith(f"{kind}_weight_")]
    below = f"{kind}_weight_" if method.endswith("_snips") else None
    terms = [
        ratio_terms(totals, f"{kind}_reward_{slot}", "slates" if below is None else below + slot)
        for slot in slots
    ]
    status, value, error = _estimate(totals, terms)
    half = None if error is None else half_width(error, n - 1, alpha)
    means = {name: mean for name, mean in zip(totals.names, totals.means.tolist(), strict=True) if n}
    spreads = [
        (means.get(f"{kind}_weight_{slot}", 0.0), means.get(f"{kind}_square_{slot}", 0.0)) for slot in slots
    ]
    count = n * means.get("slates", 0.0)
    return SlateValue(
        method=method,
        status=status,
        n=n,
        slates=round(count),
        value=value,
        standard_error=error,
        low=None if value is None or half is None else value - half,
        high=None if value is None or half is None else value + half,
        alpha=alpha,
        effective_slates=min((n * w * w / s if s > 0 else 0.0 for w, s in spreads), default=None),
        mean_weight=min((n * w / count for w, _ in spreads), default=None) if count else None,
    )


def _estimate(
    totals: Aggregates, terms: list[tuple[float, list[tuple[int, float]]] | None]
) -> tuple[Status, float | None, float | None]:
    """Add ratios up: status, value and standard error."""
    if not totals.n or not terms:
        return "no_data", None, None
    known = [term for term in terms if term is not None]
    if len(known) < len(terms):
        return "no_data", None, None
    value = sum(term[0] for term in known)
    if not isfinite(value):
        return "not_estimable", None, None
    gradient: dict[int, float] = {}
    for _, parts in known:
        for column, slope in parts:
            gradient[column] = gradient.get(column, 0.0) + slope
    if totals.n < 2:
        return "too_few", value, None
    variance = variance_of(totals, list(gradient.items()))
    if not isfinite(variance):
        return "not_estimable", None, None
    return ("ok", value, sqrt(variance)) if variance else ("zero_variance", value, None)


def _kind(method: SlateMethod) -> str:
    return method.removesuffix("_snips").removesuffix("_ips")


def _weights(slates: Slates) -> dict[str, Array]:
    """Give each kind's weights: [n, 1] of whole slates, [n, k] by slot."""
    ratios = slates.target / slates.logged
    running = np.cumprod(ratios, axis=1).astype(np.float64)
    logged_at = slates.logged if slates.logged_at is None else slates.logged_at
    target_at = slates.target if slates.target_at is None else slates.target_at
    at = target_at / logged_at
    linear = 1.0 + (at - 1.0).sum(axis=1, keepdims=True) if slates.pool is None else _uniform_weight(slates)
    return {"slate": running[:, -1:], "item": at, "interaction": running, "pseudo_inverse": linear}


def _uniform_weight(slates: Slates) -> Array:
    """Give the pseudo-inverse weight, [n, 1], of slates drawn uniformly without repeats from m items.

    G has three eigenspaces with eigenvalues k/m, (m - k) / (m (m - 1)) and 1 / (m - 1): constants, what
    depends on the item alone, and what depends on item and slot. With a = sum of q_at over the slots, and
    b = sum of q_any, w = 1 + (m - 1) (a - b / k) + m (m - 1) / (k (m - k)) (b - k^2 / m); the last term is 0
    where k = m, for then every slate holds the same items.
    """
    assert slates.pool is not None
    m, k = slates.pool, slates.rewards.shape[1]
    target_at = slates.target if slates.target_at is None else slates.target_at
    assert slates.target_any is not None  # _check has seen to it
    a, b = target_at.sum(axis=1, keepdims=True), slates.target_any.sum(axis=1, keepdims=True)
    weight: Array = 1.0 + (m - 1) * (a - b / k)
    return weight if m == k else weight + m * (m - 1) / (k * (m - k)) * (b - k * k / m)


def _check(slates: Slates) -> None:
    shape = slates.rewards.shape
    if len(shape) != 2 or shape[1] < 1 or slates.units.shape != shape[:1]:
        raise InputError(
            f"slates: units have shape {slates.units.shape}, rewards {shape}, must be (n,) and (n, k) with k "
            "of 1 or more"
        )
    for name in ("logged", "target", "logged_at", "target_at", "target_any"):
        array = getattr(slates, name)
        if array is None:
            continue
        if array.shape != shape:
            raise InputError(f"slates: {name} has shape {array.shape}, must be {shape}")
        most = shape[1] if name == "target_any" else 1
        good = (array > 0) if name.startswith("logged") else (array >= 0)
        wrong = np.argwhere(~(good & (array <= most)))
        if len(wrong):
            row, slot = wrong[0].tolist()
            least = "above 0" if name.startswith("logged") else "0 or more"
            raise InputError(
                f"slates: {name}[{row}, {slot}] is {array[row, slot]:g}, must be {least} and at most {most}"
            )
    if slates.pool is not None and (slates.pool < shape[1] or slates.target_any is None):
        raise InputError(f"slates: a pool of {slates.pool} must hold {shape[1]} items, with target_any given")
