"""Populations of units to simulate experiments from: their true means, variances and draws."""

from collections.abc import Callable
from math import exp
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], list[Array]]
"""From (random generator, experiments, units) to the columns' values, each [experiments, units]."""

REMAINING = 5.0 / 9.0
"""The share 1 - rho^2 of the variance that a unit's past leaves, in `with_past`."""


class Population(NamedTuple):
    """Units' columns, the metric's true value without lift, and a unit's variance (of a ratio: linearised).

    `share` says that the metric is 0 or 1.
    """

    name: str
    columns: tuple[str, ...]
    value: float
    variance: float
    draw: Draw
    share: bool = False

    def lifted(self, rng: np.random.Generator, columns: list[Array], lift: float) -> list[Array]:
        """Give the units an effect: the first column is multiplied by 1 + lift, or some zeros become ones."""
        first, *rest = columns
        if not self.share:
            return [first * (1.0 + lift), *rest]
        turned = rng.random(first.shape) < lift * self.value / (1.0 - self.value)
        return [np.maximum(first, turned), *rest]

    def lifted_variance(self, lift: float) -> float:
        """Give a unit's variance in an arm with that lift."""
        lifted = self.value * (1.0 + lift)
        return lifted * (1.0 - lifted) if self.share else self.variance * (1.0 + lift) ** 2


def _normal() -> Population:
    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        return [rng.normal(4.0, 2.0, (sims, n))]

    return Population("normal", ("y",), 4.0, 4.0, draw)


def _exponential() -> Population:
    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        return [rng.standard_exponential((sims, n))]

    return Population("exponential", ("y",), 1.0, 1.0, draw)


def _zero_inflated(some: float = 0.1, sigma: float = 1.5) -> Population:
    """Make nine units in ten that spend nothing, and a log-normal for the others: mean 1."""
    location = -np.log(some) - sigma * sigma / 2.0

    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        values = np.zeros((sims, n))
        spends = rng.random((sims, n)) < some
        values[spends] = rng.lognormal(location, sigma, int(spends.sum()))
        return [values]

    return Population("zero-inflated log-normal", ("y",), 1.0, exp(sigma * sigma) / some - 1.0, draw)


def _bernoulli(p: float = 0.01) -> Population:
    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        return [(rng.random((sims, n)) < p).astype(np.float64)]

    return Population("Bernoulli 1 %", ("y",), p, p * (1.0 - p), draw, share=True)


def _clustered(shown: float = 10.0, b: float = 9.0) -> Population:
    """Make units with geometric impressions D, and a click rate p of their own, beta with parameters 1 and b.

    With R = E p, a unit's variance is (E D E[p (1 - p)] + E D^2 var p) / (E D)^2.
    """
    rate = 1.0 / (1.0 + b)
    rate_variance = rate * (1.0 - rate) / (b + 2.0)
    variance = (rate - rate * rate - rate_variance) / shown + (2.0 - 1.0 / shown) * rate_variance

    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        impressions = rng.geometric(1.0 / shown, (sims, n))
        clicked = rng.binomial(impressions, -np.expm1(-rng.exponential(1.0 / b, (sims, n))))
        return [clicked.astype(np.float64), impressions.astype(np.float64)]

    return Population("clustered ratio", ("m", "d"), rate, variance, draw)


def with_past() -> Population:
    """Make a skewed metric y and its past x, gammas of shape 3 that share two parts of three: rho = 2/3."""

    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        common = rng.standard_gamma(2.0, (sims, n))
        y, x = (common + rng.standard_exponential((sims, n)) for _ in range(2))
        return [y, x]

    return Population("gamma with a past", ("y", "x"), 3.0, 3.0, draw)


def in_pairs() -> Population:
    """Make units that meet both arms, with gammas that share one of two; the variance is the difference's."""

    def draw(rng: np.random.Generator, sims: int, n: int) -> list[Array]:
        common = rng.standard_exponential((sims, n))
        a, c = (common + rng.standard_exponential((sims, n)) for _ in range(2))
        return [a, c]

    return Population("gamma pairs", ("a", "c"), 2.0, 2.0, draw)


KINDS = {one.name: one for one in (_normal(), _exponential(), _bernoulli(), _clustered(), _zero_inflated())}
