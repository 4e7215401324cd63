"""Off-policy evaluation: what a policy would have earned an impression, from the log of another one.

A row of the log is an item shown, with the probability p that the logging policy gave it and the probability
q that the evaluated policy gives it; its weight is q / p. Every estimator is a ratio of two totals over rows,
and units are its clusters, for what one unit does hangs together. The log must give each item that the
evaluated policy may show a probability above 0: else the weights' mean is below 1, and the value is biased.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.estimates import Estimate, half_width
from armlift.stats.ratios import ratio
from armlift.stats.results import Status, check_share

PolicyMethod = Literal["replay", "ips", "snips", "doubly_robust"]
_TOTALS: Mapping[PolicyMethod, tuple[str, str]] = {
    "replay": ("matched_reward", "matched"),
    "ips": ("weighted_reward", "rows"),
    "snips": ("weighted_reward", "weight"),
    "doubly_robust": ("corrected", "rows"),
}
ASSUMPTIONS: Mapping[PolicyMethod, str] = {
    "replay": "the log showed items uniformly at random; units are independent",
    "ips": "the log's probabilities are true, and above 0 wherever the policy's are; units are independent",
    "snips": "as ips; a small bias that vanishes with units, for weights that need not add up to the rows",
    "doubly_robust": "the log's probabilities or the predicted rewards are right; units are independent",
}
COLUMNS = (
    "rows", "weight", "weight_square", "weighted_reward", "matched", "matched_reward", "corrected",
)  # fmt: skip


class Rows(NamedTuple):
    """Rows of a log, each an array [rows].

    `units` tells whose row it is (any hashable codes), `rewards` what came of it, `logged` the probability of
    the item under the log's policy, above 0, and `target` that under the evaluated one. `predicted` is a
    model's reward of the item shown, and `expected` its mean over the items that the evaluated policy shows;
    without a model both are None.
    """

    units: npt.NDArray[np.generic]
    rewards: Array
    logged: Array
    target: Array
    predicted: Array | None = None
    expected: Array | None = None


@dataclass(frozen=True)
class PolicyValue:
    """What a policy earns a row, with an interval over units.

    `n` counts units, `rows` the log's. `effective_rows`, (sum of weights)^2 over the sum of their squares
    (Kish 1965), says how many rows of the policy's own the log is worth; `mean_weight` is near 1 where the
    log supports the policy. Status: `no_data` without rows (or matches), `too_few` with one unit,
    `zero_variance` where nothing varies, `not_estimable` where a number is not finite.
    """

    method: PolicyMethod
    status: Status
    n: int
    rows: int
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    alpha: float
    effective_rows: float | None
    mean_weight: float | None

    @property
    def assumption(self) -> str:
        """Say what the estimator takes for granted."""
        return ASSUMPTIONS[self.method]


def totals_of(rows: Rows, *, clip: float | None = None) -> Aggregates:
    """Add rows up by unit, into aggregates over COLUMNS.

    A row matches where the evaluated policy is sure to show its item (probability 1). Weights above `clip`
    count as `clip` (Ionides 2008): less variance, and for rewards of 0 or more a value of `ips` that is too
    low in the mean. Raises InputError where arrays differ in length, or a probability is none or, of the log,
    0, and for a clip that is not above 0.
    """
    weight = weights_of(rows, clip=clip)
    count = len(rows.units)
    predicted = np.zeros(count) if rows.predicted is None else rows.predicted
    expected = np.zeros(count) if rows.expected is None else rows.expected
    matched = (rows.target == 1.0).astype(np.float64)
    values = (
        np.ones(count), weight, weight * weight, weight * rows.rewards, matched, matched * rows.rewards,
        expected + weight * (rows.rewards - predicted),
    )  # fmt: skip
    _, whose = np.unique(rows.units, return_inverse=True)
    sums = np.stack([np.bincount(whose, value) for value in values], axis=1)
    return Aggregates.of(COLUMNS, sums.astype(np.float64))


def weights_of(rows: Rows, *, clip: float | None = None) -> Array:
    """Give each row's weight q / p, at most `clip`; raises as `totals_of` does."""
    _check(rows)
    if clip is not None and not clip > 0.0:
        raise InputError(f"clip is {clip:g}, must be above 0")
    weights = rows.target / rows.logged
    return weights if clip is None else np.minimum(weights, clip)


def _check(rows: Rows) -> None:
    count = len(rows.units)
    named = {name: array for name, array in rows._asdict().items() if array is not None}
    for name, array in named.items():
        if array.shape != (count,):
            raise InputError(f"rows: {name} has shape {array.shape}, must be ({count},)")
    if (rows.predicted is None) != (rows.expected is None):
        raise InputError("rows: predicted and expected rewards must be given together")
    for name, least in (("logged", "above 0"), ("target", "0 or more")):
        probabilities = named[name]
        good = (probabilities > 0) if name == "logged" else (probabilities >= 0)
        wrong = np.flatnonzero(~(good & (probabilities <= 1)))
        if len(wrong):
            raise InputError(
                f"rows: {name}[{wrong[0]}] is {probabilities[wrong[0]]:g}, must be {least} and at most 1"
            )


def policy_value(totals: Aggregates, method: PolicyMethod, *, alpha: float = 0.05) -> PolicyValue:
    """Estimate what the evaluated policy earns a row, from aggregates over COLUMNS.

    - `replay`: mean reward of the rows that match (Li et al. 2011, for uniformly random logs);
    - `ips`: sum of w r over rows, w = q / p (Horvitz & Thompson 1952);
    - `snips`: sum of w r over the sum of w (Hajek 1971; Swaminathan & Joachims 2015);
    - `doubly_robust`: sum of m + w (r - m_shown) over rows, m the predicted rewards (Dudik et al. 2014).

    Variance by the delta method over units, as of any ratio; t quantile of n - 1.
    """
    check_share("alpha", alpha)
    numerator, denominator = _TOTALS[method]
    n = totals.n
    sums = totals.means * n
    rows, weight, squares = (sums.item(totals.index(name)) for name in ("rows", "weight", "weight_square"))
    estimate = ratio(totals, numerator, denominator)
    status = _status(estimate)
    value = None if status in ("no_data", "not_estimable") else estimate.value
    error = sqrt(estimate.variance) if status == "ok" else None
    half = None if error is None else half_width(error, n - 1, alpha)
    return PolicyValue(
        method=method,
        status=status,
        n=n,
        rows=round(rows),
        value=value,
        standard_error=error,
        low=None if value is None or half is None else value - half,
        high=None if value is None or half is None else value + half,
        alpha=alpha,
        effective_rows=weight * weight / squares if squares > 0 else None,
        mean_weight=weight / rows if rows else None,
    )


def _status(estimate: Estimate) -> Status:
    if estimate.value is None:
        return "no_data"
    if not isfinite(estimate.value):
        return "not_estimable"
    if estimate.n < 2:
        return "too_few"
    if not isfinite(estimate.variance):
        return "not_estimable"
    return "ok" if estimate.variance else "zero_variance"
