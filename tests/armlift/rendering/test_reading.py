from dataclasses import replace

import pytest

from armlift.rendering.html import render
from armlift.rendering.reading import (
    Reading,
    deciding,
    interval_name,
    interval_of,
    margin_end,
    read,
    traits,
    within,
)
from armlift.report import Report


def readings(report: Report) -> list[Reading]:
    alpha = report.experiment.analysis.alpha
    return [read(one, report.metrics[one.metric], alpha) for one in report.comparisons]


def test_every_kind_of_comparison(report: Report) -> None:
    assert readings(report) == [
        ("better", "better"),
        ("open", "may be 0"),
        ("open", "may be 0"),
        ("unknown", "too few"),
        ("unknown", "zero variance"),
        ("unknown", "not estimable"),
        ("open", "may be 0, within its margin"),
        ("worse", "worse, past its margin"),
    ]


def test_the_adjusted_p_value_decides(report: Report) -> None:
    first = replace(report.comparisons[0], p_value=0.001, p_adjusted=0.06)
    assert read(first, report.metrics["click_rate"], 0.05).effect == "open"
    assert read(first, report.metrics["click_rate"], 0.1).effect == "better"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.2, 0.05, "may be 0, within its margin"),
        (-0.2, 0.051, "may be 0, margin not proven"),
        (0.05, 0.2, "may be 0, margin not proven"),
        (0.051, 0.2, "may be 0, past its margin"),
    ],
)
def test_a_guardrail_is_held_to_its_margin(report: Report, low: float, high: float, words: str) -> None:
    one = replace(report.comparisons[6], lift_low=low, lift_high=high)
    metric = report.metrics["hate_rate"]
    assert read(one, metric, 0.05).words == words
    mirrored = replace(one, lift_low=-high, lift_high=-low)
    assert read(mirrored, metric.model_copy(update={"direction": "increase"}), 0.05).words == words


def test_words_of_a_comparison(report: Report) -> None:
    first, guardrail = report.comparisons[0], report.comparisons[6]
    assert interval_of(first) == "+1.20% to +5.00%"
    assert interval_of(report.comparisons[4]) == "-"
    assert within(first.metric, first.segment) == first.metric
    assert within("clicks", "country=de") == "clicks, country=de"
    assert traits(first, report.metrics["click_rate"]) == "higher is better"
    assert traits(guardrail, report.metrics["hate_rate"]) == "lower is better, margin +5.00%"
    assert margin_end(report.metrics["hate_rate"]) == 0.05


@pytest.mark.parametrize(("alpha", "name"), [(0.05, "95%"), (0.1, "90%"), (0.025, "97.5%"), (0.001, "99.9%")])
def test_the_interval_is_named_after_alpha(report: Report, alpha: float, name: str) -> None:
    analysis = report.experiment.analysis.model_copy(update={"alpha": alpha})
    experiment = report.experiment.model_copy(update={"analysis": analysis})
    assert interval_name(replace(report, experiment=experiment)) == f"{name} interval"


def test_what_is_read_early_is_sure_where_its_always_valid_interval_is(report: Report) -> None:
    one, metric = report.comparisons[0], report.metrics["click_rate"]
    assert one.p_adjusted is not None
    assert one.p_adjusted < 0.05
    wide, narrow = (replace(one, always_low=low, always_high=0.08) for low in (-0.01, 0.001))
    assert read(wide, metric, 0.05).effect == "better"
    assert read(wide, metric, 0.05, early=True) == Reading("open", "may be 0")
    assert read(narrow, metric, 0.05, early=True).effect == "better"
    assert read(one, metric, 0.05, early=True).effect == "unknown"
    early = replace(report, comparisons=[wide, narrow], early=True)
    assert [one.lift_low for one in deciding(early)] == [-0.01, 0.001]
    assert deciding(replace(early, early=False)) == [wide, narrow]
    page = render(early)
    assert "bars always-valid 95% intervals" in page
    assert "+0.10% to +8.00%" in page
    assert "bars always-valid" not in render(report)
