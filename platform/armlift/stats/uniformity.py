"""Are p-values of tests without an effect uniform, as those of a sound test are?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from scipy.special import bdtr, bdtrc, kolmogorov

from armlift.errors import InputError
from armlift.stats.results import check_share

Soundness = Literal["sound", "too_often", "too_seldom", "uneven", "no_data"]

FEWEST = 20
"""Below this many p-values nothing is said."""
MATERIAL_SHARE = 0.2
"""A share of rejections within this part of alpha is near enough: 4 to 6 % at 5 %."""
MATERIAL_DISTANCE = 0.03
"""A distribution of p-values within this distance of the uniform one is near enough."""


@dataclass(frozen=True)
class Uniformity:
    """What p-values of tests without an effect say of the test; unknown is None.

    `share` are below `alpha`, with `error` the Monte-Carlo standard error sqrt(share (1 - share) / n) and
    `share_p` the two-sided binomial p-value against alpha. `distance` is the largest between their
    distribution and the uniform one, `distance_p` its Kolmogorov-Smirnov p-value. `tenths` counts the
    p-values in each tenth of [0, 1]. Status, the first that holds: `no_data` with fewer
    than FEWEST; `too_often` or `too_seldom` where the share is off alpha beyond both chance and what is
    material; `uneven` where the distance is, as where a metric takes few values; else `sound`.
    """

    status: Soundness
    n: int
    alpha: float
    share: float | None
    error: float | None
    share_p: float | None
    distance: float | None
    distance_p: float | None
    tenths: tuple[int, ...]


def uniformity(p_values: Sequence[float], *, alpha: float = 0.05, level: float = 0.01) -> Uniformity:
    """Test independent p-values of tests without an effect; a sound test is flagged with chance `level`.

    Each of the two tests has level / 2. Binomial: 2 min(P(X <= x), P(X >= x)) for x of n below alpha.
    Kolmogorov-Smirnov: D = max over sorted p of (i/n - p_(i), p_(i) - (i - 1)/n), p-value by the limit of
    sqrt(n) D, which errs to the safe side. Given many p-values any test is off a little: the share must be
    off by more than MATERIAL_SHARE of alpha, the distance by more than MATERIAL_DISTANCE. Raises InputError
    for p-values outside [0, 1], a bad alpha or a bad level. Source: Kolmogorov (1933); Smirnov (1948).
    """
    check_share("alpha", alpha)
    check_share("level", level)
    values = np.sort(np.asarray(p_values, dtype=np.float64))
    n = len(values)
    if n and not (values[0] >= 0.0 and values[-1] <= 1.0):
        raise InputError(f"p-values lie from {values[0]} to {values[-1]}, must be from 0 to 1")
    tenths = tuple(np.histogram(values, bins=10, range=(0.0, 1.0))[0].tolist())
    if n < FEWEST:
        return Uniformity("no_data", n, alpha, None, None, None, None, None, tenths)
    below = int(np.count_nonzero(values < alpha))
    share = below / n
    at_least = 1.0 if below == 0 else float(bdtrc(below - 1, n, alpha))
    share_p = min(1.0, 2.0 * min(float(bdtr(below, n, alpha)), at_least))
    steps = np.arange(n) / n
    distance = float(max((steps + 1.0 / n - values).max(), (values - steps).max()))
    distance_p = float(kolmogorov(sqrt(n) * distance))
    off_share = share_p < level / 2 and abs(share - alpha) > MATERIAL_SHARE * alpha
    off_distance = distance_p < level / 2 and distance > MATERIAL_DISTANCE
    status: Soundness = "uneven" if off_distance else "sound"
    if off_share:
        status = "too_often" if share > alpha else "too_seldom"
    error = sqrt(share * (1.0 - share) / n)
    return Uniformity(status, n, alpha, share, error, share_p, distance, distance_p, tenths)
