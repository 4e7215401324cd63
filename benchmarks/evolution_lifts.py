"""Lifts in what simulated users did under arm after arm: true ones, estimated ones, pooled over seeds.

True: every user under both arms. Estimated: every user under the arm that a splitter gives it, analysed as a
report does, adjusted by what the user did before. A seed has users and trained weights of its own, so that an
interval over seeds (Student's t) holds for other users and for other trainings.
"""

from collections.abc import Sequence
from functools import cache
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from evolution import CLICKS, IMPRESSIONS, LONG_VIEWS, Cell
from scipy.stats import t as student

from armlift.experiment import Experiment
from armlift.splitter import Split, assign_many
from armlift.stats.aggregates import Aggregates
from armlift.stats.cuped import cuped, cuped_ratio
from armlift.stats.paired import paired_means, paired_ratios
from armlift.stats.results import Effect

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]

CLICK_RATE = "click_rate"
METRICS: dict[str, tuple[int, int | None]] = {
    CLICK_RATE: (CLICKS, IMPRESSIONS),
    "clicks": (CLICKS, None),
    "long_views": (LONG_VIEWS, None),
}
"""The columns each metric is of: numerator and denominator, or a sum a user. The first is primary."""
_ARM, _CONTROL, _PAST = ("num", "den"), ("control_num", "control_den"), ("pre_num", "pre_den")


class Pooled(NamedTuple):
    """A mean over seeds with its 95 % interval and two-sided p-value; NaN with fewer than two seeds."""

    value: float
    low: float
    high: float
    p: float

    @property
    def apart(self) -> bool:
        """Tell whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def pooled(values: Sequence[float]) -> Pooled:
    """Average over seeds."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Pooled(mean, *[float("nan")] * 3)
    error = float(np.std(values, ddof=1)) / sqrt(n)
    half = float(student.ppf(0.975, n - 1)) * error
    p = float(2 * student.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    return Pooled(mean, mean - half, mean + half, p)


def true(cell: Cell, arm: str, control: str, metric: str = CLICK_RATE, rows: Rows | None = None) -> Effect:
    """Compare two arms that all users met, or some `rows` [n] of them."""
    parts = [_columns(cell.totals[name], metric) for name in (arm, control)]
    values = np.concatenate(parts, axis=1)
    pairs = Aggregates.of((*_ARM, *_CONTROL), values if rows is None else values[rows])
    if METRICS[metric][1] is None:
        return paired_means(pairs, _ARM[0], _CONTROL[0])
    return paired_ratios(pairs, _ARM, _CONTROL)


def estimated(cell: Cell, arm: str, control: str, metric: str = CLICK_RATE) -> Effect:
    """Compare two arms that each met one half of the users."""
    mine = assigned(tuple(cell.units))
    own, others = (_with_past(cell, name, metric, who) for name, who in ((arm, mine), (control, ~mine)))
    if METRICS[metric][1] is None:
        return cuped(own, others, _ARM[0], [_PAST[0]])
    return cuped_ratio(own, others, *_ARM, [_PAST])


def _with_past(cell: Cell, name: str, metric: str, rows: Rows) -> Aggregates:
    parts = [_columns(totals, metric)[rows] for totals in (cell.totals[name], cell.past)]
    return Aggregates.of((*_ARM, *_PAST), np.concatenate(parts, axis=1))


@cache
def assigned(units: tuple[str, ...]) -> Rows:
    """Tell which units the splitter gives the arm, bool [n]; the others are the control's."""
    definition = {
        "name": "evolution",
        "arms": {"recgpt1": 1, "recgpt": 1},
        "control": "recgpt1",
        "metrics": {"primary": [CLICK_RATE]},
    }
    split = Split.of(Experiment.model_validate(definition), default_arm="recgpt1")
    given: Rows = assign_many(split, 0, list(units)).arm == split.arms.index("recgpt")
    return given


def rate(cells: Sequence[Cell], name: str | None) -> float:
    """Give the mean over seeds of an arm's click rate; of the app's before, for no name."""
    totals = [cell.past if name is None else cell.totals[name] for cell in cells]
    return float(np.mean([one[:, CLICKS].sum() / one[:, IMPRESSIONS].sum() for one in totals]))


def lift(effect: Effect) -> float:
    """Give an effect's lift, NaN where there is none."""
    return float("nan") if effect.lift is None else effect.lift


def _columns(totals: Floats, metric: str) -> Floats:
    """Take numerator and denominator of a metric, float64 [n, 2]; a sum a user has the denominator 1."""
    over, below = METRICS[metric]
    return np.stack([totals[:, over], np.ones(len(totals)) if below is None else totals[:, below]], axis=1)
