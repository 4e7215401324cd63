"""Metric definitions."""

import pytest
from pydantic import ValidationError

from armlift.metric import METRICS, MeanMetric, ProportionMetric, RatioMetric, measures

CLICKS = {"event": "click"}
SHOWN = {"event": "impression"}


def test_each_kind_has_its_measures() -> None:
    found = METRICS.validate_python(
        {
            "mean": {"kind": "mean", "of": {"event": "play", "aggregate": "sum", "minimum": 3}},
            "share": {"kind": "proportion", "of": CLICKS},
            "rate": {"kind": "ratio", "numerator": CLICKS, "denominator": SHOWN, "direction": "decrease"},
        }
    )
    mean, share, rate = found["mean"], found["share"], found["rate"]
    assert isinstance(mean, MeanMetric)
    assert isinstance(share, ProportionMetric)
    assert isinstance(rate, RatioMetric)
    assert measures(mean) == {"num": mean.of}
    assert (mean.of.aggregate, mean.of.minimum, mean.of.maximum) == ("sum", 3.0, None)
    assert measures(share)["num"].aggregate == "count"
    assert measures(rate) == {"num": rate.numerator, "den": rate.denominator}
    assert (mean.direction, rate.direction, rate.margin) == ("increase", "decrease", 0.0)


def test_definitions_survive_json() -> None:
    given = {"rate": {"kind": "ratio", "numerator": CLICKS, "denominator": SHOWN, "margin": 0.1}}
    given["rate"]["window"] = "7d"
    found = METRICS.validate_python(given)
    assert METRICS.validate_json(METRICS.dump_json(found)) == found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "median"}, "expected tags: 'mean', 'proportion', 'ratio'"),
        ({"of": {"event": "click", "aggregate": "max"}}, "'count', 'sum' or 'days'"),
        (
            {"of": {"event": "play", "minimum": 2, "maximum": 1}},
            "minimum: 2.0 must be at most the maximum, 1.0",
        ),
        ({"of": {"event": "play", "minimum": float("nan")}}, "finite number"),
        ({"of": {"event": "play", "maximum": float("inf")}}, "finite number"),
        ({"of": {"event": "play", "least": 1}}, "Extra inputs"),
        ({"margin": 1}, "less than 1"),
        ({"margin": -0.1}, "greater than or equal to 0"),
        ({"numerator": CLICKS}, "Extra inputs"),
        ({"of": None}, "Measure"),
        ({"window": "1w"}, "'1w' is not a duration"),
        ({"window": 7}, "valid string"),
    ],
)
def test_other_metrics_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        METRICS.validate_python({"clicks": {"kind": "mean", "of": CLICKS, **change}})


@pytest.mark.parametrize("name", ["Clicks", "", "a b", "-x", "x" * 64])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        METRICS.validate_python({name: {"kind": "mean", "of": CLICKS}})
