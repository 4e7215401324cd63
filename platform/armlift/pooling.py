"""Pooling: what units earn under several seeds, put together.

A unit's values under the seeds are averaged first, so that resampling units keeps the seeds of a unit
together. Intervals tell how other units would change the mean; how other seeds would is not in them.
"""

from collections.abc import Sequence

import numpy as np

from armlift.evaluation import DRAWS, LEVEL, Floats, Interval, bootstrap

_CLASSES = 1000  # with more distinct values, drawing units is faster than drawing how often each value occurs
_DIGITS = 12  # values that differ by rounding alone are one


def unit_means(seeds: Sequence[Floats]) -> Floats:
    """Average each unit's values over seeds, float64 [units] each; NaN, no value, is left out."""
    values = np.stack(seeds)
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def mean_interval(values: Floats, *, seed: int = 0) -> Interval | None:
    """Give the mean over units with its percentile bootstrap interval (95 %); None if no unit has a value."""
    found = values[~np.isnan(values)]
    if not len(found):
        return None
    distinct, classes = np.unique(np.round(found, _DIGITS), return_inverse=True)
    if len(distinct) <= _CLASSES:
        return bootstrap(classes, distinct, seed=seed)
    random = np.random.default_rng(seed)
    means = [found[random.integers(len(found), size=len(found))].mean() for _ in range(DRAWS)]
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(found.mean()), float(low), float(high))


def difference(one: Floats, other: Floats) -> Interval | None:
    """Give the mean difference of two settings on the same units, one - other, with its interval."""
    return mean_interval(one - other)


def stopping_point(settings: Sequence[Floats], *, lower_is_better: bool = False) -> int:
    """Find the first setting that no later one is better than beyond chance: from it on more stops helping.

    `settings`, float64 [units] each, are in their order; gives an index into them.
    """
    sign = -1.0 if lower_is_better else 1.0
    for at, here in enumerate(settings):
        gaps = (difference(sign * here, sign * later) for later in settings[at + 1 :])
        if not any(gap is not None and gap.high < 0 for gap in gaps):
            return at
    return len(settings) - 1
