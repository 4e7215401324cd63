"""Metrics of a frame that has one row a unit: which columns make them, and what they become."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from armlift.arm import Name
from armlift.complaints import first_complaint
from armlift.errors import InputError
from armlift.metric import METRICS, Metric

Column = Annotated[str, Field(min_length=1)]
Own = Annotated[Column | None, Field(description="A column; absent: the one named as the metric is.")]
Past = Annotated[
    Column | None,
    Field(description="A column from before the experiment, to adjust by (CUPED); null where unknown."),
]
LOOKBACK = "1d"
"""Metrics say how far back they look; a frame's covariates have looked already."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _UnitMetric(_Part):
    role: Literal["primary", "secondary", "guardrail"] = "primary"
    direction: Literal["increase", "decrease"] = "increase"
    margin: float = Field(default=0.0, ge=0, lt=1)


class UnitMean(_UnitMetric):
    """The mean over units of a column."""

    kind: Literal["mean"]
    value: Own = None
    covariate: Past = None
    winsorise: float | None = Field(default=None, gt=0.5, lt=1)


class UnitProportion(_UnitMetric):
    """The share of units whose value is above 0."""

    kind: Literal["proportion"]
    value: Own = None
    covariate: Past = None


class RatioPast(_Part):
    """The two columns of a ratio before the experiment."""

    numerator: Column
    denominator: Column


class UnitRatio(_UnitMetric):
    """The ratio of two columns' means, units as clusters."""

    kind: Literal["ratio"]
    numerator: Column
    denominator: Column
    covariate: RatioPast | None = None


class UnitQuantile(_UnitMetric):
    """A quantile over units of a column."""

    kind: Literal["quantile"]
    value: Own = None
    quantile: float = Field(gt=0, lt=1)


UnitMetric = Annotated[UnitMean | UnitProportion | UnitRatio | UnitQuantile, Field(discriminator="kind")]
UnitMetrics = dict[Name, UnitMetric]
_UNIT_METRICS: TypeAdapter[UnitMetrics] = TypeAdapter(UnitMetrics)
_SHARED = ("kind", "direction", "margin")
_KEPT = (*_SHARED, "winsorise", "quantile")


def read_metrics(metrics: Mapping[str, Any]) -> UnitMetrics:
    """Read metrics; raises InputError that names the key, its value and what it must be."""
    try:
        found = _UNIT_METRICS.validate_python(metrics)
    except ValidationError as error:
        location, text = first_complaint(error, UnitMetrics, metrics)
        raise InputError(": ".join(filter(None, ("metrics", ".".join(map(str, location)), text)))) from error
    if not any(one.role == "primary" for one in found.values()):
        raise InputError("metrics: none has the role primary, one or more must")
    return found


def metric_of(name: str, one: UnitMetric) -> Metric:
    """Turn it into the metric that reports know; its events are named as its columns."""
    columns = columns_of(name, one)
    events = {part: {"event": column, "aggregate": "sum"} for part, column in columns.items()}
    measured = (
        {"numerator": events["num"], "denominator": events["den"]}
        if isinstance(one, UnitRatio)
        else {"of": events["num"]}
    )
    kept = {key: value for key, value in one.model_dump().items() if key in _KEPT}
    adjusted = {"cuped": LOOKBACK} if "pre_num" in columns else {}
    return METRICS.validate_python({name: {**kept, **measured, **adjusted}})[name]


def columns_of(name: str, one: UnitMetric) -> dict[str, str]:
    """Give the columns a metric takes, by what of a unit's totals they are: num, den, pre_num, pre_den."""
    if isinstance(one, UnitRatio):
        now = {"num": one.numerator, "den": one.denominator}
        past = one.covariate
        return now | ({"pre_num": past.numerator, "pre_den": past.denominator} if past else {})
    covariate = None if isinstance(one, UnitQuantile) else one.covariate
    return {"num": one.value or name} | ({"pre_num": covariate} if covariate else {})
