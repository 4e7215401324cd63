"""Sufficient statistics of units: count, means, centred second moments and cross products."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np
import numpy.typing as npt

from armlift.errors import InputError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Aggregates:
    """What n units tell about p columns, each unit's value being its total since its first exposure.

    `means` is float64 [p]; `moments` is float64 [p, p], the centred sums over units
    sum (x_i - mean_i)(x_j - mean_j), not divided by anything. With n = 0 both are 0 and mean nothing.
    Raises InputError where the shapes do not fit the names.
    """

    names: tuple[str, ...]
    n: int
    means: Array
    moments: Array

    def __post_init__(self) -> None:
        p = len(self.names)
        if self.means.shape != (p,) or self.moments.shape != (p, p):
            raise InputError(
                f"aggregates of {p} columns: means have shape {self.means.shape}, moments "
                f"{self.moments.shape}, must be {(p,)} and {(p, p)}"
            )
        if self.n < 0:
            raise InputError(f"aggregates: n is {self.n}, must be 0 or more")

    @classmethod
    def of(cls, names: tuple[str, ...], values: Array) -> Self:
        """Aggregate `values` [n, p], one row a unit, in two passes.

        Raises InputError where `values` is not [n, len(names)].
        """
        if values.ndim != 2 or values.shape[1] != len(names):
            raise InputError(f"values have shape {values.shape}, must be (n, {len(names)})")
        if not len(values):
            return cls.empty(names)
        means = values.mean(axis=0)
        means = means + (values - means).mean(axis=0)  # takes the rounding of the first sum away
        centred = values - means
        return cls(names, len(values), means, centred.T @ centred)

    @classmethod
    def empty(cls, names: tuple[str, ...]) -> Self:
        """Give the aggregates of no unit, the neutral element of `merge`."""
        return cls(names, 0, np.zeros(len(names)), np.zeros((len(names), len(names))))

    def index(self, name: str) -> int:
        """Give the position of a column; raises InputError for one that is not there."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"column {name!r} is not aggregated, must be one of {self.names}") from None

    def over(self, names: tuple[str, ...]) -> "Aggregates":
        """Give the aggregates of some of the columns; raises InputError for one that is not there."""
        places = [self.index(name) for name in names]
        return Aggregates(names, self.n, self.means[places], self.moments[np.ix_(places, places)])

    def mean(self, name: str) -> float | None:
        """Give a column's mean a unit; None without units."""
        return self.means.item(self.index(name)) if self.n else None

    def variance(self, name: str) -> float | None:
        """Give a column's sample variance (divided by n - 1); None with fewer than two units."""
        return self.covariance(name, name)

    def covariance(self, a: str, b: str) -> float | None:
        """Give two columns' sample covariance (divided by n - 1); None with fewer than two units."""
        moment: float = self.moments.item(self.index(a), self.index(b))
        return moment / (self.n - 1) if self.n > 1 else None


def merge(a: Aggregates, b: Aggregates) -> Aggregates:
    """Join the aggregates of two disjoint sets of units: equal to aggregating them together.

    With d = mean_b - mean_a: mean = mean_a + d n_b / n, moments = S_a + S_b + d d' n_a n_b / n.
    Raises InputError where the columns differ. Source: Chan, Golub & LeVeque (1983), equation 2.1.
    """
    if a.names != b.names:
        raise InputError(f"aggregates of columns {a.names} cannot be merged with those of {b.names}")
    if not a.n or not b.n:
        return a if a.n else b
    n = a.n + b.n
    delta = b.means - a.means
    moments = a.moments + b.moments + np.outer(delta, delta) * (a.n / n * b.n)
    return Aggregates(a.names, n, a.means + delta * (b.n / n), moments)


def merge_all(parts: Iterable[Aggregates]) -> Aggregates:
    """Join the aggregates of disjoint sets of units, at least one; see `merge`."""
    parts = list(parts)
    if not parts:
        raise InputError("merge_all got 0 aggregates, must be at least 1")
    return reduce(merge, parts)
