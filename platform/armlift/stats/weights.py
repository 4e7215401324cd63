"""Weights of an off-policy evaluation: whether a log is fit to tell of another policy."""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.estimates import half_width
from armlift.stats.ratios import ratio
from armlift.stats.results import Status, check_share

TOP = 0.01
"""The share of rows, those of largest weight, whose part of all weight is told."""


@dataclass(frozen=True)
class Weights:
    """What the weights of a log's rows look like.

    `mean`, with an interval over units, is 1 in expectation where the log's probabilities are true and above
    0 wherever the policy's are. `effective_rows` is (sum of w)^2 / sum of w^2 (Kish 1965), `top_share` the
    part of all weight that the 1 % of rows with most hold; `clipped` counts rows whose weight was cut, and
    `clipped_share` is the part of all weight that was cut off. Status as of `PolicyValue`.
    """

    status: Status
    rows: int
    units: int
    mean: float | None
    mean_low: float | None
    mean_high: float | None
    alpha: float
    maximum: float | None
    effective_rows: float | None
    top_share: float | None
    clipped: int
    clipped_share: float

    @property
    def off_one(self) -> bool:
        """Tell whether the interval of the mean leaves out 1."""
        if self.mean_low is None or self.mean_high is None:
            return self.status == "zero_variance" and self.mean is not None and abs(self.mean - 1.0) > 1e-9
        return not self.mean_low <= 1.0 <= self.mean_high


def describe_weights(
    units: npt.NDArray[np.generic], weights: Array, *, clip: float | None = None, alpha: float = 0.05
) -> Weights:
    """Describe weights [n] of rows of `units` [n]; the mean's interval is that of weights not yet clipped."""
    check_share("alpha", alpha)
    n = len(weights)
    _, whose = np.unique(units, return_inverse=True)
    sums = np.stack([np.bincount(whose), np.bincount(whose, weights)], axis=1).astype(np.float64)
    totals = Aggregates.of(("rows", "weight"), sums)
    mean = ratio(totals, "weight", "rows")
    status: Status = (
        "no_data" if not n else "too_few" if mean.n < 2 else "ok" if mean.variance else "zero_variance"
    )
    half = half_width(sqrt(mean.variance), mean.n - 1, alpha) if status == "ok" else None
    used = weights if clip is None else np.minimum(weights, clip)
    total, squares = float(used.sum()), float((used * used).sum())
    whole = float(weights.sum())
    top = ceil(TOP * n)
    return Weights(
        status=status,
        rows=n,
        units=mean.n,
        mean=mean.value,
        mean_low=None if half is None or mean.value is None else mean.value - half,
        mean_high=None if half is None or mean.value is None else mean.value + half,
        alpha=alpha,
        maximum=float(used.max()) if n else None,
        effective_rows=total * total / squares if squares > 0.0 else None,
        top_share=float(np.partition(used, n - top)[n - top :].sum()) / total if total > 0.0 else None,
        clipped=int((weights > used).sum()),
        clipped_share=1.0 - total / whole if whole > 0.0 else 0.0,
    )
