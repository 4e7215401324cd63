import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace

import pytest

from armlift.rendering.forest_plot import NARROW, WIDE, Layout, figure, fitted, forest_plot
from armlift.report import Report

Element = ElementTree.Element
LAYOUTS = pytest.mark.parametrize("layout", [WIDE, NARROW], ids=lambda layout: str(layout.name))


def draw(report: Report, layout: Layout = WIDE) -> Element:
    return ElementTree.fromstring(forest_plot(report, layout))


def of_class(root: Element, name: str) -> list[Element]:
    return [element for element in root.iter() if name in element.get("class", "").split()]


def texts(root: Element, name: str) -> list[str]:
    return [element.text or "" for element in of_class(root, name)]


def heights(lines: Sequence[Element]) -> list[float]:
    return [float(line.get("y2", "nan")) - float(line.get("y1", "nan")) for line in lines]


@LAYOUTS
def test_there_is_one_row_a_comparison_in_order(report: Report, layout: Layout) -> None:
    rows = of_class(draw(report, layout), "row")
    assert len(rows) == len(report.comparisons)
    for row, one in zip(rows, report.comparisons, strict=True):
        assert str(row.get("aria-label")).startswith(f"{one.metric}, {one.arm}: lift ")
        assert row.get("role") == "img"
        assert row.findtext("title") == row.get("aria-label")


@LAYOUTS
def test_rows_are_grouped_by_role_and_metric(report: Report, layout: Layout) -> None:
    root = draw(report, layout)
    assert texts(root, "role") == ["Primary metrics", "Secondary metrics", "Guardrails"]
    assert texts(root, "metric") == ["click_rate", "watch_time", "likers", "hate_rate"]
    assert texts(root, "note") == [*["higher is better"] * 3, "lower is better, margin +5.00%"]


def test_figures_stand_beside_the_bars(report: Report) -> None:
    assert texts(draw(report), "figures") == [
        "+3.10% (+1.20% to +5.00%)",
        "-2.00% (-5.00% to +1.10%)",
        "+8.00% (-40.0% to +90.0%)",
        "-",
        "+0.00%",
        "-",
        "+1.00% (-1.00% to +3.00%)",
        "+9.00% (+6.00% to +12.0%)",
    ]


def test_bars_and_points_stand_where_their_numbers_are(report: Report) -> None:
    # The axis goes from -15 % to +15 %: three times the farthest primary end.
    root = draw(report)
    bar, point = of_class(root, "bar")[0], of_class(root, "point")[0]
    at = [float(bar.get("x1", "")), float(point.get("cx", "")), float(bar.get("x2", ""))]
    scale = (WIDE.right - WIDE.left) / 0.30
    assert at == pytest.approx([WIDE.left + (lift + 0.15) * scale for lift in (0.012, 0.031, 0.05)], abs=0.1)
    zero = float(of_class(root, "zero")[0].get("x1", ""))
    assert zero == pytest.approx((WIDE.left + WIDE.right) / 2)


def test_an_arrow_stands_at_each_clipped_end_and_no_cap(report: Report) -> None:
    clipped = [row for row in of_class(draw(report), "row") if of_class(row, "clipped")]
    assert len(clipped) == 1
    assert len(of_class(clipped[0], "clipped")) == 2
    assert of_class(clipped[0], "cap") == []
    assert len(of_class(clipped[0], "point")) == 1


def test_an_interval_wholly_beyond_the_axis_is_an_arrow_alone(report: Report) -> None:
    comparisons = list(report.comparisons)
    comparisons[2] = replace(comparisons[2], lift=0.5, lift_low=0.4, lift_high=0.9)
    row = of_class(draw(replace(report, comparisons=comparisons)), "row")[2]
    assert len(of_class(row, "clipped")) == 1
    assert of_class(row, "point") == []


