import xml.etree.ElementTree as ElementTree

from armlift.evaluation import Interval
from armlift.findings import Row
from armlift.rendering.study_plot import LEFT, RIGHT, bars_of, interval_plot

M = "NDCG@10"


def row(name: str, low: float, high: float, *, base: str | None = "base") -> Row:
    gap = Interval((low + high) / 2, low, high)
    return Row(name, base, values={M: Interval(0.05, 0.04, 0.06)}, differences={M: gap} if base else {})


def test_differences_are_drawn_where_there_are_bases() -> None:
    rows = [
        row("base", 0, 0, base=None),
        row("up", 0.01, 0.03),
        row("down", -0.03, -0.01),
        row("open", -0.01, 0.01),
        Row("lost", "base", "no_data", "why"),
    ]
    title, bars = bars_of(rows, M)
    assert title == "NDCG@10, difference to the base"
    assert [bar.effect for bar in bars] == ["open", "better", "worse", "open", "unknown"]
    assert [bar.interval is None for bar in bars] == [True, False, False, False, True]
    assert bars[0].text == "base, 0.0500"
    assert bars[1].text == "+0.0200 (+0.0100 to +0.0300)"
    assert [bar.effect for bar in bars_of(rows, M, lower_is_better=True)[1]][1:3] == ["worse", "better"]


def test_values_or_figures_are_drawn_where_there_are_none() -> None:
    rows = [Row("K = 0", figures={"ms": Interval(2, 1, 3)}), Row("K = 1", status="no_data", reason="why")]
    title, bars = bars_of(rows, "ms")
    assert (title, bars[0].text, bars[1].text) == ("ms", "2 (1 to 3)", "why")


def test_bars_stand_on_an_axis_that_holds_all_of_them_and_zero() -> None:
    _, bars = bars_of([row("up", 0.01, 0.03), row("down & out", -0.03, -0.01)], M)
    root = ElementTree.fromstring(interval_plot("A <title>", bars, name="plot"))
    drawn = [element for element in root.iter() if element.get("class") == "bar"]
    ends = [(float(bar.get("x1", "")), float(bar.get("x2", ""))) for bar in drawn]
    (zero,) = (float(line.get("x1", "")) for line in root.iter() if line.get("class") == "zero")
    assert all(LEFT <= start < end <= RIGHT for start, end in ends)
    assert ends[1][1] < zero < ends[0][0]
    assert root.findtext("title") == "A <title>"
    assert [element.get("aria-label") for element in root.iter("g")] == [
        f"{bar.name}: {bar.text}" for bar in bars
    ]


def test_without_any_interval_there_is_an_axis_still() -> None:
    _, bars = bars_of([Row("lost", status="no_data", reason="why")], M)
    assert ElementTree.fromstring(interval_plot("t", bars, name="plot")).get("class") == "forest"
