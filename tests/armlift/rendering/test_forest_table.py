"""The forest table says every comparison's numbers, and draws both intervals where they are."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from armlift.rendering.forest_table import ABSOLUTE, RELATIVE, all_units, forest_table, signed_plain
from armlift.report import Report


class Lines(HTMLParser):
    """Collects the lines drawn in each row: kind to the pairs of x."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, list[tuple[float, float]]]] = {}
        self._row = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attributes}
        if tag == "tr":
            self._row = told.get("data-comparison", "")
        if tag == "line" and self._row:
            ends = (float(told["x1"]), float(told["x2"]))
            self.rows.setdefault(self._row, {}).setdefault(told["class"], []).append(ends)


@pytest.fixture
def full(report: Report) -> Report:
    """Give the report with always-valid intervals and differences."""
    comparisons = [
        one
        if one.lift is None or one.lift_low is None or one.lift_high is None
        else replace(
            one, always_low=one.lift_low - 0.02, always_high=one.lift_high + 0.02, difference=0.4 * one.lift,
            difference_low=0.4 * one.lift_low, difference_high=0.4 * one.lift_high, numerator=812.5,
            denominator=2_000.0,
        )
        for one in report.comparisons
    ]  # fmt: skip
    return replace(report, comparisons=comparisons)


def drawn(report: Report, *roles: str) -> dict[str, dict[str, list[tuple[float, float]]]]:
    lines = Lines()
    lines.feed(forest_table(report, all_units(report, *roles), RELATIVE, "Lifts"))
    return lines.rows


def test_the_thin_interval_holds_the_thick_one(full: Report) -> None:
    rows = drawn(full, "primary", "secondary", "guardrail")
    known = [kinds for kinds in rows.values() if "bar" in kinds]
    assert len(known) > 2
    for kinds in known:
        (low, high), (always_low, always_high) = kinds["bar"][0], kinds["always"][0]
        assert always_low <= low <= high <= always_high
        assert len(kinds["zero"]) == 1


def test_guardrails_alone_have_a_margin(full: Report) -> None:
    rows = drawn(full, "primary", "secondary", "guardrail")
    roles = {f"{one.metric}/{one.arm}": one.role for one in full.comparisons}
    assert {name for name, kinds in rows.items() if "margin" in kinds} <= {
        name for name, role in roles.items() if role == "guardrail"
    }


def test_numbers_stand_beside_the_bars(full: Report) -> None:
    table = forest_table(full, all_units(full, "primary"), RELATIVE, "Lifts")
    absolute = forest_table(full, all_units(full, "primary"), ABSOLUTE, "Differences")
    assert "812.5 / 2,000" in table
    assert "1,215 units" in table
    for one in full.comparisons:
        if one.role == "primary" and one.difference is not None:
            assert signed_plain(one.difference) in absolute
    assert "<caption>" in table
    assert 'aria-hidden="true"' in table


def test_a_comparison_without_numbers_says_why(full: Report) -> None:
    unknown = [one for one in full.comparisons if one.lift is None]
    assert unknown
    table = forest_table(full, unknown, RELATIVE, "Lifts")
    for one in unknown:
        assert one.status.replace("_", " ") in table


@pytest.mark.parametrize(("value", "said"), [(None, "-"), (0.0, "0"), (0.5, "+0.5"), (-2.25, "-2.25")])
def test_differences_have_their_sign(value: float | None, said: str) -> None:
    assert signed_plain(value) == said
