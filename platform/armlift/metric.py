"""Metric definitions: a number per unit (mean, proportion, quantile, retention) or a ratio of two."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, model_validator

from armlift.arm import Name
from armlift.durations import Duration, milliseconds
from armlift.events import IMPRESSION_KIND


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measure(_Part):
    """What is taken of a unit's events of one kind, after its first exposure.

    `count`: how many; `sum`: their values added; `days`: on how many days there was one.
    """

    event: str = Field(description="A feedback kind, or `impression`.")
    aggregate: Literal["count", "sum", "days"] = "count"
    minimum: FiniteFloat | None = Field(default=None, description="Only events of at least this value.")
    maximum: FiniteFloat | None = Field(default=None, description="Only events of at most this value.")

    @model_validator(mode="after")
    def _some_value(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum: {self.minimum} must be at most the maximum, {self.maximum}")
        return self


class _Metric(_Part):
    description: str = ""
    direction: Literal["increase", "decrease"] = Field(default="increase", description="Which way is better.")
    margin: float = Field(
        default=0.0, ge=0, lt=1, description="How much worse, as a fraction, a guardrail may be."
    )
    unit: str = Field(default="", description="Of the metric's value, such as seconds.")


class _Summed(_Metric):
    """A metric of what units did within a time."""

    window: Duration | None = Field(
        default=None,
        description="Only events this soon after a unit's first exposure, such as 7d; absent: all after it.",
    )


class _Adjusted(_Summed):
    cuped: Duration | None = Field(
        default=None,
        description="Adjust for the same metric this long before a unit's first exposure, such as 14d; "
        "absent: no adjustment.",
    )


class MeanMetric(_Adjusted):
    """The mean over units of one measure."""

    kind: Literal["mean"]
    of: Measure
    winsorise: float | None = Field(
        default=None,
        gt=0.5,
        lt=1,
        description="Cap units' values at this quantile of the values above 0 of all arms, such as 0.99.",
    )


class ProportionMetric(_Adjusted):
    """The share of units with at least one such event."""

    kind: Literal["proportion"]
    of: Measure


class RatioMetric(_Adjusted):
    """The ratio of two measures' means, units as clusters."""

    kind: Literal["ratio"]
    numerator: Measure
    denominator: Measure


class QuantileMetric(_Summed):
    """A quantile over units of one measure."""

    kind: Literal["quantile"]
    of: Measure
    quantile: float = Field(gt=0, lt=1, description="Such as 0.9: nine units in ten are at or below it.")


class RetentionMetric(_Metric):
    """The share of units that come back on a day after that of their first exposure.

    Only units count for which that day is over.
    """

    kind: Literal["retention"]
    day: int = Field(ge=1, le=365, description="1 is the day after the first exposure's.")
    of: Measure = Field(
        default=Measure(event=IMPRESSION_KIND, aggregate="days"), description="What coming back means."
    )

    @model_validator(mode="after")
    def _by_days(self) -> Self:
        if self.of.aggregate != "days":
            raise ValueError(f"of.aggregate: {self.of.aggregate!r} must be 'days' in a retention metric")
        return self


Metric = Annotated[
    MeanMetric | ProportionMetric | RatioMetric | QuantileMetric | RetentionMetric,
    Field(discriminator="kind"),
]
Metrics = dict[Name, Metric]
METRICS: TypeAdapter[Metrics] = TypeAdapter(Metrics)


def measures(metric: Metric) -> dict[str, Measure]:
    """Give the measures of a metric by the column of `unit_days` that holds them: num, and den of ratios."""
    if isinstance(metric, RatioMetric):
        return {"num": metric.numerator, "den": metric.denominator}
    return {"num": metric.of}


def time_of(metric: Metric) -> str:
    """Say which time of a unit a metric is about; nothing where all since its first exposure counts."""
    if isinstance(metric, RetentionMetric):
        return f"on day {metric.day} after that of a unit's first exposure"
    return f"within {metric.window} of a unit's first exposure" if metric.window else ""


def window_of(metric: Metric) -> int | None:
    """Give the time after first exposure that counts, in milliseconds; None for all of it."""
    window = None if isinstance(metric, RetentionMetric) else metric.window
    return None if window is None else milliseconds(window)


def cuped_of(metric: Metric) -> int | None:
    """Give the time before first exposure that a metric is adjusted by, in milliseconds; None for none."""
    lookback = metric.cuped if isinstance(metric, _Adjusted) else None
    return None if lookback is None else milliseconds(lookback)
