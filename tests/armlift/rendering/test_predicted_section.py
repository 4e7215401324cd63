"""Predicted against observed: every status has words, in the terminal and in HTML."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from armlift.predictions import Predicted
from armlift.rendering.html import render
from armlift.rendering.predicted_section import predicted_section, reading_of, statement_of
from armlift.rendering.text import print_report
from armlift.report import Report

ONE = Predicted(
    "click_rate",
    "covisitation",
    "ok",
    1_310,
    5_000,
    812.4,
    0.031,
    -0.01,
    0.074,
    0.029,
    0.001,
    0.058,
    0.08,
    True,
)
FEW = replace(
    ONE, arm="random", status="too_few", effective_rows=12.0,
    lift=None, lift_low=None, lift_high=None, z=None, agrees=None,
)  # fmt: skip


def text_of(report: Report) -> str:
    out = StringIO()
    print_report(report, Console(file=out, width=80, highlight=False))
    return out.getvalue()


def test_both_are_shown_where_known(report: Report) -> None:
    shown = replace(report, predicted=[ONE, FEW])
    text = text_of(shown)
    assert "Predicted against observed (click_rate)" in text
    assert "predicted +3.10% (-1.00% to +7.40%), 812 effective rows" in text
    assert "observed  +2.90% (+0.10% to +5.80%), agree (z = 0.08)" in text
    assert "random: too_few: 12 effective rows, must be 100 or more" in text
    assert max(map(len, text.splitlines())) <= 80
    page = render(shown)
    assert "Predicted against observed" in page
    assert "agree (z = 0.08)" in page
    assert "too_few: 12 effective rows" in page
    assert shown.as_dict()["predicted"][0]["effective_rows"] == 812.4


def test_long_names_and_wide_intervals_fit(report: Report) -> None:
    wide = replace(ONE, arm="a" * 60, lift_high=123.0, observed_high=99.0, effective_rows=1_234_567.0)
    text = text_of(replace(report, predicted=[wide, replace(wide, arm="random")]))
    assert max(map(len, text.splitlines())) <= 80
    assert "1,234,567 effective rows" in " ".join(text.split())


def test_nothing_is_shown_where_nothing_was_predicted(report: Report) -> None:
    assert "Predicted against" not in text_of(report)
    assert predicted_section(report) == ""


def test_every_status_has_words() -> None:
    assert reading_of(replace(ONE, agrees=False, z=-2.5)) == "differ (z = -2.50)"
    assert reading_of(replace(ONE, agrees=None, z=None)) == "nothing to hold it against"
    assert "does not explore" in statement_of(replace(ONE, status="not_estimable"))
    assert statement_of(replace(ONE, status="no_data")).startswith("no_data: ")
