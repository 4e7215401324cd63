"""What the statistics answer: small frozen results; a number that is not known is None, never NaN."""

from dataclasses import dataclass
from typing import Literal, Self

from armlift.errors import InputError

Status = Literal["ok", "no_data", "too_few", "zero_variance", "zero_control", "not_estimable"]
CheckStatus = Literal["ok", "warn", "fail", "no_data", "not_applicable"]
Method = Literal[
    "welch",
    "proportion",
    "ratio",
    "paired",
    "paired_ratio",
    "interleaved",
    "score",
    "cuped",
    "cuped_ratio",
    "quantile",
]
LiftScale = Literal["log", "linear"]
PAIRED: frozenset[Method] = frozenset({"paired", "paired_ratio", "interleaved"})
"""Methods whose units met both arms, so that `n` and `control_n` count the same units."""

ASSUMPTIONS: dict[Method, str] = {
    "welch": "units are independent; means of units are close to normal; variances may differ",
    "proportion": "units are independent; each value is 0 or 1; the normal approximation holds",
    "ratio": "units are independent, what one unit does need not be; the mean denominator is far from 0",
    "paired": "units are independent; every unit met both arms; the mean difference is close to normal",
    "paired_ratio": "units are independent; every unit met both arms; the mean denominators are far from 0",
    "interleaved": "units are independent; each draft gave both arms the same chances; means are near normal",
    "score": "units are independent; each value is 0 or 1",
    "cuped": "as welch; covariates end before a unit's first exposure, so no arm can have moved them",
    "cuped_ratio": "as ratio; covariates end before a unit's first exposure, so no arm can have moved them",
    "quantile": "units are independent, a unit's own values need not be; values near the quantile do not tie",
}


def check_share(name: str, value: float) -> float:
    """Give back `value` if it lies strictly between 0 and 1; raises InputError otherwise."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} is {value}, must be above 0 and below 1")
    return value


@dataclass(frozen=True)
class Rules:
    """The rules a comparison follows.

    `alpha` is the two-sided error: intervals hold 1 - alpha. `lift` says whether the relative lift's interval
    is made on the log ratio (never below -100 %, right at small n) or by the linear delta method. Below
    `min_units` units an arm (2 at the least) the status is `too_few`. Raises InputError for a bad alpha.
    """

    alpha: float = 0.05
    lift: LiftScale = "log"
    min_units: int = 2

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha)


DEFAULT_RULES = Rules()


@dataclass(frozen=True)
class Effect:
    """An arm against the control in one metric.

    `n` counts units (pairs in paired methods); `mean` and `control_mean` are means a unit, or the ratio for
    ratio metrics. `difference` is mean - control_mean, with interval and two-sided `p_value` from a t
    distribution of `degrees_of_freedom`; `lift` is mean / control_mean - 1, a fraction, with an own interval.
    `standard_error` belongs to the difference, `lift_error` to the log ratio or to the lift itself, as
    `lift_scale` says (log or linear, None without a lift error), with `lift_degrees_of_freedom`.

    Status, the first that holds:
    - `no_data`: an arm has no unit, or a ratio's denominators add up to 0;
    - `too_few`: fewer units than `Rules.min_units`; only counts and means are given;
    - `not_estimable`: an input is not finite, or a ratio's mean denominator is negative; or, with difference
      and p-value given, the lift has no finite interval (arm mean <= 0 on the log scale);
    - `zero_variance`: nothing varies, so difference and lift stand without interval and p-value (if only the
      lift does not vary, as in pairs of 1 to 2, difference and p-value are given in full);
    - `zero_control`: control mean <= 0, so a lift has no meaning; difference and p-value are given;
    - `ok`: every number is given.
    """

    method: Method
    status: Status
    n: int
    control_n: int
    mean: float | None
    control_mean: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    p_value: float | None
    degrees_of_freedom: float | None
    alpha: float
    standard_error: float | None
    lift_error: float | None
    lift_degrees_of_freedom: float | None
    lift_scale: LiftScale | None

    @property
    def units(self) -> int:
        """Count the units behind the comparison: those of both arms, a pair once."""
        return self.n if self.method in PAIRED else self.n + self.control_n

    @property
    def assumptions(self) -> str:
        """Say in one line what the method takes for granted."""
        return ASSUMPTIONS[self.method]

    @classmethod
    def unknown(
        cls,
        method: Method,
        status: Status,
        *,
        alpha: float,
        n: int = 0,
        control_n: int = 0,
        mean: float | None = None,
        control_mean: float | None = None,
        difference: float | None = None,
        lift: float | None = None,
    ) -> Self:
        """Make a result that knows no interval and no p-value, and says by its status why."""
        return cls(
            method=method,
            status=status,
            n=n,
            control_n=control_n,
            mean=mean,
            control_mean=control_mean,
            difference=difference,
            difference_low=None,
            difference_high=None,
            lift=lift,
            lift_low=None,
            lift_high=None,
            p_value=None,
            degrees_of_freedom=None,
            alpha=alpha,
            standard_error=None,
            lift_error=None,
            lift_degrees_of_freedom=None,
            lift_scale=None,
        )

    def without_interval(self, status: Status) -> Self:
        """Give the same units and means with another status, and nothing else."""
        return self.unknown(
            self.method,
            status,
            alpha=self.alpha,
            n=self.n,
            control_n=self.control_n,
            mean=self.mean,
            control_mean=self.control_mean,
        )


@dataclass(frozen=True)
class Interval:
    """An estimate for one arm with its interval of confidence 1 - alpha."""

    method: Method
    status: Status
    n: int
    value: float | None
    low: float | None
    high: float | None
    alpha: float
