"""Always-valid intervals: they hold at every look at once, so one may look daily and stop at any time."""

from dataclasses import dataclass
from math import exp, log, log1p, sqrt

from armlift.errors import InputError
from armlift.stats.intervals import adjusted
from armlift.stats.results import Effect, Status

DEFAULT_TUNING = 5000


@dataclass(frozen=True)
class AlwaysValid:
    """An effect's always-valid intervals and p-value; `tuning` is the number of units they are tightest at.

    `status` and the intervals are as in `Intervals`; `p_value` belongs to the difference and is None where
    the effect has none.
    """

    status: Status
    difference_low: float | None
    difference_high: float | None
    lift_low: float | None
    lift_high: float | None
    p_value: float | None
    tuning: int


def always_valid(effect: Effect, *, tuning: int = DEFAULT_TUNING) -> AlwaysValid:
    """Give the asymptotic confidence sequence of an effect at its own alpha.

    With N = `effect.units`, N* = `tuning`, rho^2 = (-2 ln alpha + ln(1 - 2 ln alpha)) / N* and
    k = N rho^2 + 1: half-width = standard error * sqrt(2 k / (N rho^2) * ln(sqrt(k) / alpha)), for the lift
    on the scale of the effect's own interval. p = min(1, 1/e) with e = exp(z^2 N rho^2 / (2 k)) / sqrt(k) and
    z = difference / standard error, so p < alpha just where the difference's interval leaves out 0.

    The chance that the interval ever misses the truth, over all looks, tends to at most alpha as the first
    look falls later: it takes z for normal, so do not look before some hundred units an arm, more with heavy
    tails. Choose the tuning before the first look. The smallest p of all looks is valid too. Raises
    InputError unless tuning >= 1. Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (Annals of Statistics
    2024, "Time-uniform central limit theory and asymptotic confidence sequences"), equations 9, 155 and 161
    of arXiv version 7.
    """
    if tuning < 1:
        raise InputError(f"tuning is {tuning}, must be 1 or more")
    if effect.units < 1:
        return AlwaysValid(effect.status, None, None, None, None, None, tuning)
    information = effect.units * rho(effect.alpha, tuning) ** 2
    half_log = log1p(information) / 2.0
    found = adjusted(effect, critical_value(effect.units, effect.alpha, tuning))
    return AlwaysValid(
        found.status,
        found.difference_low,
        found.difference_high,
        found.lift_low,
        found.lift_high,
        _p_value(effect, information / (information + 1.0), half_log),
        tuning,
    )


def critical_value(units: int, alpha: float, tuning: int = DEFAULT_TUNING) -> float:
    """Give how many standard errors an always-valid interval of so many units, 1 or more, goes each way."""
    information = units * rho(alpha, tuning) ** 2
    return sqrt(2.0 * (1.0 + 1.0 / information) * (log1p(information) / 2.0 - log(alpha)))


def rho(alpha: float, tuning: int) -> float:
    """Give the mixture's standard deviation that makes the sequence tightest at `tuning` units."""
    surprise = -2.0 * log(alpha)
    return sqrt((surprise + log1p(surprise)) / tuning)


def _p_value(effect: Effect, shrinkage: float, half_log: float) -> float | None:
    if effect.difference is None or effect.standard_error is None:
        return None
    z = effect.difference / effect.standard_error
    return exp(-max(0.0, z * z * shrinkage / 2.0 - half_log))
