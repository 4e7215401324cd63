import io
from dataclasses import replace

import pytest
from rich.console import Console

from armlift.rendering.text import print_report
from armlift.report import Report


def lines_of(report: Report, width: int = 80) -> list[str]:
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, highlight=False))
    return out.getvalue().splitlines()


def test_the_sentence_stands_above_the_resolution(report: Report) -> None:
    lines = lines_of(report)
    place = lines.index("Nothing can be told: users met what the log's own policy chose for them, to the")
    assert lines[place - 1 : place + 4] == [
        "",
        "Nothing can be told: users met what the log's own policy chose for them, to the",
        "very end.",
        "",
        "Resolution  smallest detectable lift 10.7%; slates differ on 10.5% of 2,621 ",
    ]


def test_the_verdict_ends_the_report_with_its_rules(report: Report) -> None:
    lines = lines_of(report)
    assert lines[lines.index("Verdict: cannot tell") :] == [
        "Verdict: cannot tell",
        "  - the log's exposure is not random",
        "Why not ship",
        "  - random: the lift of click_rate may be 0",
        "  - guardrail hate_rate is in doubt",
        "Rules, in the order they are asked",
        "  passed    trust checks: none of 3 checks failed",
        "  decided   random exposure: the log's exposure is not random",
        "  not asked better: random_exposure decided before",
    ]


def test_a_ship_has_reasons_alone(report: Report) -> None:
    shipped = report.verdict._replace(status="ship", why_not_ship=[])
    lines = lines_of(replace(report, verdict=shipped))
    assert "Why not ship" not in lines
    assert "  - random: the lift of click_rate may be 0" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_long_lines_go_on_below_where_they_began(report: Report, width: int) -> None:
    long = report.verdict._replace(why_not_ship=["a condition of many words " * 8])
    lines = lines_of(replace(report, verdict=long), width)
    assert max(map(len, lines)) <= width
    place = next(place for place, line in enumerate(lines) if line.startswith("  - a condition"))
    assert lines[place + 1].startswith("    ")
    assert not lines[place + 1].startswith("     ")
