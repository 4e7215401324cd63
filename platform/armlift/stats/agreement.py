"""Agreement between raters on an ordinal scale, as Krippendorff's alpha."""

from typing import NamedTuple

import numpy as np

from armlift.errors import InputError
from armlift.stats.aggregates import Array
from armlift.stats.results import DEFAULT_RULES, Rules, Status

RESAMPLES = 2_000
"""Resamples behind an interval; the draws are always the same."""


class Agreement(NamedTuple):
    """How far raters agree: `alpha` is 1 where they always do, 0 where they do as chance would have it.

    `rated` counts what was rated by two raters or more, `clusters` the groups that hang together among it.
    Status, the first that holds, each without numbers but the last: `no_data`, nothing was rated twice;
    `too_few`, fewer clusters than `Rules.min_units`; `zero_variance`, all ratings are the same, so that
    nobody knows what chance would do; `ok`.
    """

    status: Status
    rated: int
    clusters: int
    alpha: float | None = None
    low: float | None = None
    high: float | None = None


def agreement(counts: Array, clusters: Array, rules: Rules = DEFAULT_RULES) -> Agreement:
    """Measure the agreement on what was rated, with an interval of confidence 1 - `Rules.alpha`.

    `counts` [things, values] says how many raters gave a thing each value of the scale, lowest first;
    `clusters` [things] numbers the groups that are drawn together in the bootstrap behind the interval
    (percentiles; resamples whose ratings are all the same are left out). Raises InputError for other shapes.
    """
    if counts.ndim != 2 or clusters.shape != (len(counts),):
        raise InputError(f"counts have shape {counts.shape}, clusters {clusters.shape}, must be (n, v), (n,)")
    twice = counts.sum(axis=1) > 1
    counts, places = counts[twice], np.unique(clusters[twice], return_inverse=True)[1]
    groups = int(places.max()) + 1 if len(places) else 0
    if not len(counts):
        return Agreement("no_data", 0, 0)
    if groups < max(2, rules.min_units):
        return Agreement("too_few", len(counts), groups)
    by_cluster = np.zeros((groups, counts.shape[1], counts.shape[1]))
    np.add.at(by_cluster, places, coincidences(counts))
    alpha = ordinal_alpha(by_cluster.sum(axis=0)).item()
    if np.isnan(alpha):
        return Agreement("zero_variance", len(counts), groups)
    draws = np.random.default_rng(0).multinomial(groups, np.full(groups, 1.0 / groups), RESAMPLES)
    resampled = ordinal_alpha(np.tensordot(draws.astype(np.float64), by_cluster, axes=1))
    low, high = np.nanquantile(resampled, [rules.alpha / 2.0, 1.0 - rules.alpha / 2.0]).tolist()
    return Agreement("ok", len(counts), groups, alpha, low, high)


def coincidences(counts: Array) -> Array:
    """Give the coincidences of values among the raters of each thing, [things, values, values].

    Of a thing that m raters rated, n_c of them c: o_ck = n_c (n_k - [c = k]) / (m - 1). Each adds up to m.
    """
    pairs = counts[:, :, None] * counts[:, None, :]
    values = np.arange(counts.shape[1])
    pairs[:, values, values] -= counts
    found: Array = pairs / (counts.sum(axis=1) - 1.0)[:, None, None]
    return found


def ordinal_alpha(found: Array) -> Array:
    """Give Krippendorff's alpha for ordinal data from coincidences [..., v, v]; NaN where nothing varies.

    With n_c = sum_k o_ck, n = sum_c n_c and the distance of ranks
    d_ck = (sum of n_g for g from c to k, less (n_c + n_k) / 2)^2:
    alpha = 1 - (n - 1) sum_{c<k} o_ck d_ck / sum_{c<k} n_c n_k d_ck.
    Source: Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section E.
    """
    margins = found.sum(axis=-1)
    below = margins.cumsum(axis=-1)
    middle = below - margins / 2.0  # so the distance of two values is that of the middles of their ranks
    distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    observed = (found * distance).sum(axis=(-2, -1))
    expected = (margins[..., :, None] * margins[..., None, :] * distance).sum(axis=(-2, -1))
    total = margins.sum(axis=-1)
    varies = expected > 0.0
    ratio = np.divide(observed, expected, out=np.full_like(expected, np.nan), where=varies)
    alpha: Array = 1.0 - (total - 1.0) * ratio
    return alpha
