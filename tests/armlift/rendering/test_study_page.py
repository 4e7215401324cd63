from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.evaluation import Interval
from armlift.findings import Findings, Row, Section
from armlift.rendering.study_page import render, write_study

M = "NDCG@10"
ROWS = (
    Row("base", values={M: Interval(0.05, 0.04, 0.06)}, figures={"ms": Interval(2, 1, 3)}, units=9),
    Row(
        "a <b>", "base", values={M: Interval(0.06, 0.05, 0.07)}, differences={M: Interval(0.01, 0.005, 0.02)}
    ),
    Row("lost", "base", "no_data", "why not"),
)
SECTIONS = tuple(Section(name, 9, ROWS, "base", None, f"Of {name}.") for name in ("all units", "group: 1"))
FOUND = Findings("k", "How many?", "mine", M, "test", "abc", (0, 1, 2), SECTIONS, False, ("A note.",))


def test_a_page_has_the_answer_plots_tables_and_notes(tmp_path: Path) -> None:
    page = render(FOUND)
    for text in (
        "Study k: mine",
        "How many?",
        "Of all units.",
        "Of group: 1.",
        "A note.",
        "sha256 of the data: abc",
    ):
        assert text in page
    assert page.count("<svg") == 2
    assert "a &lt;b&gt;" in page
    assert "lost (why not)" in page
    assert "0.06 (0.05 to 0.07); +0.0100 (+0.0050 to +0.0200)" in page
    assert "Other figures: median of the seeds" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched
    path = tmp_path / "page.html"
    write_study(FOUND, path)
    assert path.read_text() == page
    with pytest.raises(InputError, match="cannot be written"):
        write_study(FOUND, tmp_path / "none" / "page.html")
