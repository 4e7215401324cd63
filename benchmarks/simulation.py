"""Simulated experiments: armlift's own tests on the aggregates of many experiments, drawn at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from populations import Array

from armlift.stats.aggregates import Aggregates
from armlift.stats.always_valid import always_valid
from armlift.stats.results import Effect
from armlift.stats.tails import least_units

ALPHA = 0.05
CHUNK = 400_000
"""Values of a column drawn at once: they fit the cache."""

Parts = list[list[Array]]
"""The columns of each part of an experiment (an arm, or an arm in a stratum), each [experiments, units]."""


class Batch(NamedTuple):
    """Aggregates of one part in many experiments, at each of several looks.

    `n` [looks] counts units so far, `means` is [experiments, looks, p], `moments` [experiments, looks, p, p].
    """

    names: tuple[str, ...]
    n: tuple[int, ...]
    means: Array
    moments: Array

    @classmethod
    def of(cls, names: tuple[str, ...], columns: Sequence[Array], looks: int = 1) -> "Batch":
        """Aggregate columns [experiments, units], whose units came evenly before the looks.

        Plain sums will do: no population here has a mean of many standard deviations, and zeros stay exact.
        """
        units = columns[0].shape[1]
        ends = [units * look // looks for look in range(1, looks + 1)]
        counts = np.maximum(np.array(ends, dtype=np.float64), 1.0)
        means = np.stack([_sums(column, ends) for column in columns], axis=-1) / counts[:, None]
        moments = np.empty((*means.shape, len(columns)))
        for i, one in enumerate(columns):
            for j, other in enumerate(columns[: i + 1]):
                product = _sums(one * other, ends) - counts * means[..., i] * means[..., j]
                moments[..., i, j] = moments[..., j, i] = product
        return cls(names, tuple(ends), means, moments)

    def at(self, experiment: int, look: int = -1) -> Aggregates:
        """Give one experiment's aggregates at a look."""
        return Aggregates(
            self.names, self.n[look], self.means[experiment, look], self.moments[experiment, look]
        )


def _sums(values: Array, ends: Sequence[int]) -> Array:
    """Sum the first `ends` units of each experiment: [experiments, ends]."""
    totals: Array
    if len(ends) == 1:
        totals = values.sum(axis=1, keepdims=True)
        return totals
    totals = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
    return totals[:, ends]


class Case(NamedTuple):
    """Experiments of one kind: how they are drawn and tested.

    `draw` makes the parts of (random generator, experiments) without an effect, `lifted` gives them one,
    `prepared` makes of them what is tested, `test` compares aggregates. With `looks` > 1 A/A experiments are
    tested at each look. `planned` is the power that the formula promises.
    """

    data: str
    method: str
    split: str
    n: int
    units: int
    columns: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], Parts]
    lifted: Callable[[np.random.Generator, Parts, float], Parts]
    test: Callable[..., Effect]
    lift: float
    planned: float | None = None
    looks: int = 1
    prepared: Callable[[Parts], Parts] = list


@dataclass
class Cell:
    """What `sims` A/A and as many A/B experiments of a case gave, as counts.

    A test without an answer rejects nothing; an interval that is not known is left out of the coverage.
    `errors` sums the squared standard errors of A/A differences. `warned` counts the A/A experiments in which
    a report says that the units are too few for such skewed values; None where arms are not two samples.
    """

    case: Case
    sims: int = 0
    false_positives: int = 0
    found: int = 0
    intervals: int = 0
    covered: int = 0
    ever_fixed: int = 0
    ever_valid: int = 0
    errors: float = field(default=0.0)
    warned: int | None = 0

    def rate(self, count: int) -> float:
        """Give a count as a share of the experiments."""
        return count / self.sims

    @property
    def coverage(self) -> float | None:
        """Give the share of known intervals that held the true lift."""
        return self.covered / self.intervals if self.intervals else None


def rejects(effect: Effect) -> bool:
    """Say whether the fixed test finds a difference."""
    return effect.p_value is not None and effect.p_value < effect.alpha


def monte_carlo_error(rate: float, sims: int) -> float:
    """Give the standard error of a rate over `sims` experiments."""
    return sqrt(rate * (1.0 - rate) / sims)


def measure(case: Case, sims: int, seed: int) -> Cell:
    """Run `sims` A/A and A/B experiments of a case."""
    cell = Cell(case)
    rng = np.random.default_rng(seed)
    while cell.sims < sims:
        size = min(sims - cell.sims, max(1, CHUNK // case.units))
        parts = case.draw(rng, size)
        tested = case.prepared(parts)
        if cell.warned is not None:
            cell.warned = cell.warned + int(warns(case, tested).sum()) if len(tested) == 2 else None
        _without_effect(cell, _batches(case, tested, case.looks))
        _with_effect(cell, _batches(case, case.prepared(case.lifted(rng, parts, case.lift))))
        cell.sims += size
    return cell


def warns(case: Case, parts: Parts) -> npt.NDArray[np.bool_]:
    """Say of each experiment of two arms whether a report warns of skewed values."""
    found = np.zeros(len(parts[0][0]), dtype=bool)
    values = [columns[0] for columns in parts]
    if case.columns[-1] == "d":
        totals = [sum(columns[i].sum(axis=1) for columns in parts) for i in (0, 1)]
        values = [columns[0] - (totals[0] / totals[1])[:, None] * columns[1] for columns in parts]
    for one in values:
        away = one - one.mean(axis=1, keepdims=True)
        spread = (away * away).mean(axis=1)
        third = (away * away * away).mean(axis=1)
        skewness = np.divide(third, spread**1.5, out=np.zeros_like(third), where=spread > 0)
        found |= np.array([least_units(g) > one.shape[1] for g in skewness.tolist()])
    return found


def _batches(case: Case, parts: Parts, looks: int = 1) -> list[Batch]:
    return [Batch.of(case.columns, columns, looks) for columns in parts]


def _without_effect(cell: Cell, parts: Sequence[Batch]) -> None:
    looks, test = cell.case.looks, cell.case.test
    for experiment in range(len(parts[0].means)):
        fixed = valid = False
        for look in range(looks):
            effect = test(*(part.at(experiment, look) for part in parts))
            if rejects(effect):
                fixed = True
                # The always-valid interval is wider at every look: it need not be asked before.
                valid = valid or (always_valid(effect).p_value or 0.0) < effect.alpha
        cell.false_positives += rejects(effect)
        cell.errors += (effect.standard_error or 0.0) ** 2
        cell.ever_fixed += fixed
        cell.ever_valid += valid


def _with_effect(cell: Cell, parts: Sequence[Batch]) -> None:
    for experiment in range(len(parts[0].means)):
        effect = cell.case.test(*(part.at(experiment) for part in parts))
        cell.found += rejects(effect)
        if effect.lift_low is not None and effect.lift_high is not None:
            cell.intervals += 1
            cell.covered += effect.lift_low <= cell.case.lift <= effect.lift_high
