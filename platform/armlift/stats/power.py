"""How small an effect an experiment can see."""

from dataclasses import dataclass
from math import isfinite

from scipy.special import ndtri

from armlift.errors import InputError
from armlift.stats.results import Status, check_share


@dataclass(frozen=True)
class Detectable:
    """The smallest effect found with the given power: `absolute` in the metric's unit, `relative` a fraction.

    Status: `no_data` without a standard error, `zero_variance` where it is 0, `zero_control` where the
    control mean is unknown or <= 0 (then only `relative` is None), `not_estimable` where an input or a result
    is not finite or the standard error is negative, else `ok`.
    """

    status: Status
    absolute: float | None
    relative: float | None
    alpha: float
    power: float


def minimum_detectable(
    standard_error: float | None, control_mean: float | None, *, alpha: float = 0.05, power: float = 0.8
) -> Detectable:
    """Give the minimum detectable effect of a two-sided test from the standard error of its difference.

    absolute = (z_(1 - alpha/2) + z_power) * standard_error, relative = absolute / control mean. Normal
    approximation: it ignores the t distribution's wider tails (matters below some thirty units an arm) and
    the chance of a significant result in the wrong direction. Both inputs stand in an `Effect`.
    Raises InputError unless 0 < alpha < power < 1. Source: Cohen (1988), section 2.
    """
    check_share("alpha", alpha)
    if not alpha < check_share("power", power):
        raise InputError(f"power is {power}, must be above alpha, {alpha}")

    def result(status: Status, absolute: float | None = None, relative: float | None = None) -> Detectable:
        return Detectable(status, absolute, relative, alpha, power)

    if standard_error is None:
        return result("no_data")
    if standard_error == 0.0:
        return result("zero_variance")
    absolute = float(ndtri(1.0 - alpha / 2.0) + ndtri(power)) * standard_error
    if not isfinite(absolute) or absolute < 0.0:
        return result("not_estimable")
    if control_mean is None or control_mean <= 0.0:
        return result("zero_control", absolute)
    relative = absolute / control_mean
    return result("ok", absolute, relative) if isfinite(relative) else result("not_estimable", absolute)