def test_shapes_and_classes_tell_effects_apart(report: Report) -> None:
    rows = of_class(draw(report), "row")
    effects = [str(row.get("class")).split()[1] for row in rows]
    assert effects == ["better", "open", "open", *["unknown"] * 3, "open", "worse"]
    assert of_class(rows[0], "point")[0].tag == "circle"
    assert of_class(rows[7], "point")[0].tag == "path"


@LAYOUTS
def test_a_status_stands_where_there_is_no_interval(report: Report, layout: Layout) -> None:
    root = draw(report, layout)
    assert texts(root, "status") == ["too few", "zero variance", "not estimable"]
    assert len(of_class(root, "bar")) == 5


def test_a_status_stands_on_the_roomy_side(report: Report) -> None:
    below = replace(report.comparisons[0], lift=-0.3, lift_low=-0.4, lift_high=-0.2)
    root = draw(replace(report, comparisons=[below, report.comparisons[3]]))
    status = of_class(root, "status")[0]
    assert "left" in str(status.get("class"))
    assert float(status.get("x", "nan")) < float(of_class(root, "zero")[0].get("x1", "nan"))


@LAYOUTS
def test_the_margin_runs_through_the_rows_of_its_guardrail_only(report: Report, layout: Layout) -> None:
    margins = of_class(draw(report, layout), "margin")
    assert heights(margins) == [2 * layout.row]


def test_a_margin_beyond_the_axis_is_said(report: Report) -> None:
    metrics = {**report.metrics, "hate_rate": report.metrics["hate_rate"].model_copy(update={"margin": 0.9})}
    root = draw(replace(report, metrics=metrics))
    assert of_class(root, "margin") == []
    assert texts(root, "note")[-1] == "lower is better, margin +90.0%, off the axis"


@LAYOUTS
def test_the_zero_line_runs_from_top_to_bottom_and_both_ends_have_ticks(
    report: Report, layout: Layout
) -> None:
    root = draw(report, layout)
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    assert width == layout.width
    assert heights(of_class(root, "zero"))[0] > height - 60
    assert texts(root, "zero-label") == ["0%", "0%"]
    assert len(of_class(root, "tick")) == 2 * len([*of_class(root, "grid"), *of_class(root, "zero")])


@LAYOUTS
def test_everything_lies_in_the_picture(report: Report, layout: Layout) -> None:
    root = draw(report, layout)
    height = float(str(root.get("viewBox")).split()[3])
    for element in root.iter():
        for key, end in (("x", layout.width), ("x1", layout.width), ("x2", layout.width), ("y", height)):
            assert 0 <= float(element.get(key, "0")) <= end


def test_lines_hide_behind_text_that_stands_in_the_plot(report: Report) -> None:
    assert of_class(draw(report, WIDE), "blank") == []
    assert len(of_class(draw(report, NARROW), "blank")) == 3 + 4 + len(report.comparisons)


@LAYOUTS
def test_it_is_described(report: Report, layout: Layout) -> None:
    root = draw(report, layout)
    title, described = root.find("title"), root.find("desc")
    assert title is not None
    assert described is not None
    assert root.get("aria-labelledby") == title.get("id")
    assert root.get("aria-describedby") == described.get("id")
    assert str(described.text).startswith("8 comparisons with popularity.")


@LAYOUTS
def test_synthetic_data_is_stamped(report: Report, layout: Layout) -> None:
    assert of_class(draw(report, layout), "stamp") == []
    synthetic = replace(report, run=report.run._replace(synthetic=True))
    assert texts(draw(synthetic, layout), "stamp") == ["SYNTHETIC DATA"]


def test_long_names_keep_both_ends() -> None:
    assert fitted("popularity", 17) == "popularity"
    assert fitted("popularity-with-decay-7-days", 17) == "populari…y-7-days"
    assert len(fitted("x" * 63, 24)) <= 24


def test_the_figure_has_both_layouts_and_a_legend(report: Report) -> None:
    root = ElementTree.fromstring(figure(report))
    assert [svg.get("class") for svg in root.findall("svg")] == ["forest wide", "forest narrow"]
    assert len(root.findall("figcaption/ul/li/svg")) == 5
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) == 4
