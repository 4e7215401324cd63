"""Metric definitions: a number per unit (mean, proportion) or a ratio of two."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, model_validator

from armlift.arm import Name
from armlift.durations import Duration


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
    window: Duration | None = Field(
        default=None,
        description="Only events this soon after a unit's first exposure, such as 7d; absent: all after it.",
    )


class MeanMetric(_Metric):
    """The mean over units of one measure."""

    kind: Literal["mean"]
    of: Measure


class ProportionMetric(_Metric):
    """The share of units with at least one such event."""

    kind: Literal["proportion"]
    of: Measure


class RatioMetric(_Metric):
    """The ratio of two measures' means, units as clusters."""

    kind: Literal["ratio"]
    numerator: Measure
    denominator: Measure


Metric = Annotated[MeanMetric | ProportionMetric | RatioMetric, Field(discriminator="kind")]
Metrics = dict[Name, Metric]
METRICS: TypeAdapter[Metrics] = TypeAdapter(Metrics)


def measures(metric: MeanMetric | ProportionMetric | RatioMetric) -> dict[str, Measure]:
    """Give the measures of a metric by the column of `unit_days` that holds them: num, and den of ratios."""
    if isinstance(metric, RatioMetric):
        return {"num": metric.numerator, "den": metric.denominator}
    return {"num": metric.of}
