"""An effect's intervals at another critical value than its own, as sequential methods need them."""

from dataclasses import dataclass
from math import exp, inf, isfinite

from armlift.errors import InputError
from armlift.stats.estimates import LARGEST_EXPONENT
from armlift.stats.results import Effect, Status


@dataclass(frozen=True)
class Intervals:
    """Intervals of an effect's difference (the metric's unit) and of its lift (a fraction).

    Status: `not_estimable` where a bound is too large for a number, else the effect's own. An interval that
    the effect has no standard error for is None.
    """

    status: Status
    difference_low: float | None
    difference_high: float | None
    lift_low: float | None
    lift_high: float | None


def adjusted(effect: Effect, critical: float) -> Intervals:
    """Give the effect's intervals at a critical value, counted in standard errors.

    Difference: difference +- critical * standard_error. Lift, on the scale of the effect's own: log
    (1 + lift) exp(+-critical * lift_error) - 1, linear lift +- critical * lift_error. So the difference's
    interval leaves out 0 just where |difference / standard_error| exceeds the critical value. Raises
    InputError unless the critical value is finite and 0 or more.
    """
    if not 0.0 <= critical < inf:
        raise InputError(f"critical value is {critical}, must be finite and 0 or more")
    difference, lift = _difference(effect, critical), _lift(effect, critical)
    lost = any(bounds is not None and not all(map(isfinite, bounds)) for bounds in (difference, lift))
    difference_low, difference_high = _known(difference)
    lift_low, lift_high = _known(lift)
    status: Status = "not_estimable" if lost else effect.status
    return Intervals(status, difference_low, difference_high, lift_low, lift_high)


def _difference(effect: Effect, critical: float) -> tuple[float, float] | None:
    if effect.difference is None or effect.standard_error is None:
        return None
    half = critical * effect.standard_error
    return effect.difference - half, effect.difference + half


def _lift(effect: Effect, critical: float) -> tuple[float, float] | None:
    if effect.lift is None or effect.lift_error is None:
        return None
    half = critical * effect.lift_error
    if effect.lift_scale == "linear":
        return effect.lift - half, effect.lift + half
    if half > LARGEST_EXPONENT:
        return -1.0, inf
    return (1.0 + effect.lift) * exp(-half) - 1.0, (1.0 + effect.lift) * exp(half) - 1.0


def _known(bounds: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """Give an interval with both bounds finite, or none."""
    return (None, None) if bounds is None or not all(map(isfinite, bounds)) else bounds
