"""One arm's estimate, and the comparison of two that every method shares.

A method says what an arm's estimate is and how a combination f_a * arm + f_c * control varies; `compare`
makes the rest: difference, lift, intervals, p-value and status. A covariate adjustment or a stratified
estimate comes in by the same door.
"""

from collections.abc import Callable, Sequence
from math import exp, inf, isfinite, nan, sqrt
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

from armlift.stats.aggregates import Aggregates
from armlift.stats.results import Effect, LiftScale, Method, Rules, Status

CONSTANT = 1e-9
"""A column whose standard deviation is below this share of its mean is constant: the rest is rounding (a
plain sum of ten million times 0.1 is wrong by 2e-10 of itself)."""
ROUNDING = 1e-11
"""A variance below this share of the terms it was subtracted from is rounding."""
LARGEST_EXPONENT = 700.0
"""exp() of more than this overflows."""


class Estimate(NamedTuple):
    """An arm's estimate: units, value, and the value's variance (squared standard error).

    `value` is None where there is nothing to estimate from, NaN where it is not defined.
    """

    n: int
    value: float | None
    variance: float


class Spread(NamedTuple):
    """The variance of a combination of two estimates, and its degrees of freedom."""

    variance: float
    degrees_of_freedom: float


SpreadOf = Callable[[float, float], Spread]
"""Gives the spread of f_a * arm + f_c * control for two factors."""


def variance_of(aggregates: Aggregates, terms: Sequence[tuple[int, float]]) -> float:
    """Give the variance of sum g_i * mean_i for `terms` of (column, g_i): g' S g / (n (n - 1)).

    0 where only rounding is left; NaN with fewer than two units or where a moment is not finite.
    """
    n = aggregates.n
    if n < 2:
        return nan
    mean, moment = aggregates.means.item, aggregates.moments.item
    # A constant column's moments are rounding: neither its variance nor its covariances count.
    moving = [(i, g) for i, g in terms if not moment(i, i) <= n * (CONSTANT * mean(i)) * (CONSTANT * mean(i))]
    scale = sum(g * g * moment(i, i) for i, g in moving)
    total = sum(g * h * moment(i, j) for i, g in moving for j, h in moving)
    if not isfinite(scale):
        return nan
    return 0.0 if total <= ROUNDING * scale else total / n / (n - 1)


def independent(arm: Estimate, control: Estimate) -> SpreadOf:
    """Give the spread of combinations of two arms that share no unit.

    Variance v = f_a^2 v_a + f_c^2 v_c; degrees of freedom v^2 / (sum of each part squared / (n - 1)), so they
    belong to this very combination (Welch 1947, Satterthwaite 1946).
    """

    def spread(arm_factor: float, control_factor: float) -> Spread:
        a = arm_factor * arm.variance * arm_factor
        c = control_factor * control.variance * control_factor
        total = a + c
        if not 0.0 < total < inf:
            return Spread(total, nan)
        share, rest = a / total, c / total
        return Spread(total, 1.0 / (share * share / (arm.n - 1) + rest * rest / (control.n - 1)))

    return spread


def compare(method: Method, arm: Estimate, control: Estimate, spread: SpreadOf, rules: Rules) -> Effect:
    """Compare an arm's estimate with the control's; see `Effect` for what is given when."""
    status = _obstacle(arm, control, rules)
    if status is not None:
        return _unknown(method, status, arm, control, rules)
    assert arm.value is not None  # _obstacle has seen to it
    assert control.value is not None
    difference = arm.value - control.value
    variance, df = spread(1.0, -1.0)
    if not isfinite(difference) or not isfinite(variance):
        return _unknown(method, "not_estimable", arm, control, rules)
    if variance <= 0.0:
        lift = _finite(arm.value / control.value - 1.0) if control.value > 0.0 else None
        return _unknown(method, "zero_variance", arm, control, rules, difference, lift)
    error = sqrt(variance)
    half = half_width(error, df, rules.alpha)
    if not isfinite(abs(difference) + half):
        return _unknown(method, "not_estimable", arm, control, rules)
    relative = _lift(arm.value, control.value, spread, rules)
    return Effect(
        method=method,
        status=relative.status,
        n=arm.n,
        control_n=control.n,
        mean=arm.value,
        control_mean=control.value,
        difference=difference,
        difference_low=difference - half,
        difference_high=difference + half,
        lift=relative.lift,
        lift_low=relative.low,
        lift_high=relative.high,
        p_value=min(1.0, 2.0 * float(stdtr(df, -abs(difference) / error))),
        degrees_of_freedom=df,
        alpha=rules.alpha,
        standard_error=error,
        lift_error=relative.error,
        lift_degrees_of_freedom=relative.degrees_of_freedom,
        lift_scale=None if relative.error is None else rules.lift,
    )


class _Lift(NamedTuple):
    status: Status
    lift: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    degrees_of_freedom: float | None = None


def _lift(arm: float, control: float, spread: SpreadOf, rules: Rules) -> _Lift:
    """Give the lift and its interval, on the log ratio or by the linear delta method."""
    if control <= 0.0:
        return _Lift("zero_control")
    ratio = arm / control
    if not isfinite(ratio) or (rules.lift == "log" and ratio <= 0.0):
        return _Lift("not_estimable", _finite(ratio - 1.0))
    if rules.lift == "log":
        variance, df = spread(1.0 / arm, -1.0 / control)
    else:
        variance, df = spread(1.0 / control, -ratio / control)
    if not isfinite(variance) or variance <= 0.0:
        return _Lift("zero_variance" if variance == 0.0 else "not_estimable", ratio - 1.0)
    error = sqrt(variance)
    bounds = lift_interval(ratio, half_width(error, df, rules.alpha), rules.lift)
    return (
        _Lift("not_estimable", ratio - 1.0)
        if bounds is None
        else _Lift("ok", ratio - 1.0, *bounds, error, df)
    )


def half_width(error: float, df: float, alpha: float) -> float:
    """Give half the width of a t interval of confidence 1 - alpha."""
    return error * float(stdtrit(df, 1.0 - alpha / 2.0))


def lift_interval(ratio: float, half: float, scale: LiftScale) -> tuple[float, float] | None:
    """Give the interval of ratio - 1, `half` being half its width on the scale; None unless it is finite."""
    if scale == "linear":
        low, high = ratio - half, ratio + half
    elif half < LARGEST_EXPONENT:
        low, high = ratio * exp(-half), ratio * exp(half)
    else:
        return None
    return (low - 1.0, high - 1.0) if isfinite(low) and isfinite(high) else None


def _obstacle(arm: Estimate, control: Estimate, rules: Rules) -> Status | None:
    """Say what forbids a comparison of two estimates, if anything does."""
    if not arm.n or not control.n or arm.value is None or control.value is None:
        return "no_data"
    if min(arm.n, control.n) < max(2, rules.min_units):
        return "too_few"
    if not all(map(isfinite, (arm.value, control.value, arm.variance, control.variance))):
        return "not_estimable"
    return None


def _unknown(
    method: Method,
    status: Status,
    arm: Estimate,
    control: Estimate,
    rules: Rules,
    difference: float | None = None,
    lift: float | None = None,
) -> Effect:
    return Effect.unknown(
        method,
        status,
        alpha=rules.alpha,
        n=arm.n,
        control_n=control.n,
        mean=_finite(arm.value),
        control_mean=_finite(control.value),
        difference=difference,
        lift=lift,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
