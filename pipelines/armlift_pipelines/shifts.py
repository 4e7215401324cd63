"""Shifts between counts of two periods, and how large they are expected to be by chance alone.

With few rows every such measure is biased upward: shares of small samples differ though nothing has changed.
So each comes with its `noise`, the value expected where both periods are samples of one world, and its
`limit`, which chance exceeds about once in a thousand. Rows are taken for independent; where units do the
same again and again, chance alone does more.

PSI (population stability index)   sum of (p - q) ln(p / q) over bins; about (1/n + 1/m) times a chi-squared
                                   number of K - 1 degrees of freedom (Yurdakul 2018, Statistical Properties
                                   of the Population Stability Index)
JS (Jensen-Shannon, base 2)        for a small shift PSI / (8 ln 2), so about
                                   (K - 1)(1/n + 1/m) / (8 ln 2) is expected; many items of
                                   few rows ask for more care: noise is the mean over all
                                   ways to deal each item's rows to periods of n and m rows
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, gammaln

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Counts = tuple[int, int]
"""Rows in the period, and in the one it is held against."""

BITS = 8 * np.log(2)
"""For small shifts, PSI over JS."""
ALPHA = 0.001
_DEVIATIONS = 3.09
"""Standard deviations above its mean that a normal number exceeds once in a thousand."""
_WIDE = 12
"""Standard deviations of an item's count that are looked at."""
_DRAWS = 100
SMOOTHING = 0.5
"""Rows added to every bin of the PSI, so that an empty one is no infinite shift."""


class Shift(NamedTuple):
    """A shift, the value expected by chance alone, what chance seldom exceeds, rows of both periods, bins."""

    value: float
    noise: float
    limit: float
    n: int
    m: int
    bins: int


class Pair(NamedTuple):
    """How many items (`items`) have `n` rows in the period and `m` in the one it is held against."""

    n: int
    m: int
    items: int


def stability(counts: Iterable[Counts]) -> Shift | None:
    """Give the PSI of bins; None where a period has no row or there is only one bin."""
    table = np.array([pair for pair in counts if any(pair)], dtype=np.float64).reshape(-1, 2)
    (n, m), bins = table.sum(axis=0), len(table)
    if not n or not m or bins < 2:
        return None
    p, q = ((table + SMOOTHING) / (table.sum(axis=0) + SMOOTHING * bins)).T
    unit = 1 / n + 1 / m
    value = float(((p - q) * np.log(p / q)).sum())
    limit = float(chdtri(bins - 1, ALPHA)) * unit
    return Shift(value, float((bins - 1) * unit), float(limit), int(n), int(m), bins)


def divergence(pairs: Sequence[Pair]) -> Shift | None:
    """Give the JS of item shares; None where a period has no row."""
    n, m, items = _sizes(pairs)
    if not n or not m:
        return None
    table = np.array(pairs, dtype=np.float64)
    value = float((_terms(table[:, 0], table[:, 1], n, m) * table[:, 2]).sum())
    mean = variance = covariance = spread = 0.0
    for total, times in _totals(pairs).items():
        x, chances = _dealt(total, n, m)
        terms = _terms(x, total - x, n, m)
        middle, centre = float(chances @ terms), float(chances @ x)
        mean += times * middle
        variance += times * float(chances @ (terms - middle) ** 2)
        covariance += times * float(chances @ ((terms - middle) * (x - centre)))
        spread += times * float(chances @ (x - centre) ** 2)
    # Counts that must add up to n vary less: what a term shares with its count is no deviation.
    free = max(0.0, variance - (covariance**2 / spread if spread else 0.0))
    return Shift(value, mean, mean + _DEVIATIONS * free**0.5, n, m, items)


def unseen(pairs: Sequence[Pair]) -> Shift | None:
    """Give the share of rows on items that the other period has none of; None where a period has no row."""
    n, m, items = _sizes(pairs)
    if not n or not m:
        return None
    value = sum(pair.n * pair.items for pair in pairs if not pair.m) / n
    mean = variance = 0.0
    for total, times in _totals(pairs).items():
        chance = float(_chances(np.array([float(total)]), total, n, m)[0]) if total <= n else 0.0
        mean += times * total * chance
        variance += times * total**2 * chance * (1 - chance)
    return Shift(value, mean / n, (mean + _DEVIATIONS * variance**0.5) / n, n, m, items)


