import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from armlift.check import Check
from armlift.errors import InputError
from armlift.rendering.forest_plot import NARROW, WIDE
from armlift.rendering.html import BADGES, render, write_html
from armlift.rendering.markup import VOID
from armlift.report import Report
from armlift.stats.results import CheckStatus
from armlift.verdict import Ruling, Verdict

HOSTILE = "<script>alert('1')</script>\"&amp;"


class Node(NamedTuple):
    """An element: its name, its attributes, and all text in it."""

    name: str
    attributes: dict[str, str]
    text: list[str]

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def said(self) -> str:
        return "".join(self.text)


class Page(HTMLParser):
    """A page's elements in order; fails where an element is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self._open: list[Node] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs))
        node = Node(tag, {key: value or "" for key, value in attrs}, [])
        self.nodes.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        for node in self._open:
            node.text.append(data)

    def named(self, *names: str) -> list[Node]:
        return [node for node in self.nodes if node.name in names]

    def of_class(self, name: str) -> list[Node]:
        return [node for node in self.nodes if name in node.classes]

    @property
    def said(self) -> str:
        return self.nodes[0].said


def test_it_is_one_well_formed_page(report: Report) -> None:
    html = render(report)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    page = Page(html)
    assert [node.name for node in page.named("html", "head", "body", "main")] == [
        "html",
        "head",
        "body",
        "main",
    ]
    assert page.nodes[0].attributes == {"lang": "en"}
    assert page.named("title")[0].said == "Lift report: baselines"


def test_headings_come_in_order(report: Report) -> None:
    levels = [int(node.name[1]) for node in Page(render(report)).named("h1", "h2", "h3")]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_sections_come_resolution_first(report: Report) -> None:
    headings = [node.attributes["id"] for node in Page(render(report)).named("h2")]
    assert headings == [*("verdict", "bias", "resolution", "checks", "lift", "numbers", "left-out", "origin")]


def test_tables_are_labelled(report: Report) -> None:
    page = Page(render(report))
    tables, captions = page.named("table"), page.named("caption")
    assert len(tables) == len(captions) == 4
    assert all(caption.said for caption in captions)
    assert all(node.attributes["scope"] in ("col", "row", "rowgroup") for node in page.named("th"))


def test_ids_are_unique_and_labels_point_to_them(report: Report) -> None:
    nodes = Page(render(report)).nodes
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    keys = ("aria-labelledby", "aria-describedby")
    assert {node.attributes[key] for node in nodes for key in keys if key in node.attributes} <= set(ids)


def test_it_needs_nothing_else(report: Report) -> None:
    html = render(report)
    page = Page(html)
    assert page.named("script", "link", "img", "iframe", "object", "embed", "a", "use", "image") == []
    for node in page.nodes:
        assert not {"src", "href", "srcset", "style", "action"} & node.attributes.keys()
        assert not any(key.startswith("on") for key in node.attributes)
    assert re.search(r"https?:|url\(|@import|@font-face", html) is None
    assert page.named("meta")[2].attributes["content"].startswith("default-src 'none';")


def test_both_color_schemes_and_both_widths_are_styled(report: Report) -> None:
    style = Page(render(report)).named("style")[0].said
    both = ("color-scheme: light dark", "--page: light-dark(#ffffff, #14181c)")
    for part in (*both, "max-width: 760px", ".forest.narrow", ".scroll { overflow-x"):
        assert part in style


def test_plots_have_a_row_a_comparison(report: Report) -> None:
    page = Page(render(report))
    rows = page.of_class("row")
    assert len(rows) == 2 * len(report.comparisons)
    assert [svg.attributes["viewbox"].split()[2] for svg in page.of_class("forest")] == [
        f"{layout.width:g}" for layout in (WIDE, NARROW)
    ]
    assert len(page.of_class("clipped")) == 2 * 2 + 1  # and one in the legend


def hostile(report: Report) -> Report:
    """Put text that tries to break out wherever text can come from outside."""
    name = f"m-{HOSTILE}"
    first = replace(report.comparisons[0], metric=name, arm=f"a-{HOSTILE}", status=f"s-{HOSTILE}")
    run = report.run
    return replace(
        report,
        run=run._replace(
            run=HOSTILE,
            mode=HOSTILE,
            arms={"random": HOSTILE},
            log={**run.log, "files": [HOSTILE], "format": HOSTILE, "sha256": HOSTILE},
        ),
        experiment=report.experiment.model_copy(update={"description": HOSTILE, "name": HOSTILE}),
        metrics={**report.metrics, name: report.metrics["click_rate"].model_copy(update={"unit": HOSTILE})},
        as_of=HOSTILE,
        verdict=Verdict(
            "cannot_tell", [f"r-{HOSTILE}"], [Ruling(HOSTILE, "decided", HOSTILE)], [f"w-{HOSTILE}"], None
        ),
        sentence=HOSTILE,
        comparisons=[first, *report.comparisons[1:]],
        checks=[Check(HOSTILE, "ok", None, HOSTILE), Check("random_exposure", "warn", 0.1, HOSTILE)],
        dropped={HOSTILE: 1},
        sql=f"SELECT '{HOSTILE}'",
    )


def test_text_is_escaped(report: Report) -> None:
    html = render(hostile(report))
    page, plain = Page(html), Page(render(report))
    assert "<script" not in html
    assert page.named("script") == []
    assert page.said.count(HOSTILE) > 22
    assert {node.name for node in page.nodes} == {node.name for node in plain.nodes}
    assert any(f"m-{HOSTILE}, a-{HOSTILE}" in node.attributes.get("aria-label", "") for node in page.nodes)


def test_the_verdict_comes_before_everything_else(report: Report) -> None:
    section = Page(render(report)).named("section")[0]
    assert section.said.startswith(f"Verdict: cannot tell{report.sentence}")


def test_synthetic_data_cannot_be_overlooked(report: Report) -> None:
    assert "synthetic data" not in Page(render(report)).named("body")[0].said.lower()
    page = Page(render(replace(report, run=report.run._replace(synthetic=True))))
    assert page.named("title")[0].said.startswith("SYNTHETIC: ")
    assert page.named("body")[0].said.startswith("SYNTHETIC DATA: users are simulated")
    assert len(page.of_class("stamp")) == 2
    assert any(caption.said.startswith("SYNTHETIC DATA") for caption in page.named("caption"))


@pytest.mark.parametrize(("status", "warned"), [("ok", False), ("warn", True), ("fail", True)])
def test_biased_exposure_is_warned_of(report: Report, status: CheckStatus, warned: bool) -> None:
    check = Check("random_exposure", status, 0.25, "a quarter of the exposures were random")
    warnings = Page(render(replace(report, checks=[check]))).of_class("bias")
    assert len(warnings) == warned
    if warned:
        assert "Warning: these lifts may be biased" in warnings[0].said
        assert "A quarter of the exposures were random." in warnings[0].said


def test_resolution_is_told_with_its_meaning(report: Report) -> None:
    page = Page(render(report))
    assert [node.said for node in page.of_class("value")] == ["10.5%", "5,631", "10.7%"]
    cards = page.of_class("cards")[0].said
    for part in (
        "Of 2,621 compared requests",
        "below 1% nothing",
        "below 100 nothing",
        "Of click_rate; a lift",
    ):
        assert part in cards
    table = next(node for node in page.named("table") if node.said.startswith("Resolution by arm"))
    assert "popularity5,943controlcontrolcovisitation6,0183.01%10.7%random5,63110.3%unknown" in table.said


def test_unknown_resolution_is_said(report: Report) -> None:
    resolution = {**report.resolution, "differing_requests": None, "mde": None, "compared_requests": 0}
    page = Page(render(replace(report, resolution=resolution)))
    assert [node.said for node in page.of_class("value")] == ["unknown", "5,631", "unknown"]


@pytest.mark.parametrize("status", BADGES)
def test_a_check_has_symbol_and_words_beside_its_color(report: Report, status: CheckStatus) -> None:
    page = Page(render(replace(report, checks=[Check("srm", status, 0.86914, "what it means")])))
    badge = page.of_class("badge")[-1]
    assert badge.said == " ".join(BADGES[status])
    assert status in badge.classes
    assert page.of_class("checks")[0].said == f"{badge.said}Sample ratio srm = 0.8691What it means."


def test_a_check_that_has_no_title_is_named(report: Report) -> None:
    page = Page(render(replace(report, checks=[Check("clock_drift", "ok", None, "clocks agree")])))
    assert "Clock drift clock_driftClocks agree." in page.of_class("checks")[0].said


def test_writing_replaces_a_file_and_leaves_nothing_beside_it(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_html(report, path)
    assert path.read_text(encoding="utf-8") == render(report)
    assert list(tmp_path.iterdir()) == [path]


def test_file_names_that_are_no_text_are_written_with_question_marks(report: Report, tmp_path: Path) -> None:
    log = {**report.run.log, "files": ["logs/caf\udce9.csv"]}
    write_html(replace(report, run=report.run._replace(log=log)), tmp_path / "report.html")
    assert "logs/caf?.csv" in (tmp_path / "report.html").read_text(encoding="utf-8")


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("kept")
    return folder / "file" / "report.html"


def _folder(folder: Path) -> Path:
    (folder / "report.html").mkdir()
    return folder / "report.html"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (lambda folder: folder / "missing" / "report.html", "No such file or directory"),
        (_below_a_file, "Not a directory"),
        (_folder, "it is not a file"),
        (lambda folder: folder / ("x" * 300), "File name too long"),
    ],
)
def test_a_path_that_cannot_be_written_gives_one_line(
    report: Report, tmp_path: Path, place: Callable[[Path], Path], reason: str
) -> None:
    path = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        write_html(report, path)
    assert str(caught.value) == f"{path}: cannot be written: {reason}"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_write_keeps_the_old_file(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(part: Path, content: bytes) -> int:
        with part.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"report\.html: cannot be written: No space left on device"):
        write_html(report, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
