"""Days until an experiment has enough units, from how new units arrived so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import Literal

import numpy as np

from armlift.errors import InputError
from armlift.stats.aggregates import Array

ArrivalStatus = Literal["ok", "reached", "beyond_horizon", "never", "no_data"]

FEWEST_DAYS = 3
SHAPES = (0.0, 0.5, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, inf)
"""The exponents c that are tried: 0 is constant, up to 1 grows for ever, above 1 levels off."""
TIMES = 50
"""How many time constants b are tried with each."""
TEMPER = 2.0
"""Divides the log-likelihood, as no curve of the family is quite right: less and the range is too narrow."""
RANGE = (0.1, 0.5, 0.9)
ROUNDING = 1e-6
"""Of a day, by which a forecast may miss a whole one."""


@dataclass(frozen=True)
class DaysLeft:
    """Days until `units_needed` units, counted from the last day seen: `days`, with a range from low to high.

    The range holds the middle 80 % of the curves' weight; an end beyond the horizon is None. Status:
    - `reached`: `units`, those so far, suffice (then all days are 0);
    - `no_data`: fewer than FEWEST_DAYS days, or no unit;
    - `never`: at least half of the weight levels off below the need;
    - `beyond_horizon`: it takes more than `horizon` days;
    - `ok`: `days` is known.
    """

    status: ArrivalStatus
    units: int
    units_needed: int
    days: int | None
    days_low: int | None
    days_high: int | None
    horizon: int


def days_left(arrivals: Sequence[int], units_needed: int, *, horizon: int = 365) -> DaysLeft:
    """Forecast when there will be enough units; `arrivals` are new units by complete day, oldest first.

    New units become fewer while those who come often have come already. If unit i visits as a Poisson process
    of rate r_i and rates are gamma distributed with shape a, the expected arrivals at time t are
    s (1 + t/b)^-c with c = a + 1 (Fisher, Corbet & Williams 1943; Efron & Thisted 1976). c = 0 stands
    for arrivals that stay as they are, c up to 1 for populations that grow, infinite c for s exp(-t/b). Each
    c of SHAPES with each of TIMES b between half a day and 50 times what was seen, s by maximum likelihood,
    weighs as its Poisson likelihood, tempered by TEMPER and by the overdispersion of the best; the answer is
    the weighted median of the curves' days.

    Assumes that traffic share and audience stay as they are. Weekdays are not modelled: they count as noise,
    and widen the range. In simulated populations nine of ten forecasts as far ahead as what was seen, or
    twice as far, are wrong by less than a factor of 2; with a weekly rhythm at least three of four are.
    Raises InputError for negative or infinite arrivals, a negative need, or a horizon below a day.
    """
    for count in arrivals:
        if not isfinite(count) or count < 0:
            raise InputError(f"arrivals: {count} new units, must be 0 or more")
    if units_needed < 0:
        raise InputError(f"units_needed is {units_needed}, must be 0 or more")
    if horizon < 1:
        raise InputError(f"horizon is {horizon} days, must be 1 or more")
    units = sum(arrivals)

    def result(status: ArrivalStatus, days: Sequence[int | None] = (None, None, None)) -> DaysLeft:
        return DaysLeft(status, units, units_needed, days[1], days[0], days[2], horizon)

    if units >= units_needed:
        return result("reached", (0, 0, 0))
    if len(arrivals) < FEWEST_DAYS or units == 0:
        return result("no_data")
    found = _quantiles(*_forecasts(np.asarray(arrivals, dtype=np.float64), units_needed - units))
    days = [ceil(one - ROUNDING) if one <= horizon else None for one in found]
    if days[1] is not None:
        return result("ok", days)
    return result("never" if found[1] == inf else "beyond_horizon", days)


def _forecasts(arrivals: Array, missing: float) -> tuple[Array, Array]:
    """Give each curve's days until `missing` more units, infinite where it levels off before, and its weight.

    Arrays are [curves]; those by day [curves, days].
    """
    seen = len(arrivals)
    times = np.geomspace(0.5, 50.0 * max(seen, 7), TIMES)
    b, c = (grid.ravel() for grid in np.meshgrid(times, np.array(SHAPES)))
    grown = _grown(np.arange(seen + 1.0)[None, :], b[:, None], c[:, None])
    by_day = np.maximum(np.diff(grown, axis=1), 1e-300)
    scale = arrivals.sum() / by_day.sum(axis=1)
    expected = scale[:, None] * by_day
    likelihood = (arrivals * np.log(expected) - expected).sum(axis=1)
    best = int(likelihood.argmax())
    misfit = float(((arrivals - expected[best]) ** 2 / expected[best]).sum()) / max(1, seen - 2)
    weights = np.exp((likelihood - likelihood[best]) / (TEMPER * max(1.0, misfit)))
    days = _time(grown[:, -1] + missing / scale, b, c) - seen
    return np.maximum(days, 0.0), weights / weights.sum()


def _grown(t: Array, b: Array, c: Array) -> Array:
    """Give the integral of (1 + x/b)^-c from 0 to t; of exp(-x/b) where c is infinite."""
    less = np.where(np.isinf(c) | (c == 1.0), 0.0, 1.0 - c)
    inner = np.log1p(t / b)
    power = np.expm1(less * inner) / np.where(less == 0.0, 1.0, less)
    exponential = -np.expm1(-t / b)
    return b * np.where(np.isinf(c), exponential, np.where(c == 1.0, inner, power))


def _time(grown: Array, b: Array, c: Array) -> Array:
    """Give t of `_grown`, its inverse: infinite where the integral never gets so far."""
    y = grown / b
    less = np.where(np.isinf(c) | (c == 1.0), 1.0, 1.0 - c)
    left = np.where(np.isinf(c), 1.0 - y, 1.0 + less * y)  # at 0 the curve has levelled off
    with np.errstate(divide="ignore", over="ignore"):
        log = np.log(np.maximum(left, 0.0))
        power, logarithm = np.expm1(log / less), np.expm1(y)
        return b * np.where(np.isinf(c), -log, np.where(c == 1.0, logarithm, power))


def _quantiles(values: Array, weights: Array) -> list[float]:
    """Give the weighted quantiles of RANGE."""
    order = np.argsort(values, kind="stable")
    reached = np.searchsorted(weights[order].cumsum(), RANGE)
    return [values.item(order[min(at, len(order) - 1)]) for at in reached]