def turnover(pairs: Sequence[Pair], top: int) -> Shift | None:
    """Give the share of the `top` items of most rows that were not among those of the other period.

    Ties go by lot, and the share is the mean over all lots. What chance does is told by draws: each item's
    rows are dealt to the periods anew. None where a period has no row.
    """
    n, m, items = _sizes(pairs)
    if not n or not m:
        return None
    table = np.array(pairs)
    random = np.random.default_rng(0)
    totals = np.sort(np.repeat(table[:, 0] + table[:, 1], table[:, 2]))
    once = np.ones(len(totals), dtype=np.int64)
    drawn = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        x = random.binomial(totals, n / (n + m))
        drawn[draw] = _left(x, totals - x, once, top)
    noise = float(drawn.mean())
    limit = noise + _DEVIATIONS * float(drawn.std(ddof=1))
    return Shift(_left(table[:, 0], table[:, 1], table[:, 2], top), noise, limit, n, m, items)


def binned(histogram: Mapping[float, Counts]) -> list[Counts]:
    """Put values into at most ten bins, by the tenth of the second period that the value's first row lies in.

    So a bin holds about a tenth of that period, and equal values share one.
    """
    m = sum(count[1] for count in histogram.values())
    bins: dict[int, Counts] = {}
    before = 0
    for value in sorted(histogram):
        tenth = min(9, 10 * before // m) if m else 0
        n, there = bins.get(tenth, (0, 0))
        bins[tenth] = n + histogram[value][0], there + histogram[value][1]
        before += histogram[value][1]
    return list(bins.values())


def _sizes(pairs: Sequence[Pair]) -> tuple[int, int, int]:
    """Count the rows of both periods, and the items."""
    return (
        sum(pair.n * pair.items for pair in pairs),
        sum(pair.m * pair.items for pair in pairs),
        sum(pair.items for pair in pairs),
    )


def _totals(pairs: Sequence[Pair]) -> dict[int, int]:
    """Count the items by their rows in both periods together."""
    found: dict[int, int] = {}
    for pair in pairs:
        found[pair.n + pair.m] = found.get(pair.n + pair.m, 0) + pair.items
    return found


def _terms(x: Floats, y: Floats, n: int, m: int) -> Floats:
    """Give what items of `x` and `y` rows add to the JS, in bits."""
    p, q = x / n, y / m
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(share > 0, share * np.log2(share / middle), 0.0) for share in (p, q)]
    return np.asarray((parts[0] + parts[1]) / 2)


def _dealt(total: int, n: int, m: int) -> tuple[Floats, Floats]:
    """Give the counts that an item of `total` rows may have in the first of two periods, with chances."""
    share = n / (n + m)
    middle, wide = total * share, _WIDE * (total * share * (1 - share)) ** 0.5 + _WIDE
    low, high = max(0, total - m, int(middle - wide)), min(total, n, int(middle + wide))
    x = np.arange(low, high + 1, dtype=np.float64)
    return x, _chances(x, total, n, m)


def _chances(x: Floats, total: int, n: int, m: int) -> Floats:
    """Give the chance that of `total` rows among n + m just x are among the n: the hypergeometric one."""
    logs = _choose(total, x) + _choose(n + m - total, n - x) - _choose(n + m, n)
    return np.asarray(np.exp(logs))


def _choose(n: int, k: Floats | int) -> Floats:
    """Give the logarithm of n over k."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - np.asarray(k) + 1))


def _left(x: Whole, y: Whole, items: Whole, top: int) -> float:
    """Give the share of the top by `x` that is not of the top by `y`; each count stands for some items."""
    first, second = _chance_of_top(x, items, top), _chance_of_top(y, items, top)
    size = float(first @ items)
    return 1 - float((first * second) @ items) / size if size else 0.0


def _chance_of_top(counts: Whole, items: Whole, top: int) -> Floats:
    """Give the chance that an item of each count is among the `top` of the largest counts over 0."""
    equal = np.bincount(counts, weights=items)
    above = equal[::-1].cumsum()[::-1] - equal
    chances = np.clip((top - above) / np.maximum(equal, 1), 0, 1)
    chances[0] = 0.0
    return np.asarray(chances[counts])
