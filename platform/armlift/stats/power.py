"""How small an effect an experiment can see, how often it sees one, and how many units that takes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, isfinite, isnan, nan, sqrt

from scipy.special import nctdtr, ndtri, stdtrit

from armlift.errors import InputError
from armlift.stats.estimates import Estimate
from armlift.stats.results import PAIRED, Effect, Status, check_share

MOST_UNITS = 10**12
"""An effect that takes more units than this is beyond any experiment."""


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


@dataclass(frozen=True)
class Planned:
    """A comparison to come: the chance `power` of finding `lift` with so many units in arm and control.

    `alpha` is the two-sided error of one comparison, after it was divided by their number. Status, the first
    that holds: `no_data` where the baseline has no value, `too_few` where an arm has fewer than two units,
    `not_estimable` where an input is not finite, a variance is negative, or no number of units up to
    MOST_UNITS would do (a lift of 0), `zero_control` where the control mean is <= 0, `zero_variance` where
    nothing varies, else `ok`. What is not known is None.
    """

    status: Status
    lift: float
    units: int | None
    control_units: int | None
    power: float | None
    alpha: float


def minimum_detectable(
    standard_error: float | None, control_mean: float | None, *, alpha: float = 0.05, power: float = 0.8
) -> Detectable:
    """Give the minimum detectable effect of a two-sided test from the standard error of its difference.

    absolute = (z_(1 - alpha/2) + z_power) * standard_error, relative = absolute / control mean. Normal
    approximation: it ignores the t distribution's wider tails (matters below some thirty units an arm) and
    the chance of a significant result in the wrong direction. Both inputs stand in an `Effect`.
    Raises InputError unless 0 < alpha < power < 1. Source: Cohen (1988), section 2.
    """
    check_power(alpha, power)

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


def baseline_of(effect: Effect) -> Estimate:
    """Give the estimate of the control that plans a next comparison like `effect`, adjustments included.

    A unit's variance is standard_error^2 / (1/n + 1/control_n), taken as the same in both arms. Raises
    InputError for paired effects: their error is that of pairs, which an experiment on units will not have.
    """
    if effect.method in PAIRED:
        raise InputError(f"method is {effect.method}, a baseline must come from arms that share no unit")
    error = 0.0 if effect.status == "zero_variance" and effect.p_value is None else effect.standard_error
    if error is None or effect.control_mean is None:
        return Estimate(effect.control_n, effect.control_mean, nan)
    unit_variance = error * error / (1.0 / effect.n + 1.0 / effect.control_n)
    return Estimate(effect.control_n, effect.control_mean, unit_variance / effect.control_n)


def power_of(
    lift: float,
    baseline: Estimate,
    units: int,
    control_units: int,
    *,
    alpha: float = 0.05,
    comparisons: int = 1,
    arm_variance: float | None = None,
) -> Planned:
    """Give the power of the two-sided Welch test to find `lift`, a fraction, with so many units.

    With v = n * variance of `baseline`, a unit's variance (of a mean, ratio or adjusted mean alike), delta =
    lift * value / sqrt(v_a/n_a + v/n_c) and Welch's degrees of freedom at those variances: power =
    P(|T| > t), T noncentral t with delta, t the quantile of 1 - alpha/2 over `comparisons` (Bonferroni).
    `arm_variance` is a unit's variance in the arm, v where it is not given; for a proportion p (1 - p) at the
    lifted p. Exact for normal values, equal variances and sizes; else Welch's approximation. Raises
    InputError for an alpha outside (0, 1) or comparisons < 1. Source: Cohen (1988), section 2.
    """
    each = _alpha_of_each(alpha, comparisons)
    status = _obstacle(lift, baseline, arm_variance)
    if status in (None, "zero_variance") and min(units, control_units) < 2:
        status = "too_few"
    if status is not None:
        return Planned(status, lift, units, control_units, None, each)
    power = _power(lift, baseline, arm_variance, units, control_units, each)
    if power is None:
        return Planned("not_estimable", lift, units, control_units, None, each)
    return Planned("ok", lift, units, control_units, power, each)


def units_needed(
    lift: float,
    baseline: Estimate,
    *,
    arm_share: float = 0.5,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    arm_variance: float | None = None,
) -> Planned:
    """Give the fewest units with which `power_of` reaches `power`; `arm_share` is the arm's part of both's.

    Bisection finds the smallest total N at which N * arm_share and N * (1 - arm_share) units reach the power;
    both are then rounded up, at least 2, and the result tells the power of those. Raises InputError as
    `power_of`, unless alpha < power < 1, and for a share outside (0, 1).
    """
    each = _alpha_of_each(alpha, comparisons)
    check_power(alpha, power)
    check_share("arm_share", arm_share)

    def reached(total: int) -> bool:
        units, control_units = total * arm_share, total * (1.0 - arm_share)
        found = _power(lift, baseline, arm_variance, max(2.0, units), max(2.0, control_units), each)
        return found is not None and found >= power

    status = _obstacle(lift, baseline, arm_variance)
    if status is None and (lift == 0.0 or not reached(MOST_UNITS)):
        status = "not_estimable"
    if status is not None:
        return Planned(status, lift, None, None, None, each)
    enough = fewest_units(reached, 4)
    units, control_units = max(2, _up(enough * arm_share)), max(2, _up(enough * (1.0 - arm_share)))
    attained = _power(lift, baseline, arm_variance, units, control_units, each)
    return Planned("ok", lift, units, control_units, attained, each)


def _power(
    lift: float,
    baseline: Estimate,
    arm_variance: float | None,
    units: float,
    control_units: float,
    alpha: float,
) -> float | None:
    """Give P(|T| > t) for a possible plan; None where it is not finite."""
    assert baseline.value is not None  # _obstacle has seen to it
    variance = baseline.n * baseline.variance
    v_a, v_c = (variance if arm_variance is None else arm_variance) / units, variance / control_units
    total = v_a + v_c
    if not 0.0 < total < inf:
        return None
    df = 1.0 / ((v_a / total) ** 2 / (units - 1) + (v_c / total) ** 2 / (control_units - 1))
    return chance_to_find(abs(lift) * baseline.value / sqrt(total), df, alpha)


def chance_to_find(delta: float, df: float, alpha: float) -> float | None:
    """Give P(|T| > t), T noncentral t with `delta` and t the quantile of 1 - alpha/2; None if not finite."""
    t = float(stdtrit(df, 1.0 - alpha / 2.0))
    if not isfinite(delta) or not isfinite(t):
        return None
    # SciPy knows no answer (NaN) where a probability is next to 0.
    missed, wrong = float(nctdtr(df, delta, t)), float(nctdtr(df, delta, -t))
    return min(1.0, 1.0 - (0.0 if isnan(missed) else missed) + (0.0 if isnan(wrong) else wrong))


def fewest_units(reached: Callable[[int], bool], least: int) -> int:
    """Give the smallest number of units from `least` on that reaches what some larger number does."""
    if reached(least):
        return least
    too_few, enough = least, 2 * least
    while not reached(enough):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if reached(middle) else (middle, enough)
    return enough


def _obstacle(lift: float, baseline: Estimate, arm_variance: float | None) -> Status | None:
    """Say what forbids a plan, if anything does."""
    if baseline.value is None:
        return "no_data"
    if baseline.n < 2:
        return "no_data" if baseline.n < 1 else "too_few"
    variance = baseline.n * baseline.variance
    variances = (variance, variance if arm_variance is None else arm_variance)
    if not all(map(isfinite, (lift, baseline.value, *variances))) or min(variances) < 0.0:
        return "not_estimable"
    if baseline.value <= 0.0:
        return "zero_control"
    return "zero_variance" if max(variances) == 0.0 else None


def _alpha_of_each(alpha: float, comparisons: int) -> float:
    """Divide the error among comparisons (Bonferroni); raises InputError where one of the two is wrong."""
    if comparisons < 1:
        raise InputError(f"comparisons is {comparisons}, must be 1 or more")
    return check_share("alpha", alpha) / comparisons


def check_power(alpha: float, power: float) -> None:
    """Raise InputError unless 0 < alpha < power < 1."""
    check_share("alpha", alpha)
    if not alpha < check_share("power", power):
        raise InputError(f"power is {power}, must be above alpha, {alpha}")


def _up(units: float) -> int:
    """Round up, but not for what multiplication by a share added."""
    return ceil(units - 1e-9 * units)
