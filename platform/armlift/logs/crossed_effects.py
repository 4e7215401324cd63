"""Crossed effects: the log odds of an outcome as a level, slopes, and one effect each of a unit and an item.

The model of row r, with columns x [n, q] and any number of groupings g (units, items):

    log odds = level + x_r slopes + sum over g of effect_g[code of r in g],  effect_g ~ N(0, spread_g^2)

It is fitted by a Gaussian variational approximation (Ormerod and Wand 2012, J. Comput. Graph. Stat. 21): each
effect is normal around its mean, apart from the others, and a row counts by what is expected over them, for
which E[sigmoid(N(m, v))] is sigmoid(m / sqrt(1 + pi v / 8)) (MacKay 1992, Neural Computation 4, p. 720).
Newton steps move the level and slopes, then each grouping in turn. Spreads follow by MacKay's fixed point,
spread^2 = sum(mean^2) / (groups - sum(variance) / spread^2), which goes there faster than EM. Plain penalised
quasi-likelihood, which takes effects as certain, finds spreads a fifth too small at 5 rows a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from armlift.logs.rows import Bools, Codes, Floats, Places

LEAST_SPREAD = 1e-3
FIRST_SPREAD = 0.5
LARGEST_STEP = 2.0
"""What a Newton step may move a log odds by: further off, the quadratic it believes in is wrong."""
PRIOR_PRECISION = 1e-2
"""Of level and slopes, so that an outcome that never (or always) happens has finite log odds."""
MOST_ROUNDS, TOLERANCE = 200, 1e-4


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects in log odds: `mean` and `deviation` (posterior), float64 [groups]; `spread` of new ones."""

    mean: Floats
    deviation: Floats
    spread: float

    def of(self, places: Places) -> Floats:
        """Give the effects of groups, float64 [n]; 0 for the place -1, a group that is not known."""
        known = np.append(self.mean, 0.0)
        effects: Floats = known[places]
        return effects

    def variance(self, places: Places) -> Floats:
        """Give the variances of groups' effects, float64 [n]; between groups for the place -1."""
        known = np.append(self.deviation, self.spread) ** 2
        variances: Floats = known[places]
        return variances

    def drawn(self, places: Places, normals: Floats) -> Floats:
        """Give effects as they may be, float64 [n]: around what is known, by standard normal numbers [n]."""
        effects: Floats = self.of(places) + np.sqrt(self.variance(places)) * normals
        return effects


class Crossed(NamedTuple):
    """The fit: level and slopes [q], and the effects of each grouping."""

    level: float
    slopes: Floats
    effects: tuple[Effects, ...]


class Grouping(NamedTuple):
    """Which group each row is of, int32 [n], and how many groups there are."""

    codes: Codes
    groups: int


def fit_crossed(outcome: Bools, columns: Floats, groupings: Sequence[Grouping]) -> Crossed:
    """Fit the model to an outcome, bool [n], columns, float64 [n, q], and groupings of the n rows."""
    fit = _Fit(outcome, columns, groupings)
    before = fit.summary()
    for _ in range(MOST_ROUNDS):
        fit.round()
        after = fit.summary()
        if np.abs(after - before).max() < TOLERANCE:
            break
        before = after
    effects = tuple(
        Effects(mean, np.sqrt(variance), float(spread))
        for mean, variance, spread in zip(fit.effects, fit.variances, fit.spreads, strict=True)
    )
    return Crossed(float(fit.fixed[0]), fit.fixed[1:].copy(), effects)


class _Fit:
    """The state of a fit: `fixed` is the level, then the slopes; `eta` each row's log odds."""

    def __init__(self, outcome: Bools, columns: Floats, groupings: Sequence[Grouping]) -> None:
        self.outcome = outcome.astype(np.float64)
        self.columns = columns
        self.groupings = groupings
        rate = (self.outcome.sum() + 0.5) / (len(outcome) + 1)
        self.fixed = np.zeros(1 + columns.shape[1])
        self.fixed[0] = np.log(rate / (1 - rate))
        self.effects = [np.zeros(one.groups) for one in groupings]
        self.variances = [np.full(one.groups, FIRST_SPREAD**2) for one in groupings]
        self.spreads = [FIRST_SPREAD for _ in groupings]
        self.eta = np.full(len(outcome), self.fixed[0])

    def summary(self) -> Floats:
        """Give what must stand still: level, slopes, spreads."""
        return np.append(self.fixed, self.spreads)

    def round(self) -> None:
        """Move everything once."""
        self._move_fixed()
        for place in range(len(self.groupings)):
            self._move_effects(place)

    def _slopes(self) -> tuple[Floats, Floats]:
        """Give each row's gradient and curvature of the expected log likelihood in its log odds."""
        variance = np.zeros(len(self.eta))
        for (codes, _), variances in zip(self.groupings, self.variances, strict=True):
            variance += variances[codes]
        flatter = 1 / np.sqrt(1 + np.pi / 8 * variance)
        chance = expit(self.eta * flatter)
        return self.outcome - chance, chance * (1 - chance) * flatter

    def _move_fixed(self) -> None:
        rest, weight = self._slopes()
        x = self.columns
        q = len(self.fixed)
        hessian = np.empty((q, q))
        hessian[0, 0] = weight.sum()
        hessian[0, 1:] = hessian[1:, 0] = weight @ x
        hessian[1:, 1:] = x.T @ (x * weight[:, None])
        hessian[np.diag_indices(q)] += PRIOR_PRECISION
        gradient = np.append(rest.sum(), rest @ x) - PRIOR_PRECISION * self.fixed
        step = np.clip(np.linalg.solve(hessian, gradient), -LARGEST_STEP, LARGEST_STEP)
        self.fixed += step
        self.eta += step[0] + x @ step[1:]

    def _move_effects(self, place: int) -> None:
        codes, groups = self.groupings[place]
        effects, precision = self.effects[place], self.spreads[place] ** -2
        rest, weight = self._slopes()
        curvature = np.bincount(codes, weight, groups) + precision
        step = (np.bincount(codes, rest, groups) - effects * precision) / curvature
        step = np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        effects += step
        # Their mean belongs to the level; between the two it would move there slowly.
        middle = effects.mean() if groups else 0.0
        effects -= middle
        self.fixed[0] += middle
        self.eta += step[codes]
        self.variances[place] = 1 / curvature
        told = max(groups - precision * self.variances[place].sum(), 1e-9)
        self.spreads[place] = max(float(np.sqrt((effects**2).sum() / told)), LEAST_SPREAD)
