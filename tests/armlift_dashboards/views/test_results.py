"""The page Results: its numbers are the report's, its controls look otherwise and are kept in the address."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from armlift.cli import run
from armlift.lab import Lab
from armlift.rendering.words import between, count, percent, plain, probability, signed
from armlift.store.database import open_database, writing
from armlift.store.tables import runs, snapshots

Json = dict[str, Any]
WRITERS: tuple[Callable[[Any], str], ...] = (
    signed,
    plain,
    percent,
    probability,
    lambda value: f"{value:,.0f}",
)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")


@pytest.fixture
def reported(filled: Lab, capsys: pytest.CaptureFixture[str]) -> Callable[..., Json]:
    """Give what `armlift report --json` says."""

    def report(*words: str) -> Json:
        assert run(["report", *words, "--json", "--lab", str(filled.folder)]) == 0
        document: Json = json.loads(capsys.readouterr().out)
        return document

    return report


def open_results(page: Page, address: str, **query: str) -> None:
    page.goto(f"{address}/results?" + "&".join(f"{name}={value}" for name, value in query.items()))
    expect(page.get_by_role("heading", name="Take it with you")).to_be_visible()
    expect(page.locator("tr[data-comparison]").first).to_be_visible()
    expect(page.get_by_role("heading", name="Formulas")).to_be_visible()


@pytest.mark.parametrize("experiment", ["demo", "baselines"])
def test_every_comparison_is_the_reports(
    filled_pages: str, page: Page, reported: Callable[..., Json], experiment: str
) -> None:
    report = reported(experiment)
    open_results(page, filled_pages, experiment=experiment)
    rows = page.locator("tr[data-comparison]")
    shown = {row.get_attribute("data-comparison"): row.locator("td").all_inner_texts() for row in rows.all()}
    assert set(shown) == {f"{one['metric']}/{one['arm']}" for one in report["comparisons"]}
    for one in report["comparisons"]:
        lift, _, reading, arm, control, always, p, adjusted = shown[f"{one['metric']}/{one['arm']}"]
        assert lift.split("\n") == [signed(one["lift"]), between(one["lift_low"], one["lift_high"])]
        assert always == between(one["always_low"], one["always_high"])
        assert (p, adjusted) == (probability(one["p_value"]), probability(one["p_adjusted"]))
        for cell, side in ((arm, ""), (control, "control_")):
            mean, *raw, units = cell.split("\n")
            assert (mean, units) == (plain(one[f"{side}mean"]), f"{count(one[f'{side}units'])} units")
            parts = [one[f"{side}numerator"], one[f"{side}denominator"]]
            assert [float(part.replace(",", "")) for part in "".join(raw).split(" / ") if part] == [
                pytest.approx(part, abs=0.051) for part in parts if part is not None
            ]
        assert reading
    assert page.locator(".verdict .sentence").inner_text() == report["verdict"]["sentence"]


def numbers_in(value: Any) -> list[float]:
    """List the numbers of a JSON document."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [value]
    if isinstance(value, dict | list):
        return [
            one for part in (value.values() if isinstance(value, dict) else value) for one in numbers_in(part)
        ]
    return []


def test_every_number_of_a_table_is_in_the_report(
    filled_pages: str, page: Page, reported: Callable[..., Json]
) -> None:
    report = reported("demo")
    open_results(page, filled_pages, experiment="demo")
    known = {write(number) for number in numbers_in(report) for write in WRITERS}
    known |= {f"{number:,.1f}" for number in numbers_in(report)}
    known |= {f"{weight:g}" for weight in (1, 2, 3)}  # weights of the arms, which the definition holds
    told = [text for cell in page.locator("td.number").all() for text in NUMBER.findall(cell.inner_text())]
    assert len(told) > 100
    assert [text for text in told if text not in known and f"+{text}" not in known] == []
    for check in report["checks"]:
        if check["status"] != "not_applicable" and check["value"] is not None:
            found = page.locator(f"li[data-check={check['name']}] code")
            expect(found).to_have_text(f"{check['name']} = {plain(check['value'])}")


def test_the_address_keeps_how_one_looks(filled_pages: str, page: Page) -> None:
    open_results(page, filled_pages, experiment="baselines")
    whole = page.locator("tr[data-comparison]").first.inner_text()
    page.get_by_role("combobox", name="Lift").click()
    page.get_by_role("option", name="absolute").click()
    expect(page.get_by_role("columnheader", name="Difference").first).to_be_visible()
    page.get_by_role("combobox", name="Baseline").click()
    page.get_by_role("option", name="popularity").click()
    expect(page.get_by_role("heading", name="Lift against popularity")).to_be_visible()
    expect(page.get_by_text("the verdict above stays that of the plan")).to_be_visible()
    assert parse_qs(urlsplit(page.url).query) == {
        "experiment": ["baselines"], "baseline": ["popularity"], "scale": ["absolute"],
    }  # fmt: skip
    rows = page.locator("tr[data-comparison]").all_inner_texts()
    assert whole not in rows
    page.goto(page.url)  # a link shows the same page
    expect(page.get_by_role("heading", name="Lift against popularity")).to_be_visible()
    expect(page.locator("tr[data-comparison]")).to_have_count(len(rows))
    assert page.locator("tr[data-comparison]").all_inner_texts() == rows


def test_an_earlier_time_shows_the_report_of_then(
    filled_pages: str, page: Page, reported: Callable[..., Json]
) -> None:
    open_results(page, filled_pages, experiment="baselines")
    newest = page.locator("tr[data-comparison]").all_inner_texts()
    page.get_by_role("combobox", name="As of").click()
    page.get_by_role("option").last.click()
    expect(page).to_have_url(re.compile("as_of="))
    (snapshot,) = parse_qs(urlsplit(page.url).query)["as_of"]
    expect(page.get_by_text(f"Snapshot {snapshot};")).to_be_visible()
    assert page.locator("tr[data-comparison]").all_inner_texts() != newest
    report = reported("--snapshot", snapshot)
    assert page.locator(".verdict .sentence").inner_text() == report["verdict"]["sentence"]


def test_unknown_words_in_the_address_do_no_harm(filled_pages: str, page: Page) -> None:
    open_results(
        page, filled_pages, experiment="none", run="none", as_of="none", baseline="none", scale="none",
        confidence="120", phase="9", segment="none",
    )  # fmt: skip
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_what_can_be_taken_along_is_the_report(
    filled_pages: str, page: Page, reported: Callable[..., Json], tmp_path: Path
) -> None:
    report = reported("baselines")
    open_results(page, filled_pages, experiment="baselines")
    files = {}
    for label in ("HTML report", "All numbers (CSV)", "All of it (JSON)", "Picture (PNG)"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=label).click()
        name = waiting.value.suggested_filename
        assert name.startswith("synthetic-baselines-")
        files[name.rpartition(".")[2]] = tmp_path / name
        waiting.value.save_as(tmp_path / name)
    assert json.loads(files["json"].read_text()) == report
    lines = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert [float(one["lift"]) if one["lift"] else None for one in lines] == [
        one["lift"] for one in report["comparisons"]
    ]
    assert "SYNTHETIC DATA" in files["html"].read_text()
    with Image.open(files["png"]) as picture:
        assert picture.size[0] > 800
        assert len(picture.convert("RGB").resize((60, 60)).getcolors(3_600) or []) > 10


def test_without_runs_it_says_what_makes_one(bare: Lab, shown: Callable[..., AppTest]) -> None:
    app = shown("results")
    assert [one.value for one in app.info] == ["Nothing has run yet, so there are no results."]
    assert [one.value for one in app.code] == ["armlift demo"]


def test_a_run_without_a_report_says_what_makes_one(
    bare: Lab, filled: Lab, shown: Callable[..., AppTest]
) -> None:
    _copy_run(filled, bare, reports=False)
    app = shown("results")
    assert "has no report yet" in app.info[0].value
    assert app.code[0].value.startswith("armlift report baselines --run ")


def test_a_live_run_whose_report_is_old_is_stale(
    bare: Lab, filled: Lab, shown: Callable[..., AppTest]
) -> None:
    _copy_run(filled, bare, reports=True)
    engine = open_database(bare)
    with writing(engine) as connection:
        connection.execute(update(runs).values(mode="live", state="running"))
    engine.dispose()
    app = shown("results")
    assert not app.exception
    assert "its newest report is of" in app.warning[0].value


def test_a_report_of_another_version_is_one_line(
    bare: Lab, filled: Lab, shown: Callable[..., AppTest]
) -> None:
    _copy_run(filled, bare, reports=True)
    engine = open_database(bare)
    with writing(engine) as connection:
        row = connection.execute(snapshots.select()).first()
        assert row is not None
        aggregates = {**row.aggregates, "answers": {}}
        connection.execute(update(snapshots).values(aggregates=aggregates))
    engine.dispose()
    app = shown("results")
    assert not app.exception
    assert "another version made it" in app.error[0].value


def _copy_run(source: Lab, target: Lab, *, reports: bool) -> None:
    """Copy the run of `baselines` with its newest report into another lab's database."""
    old, new = open_database(source, read_only=True), open_database(target)
    with old.connect() as reading_, writing(new) as connection:
        run = reading_.execute(runs.select().where(runs.c.experiment == "baselines")).first()
        assert run is not None
        connection.execute(runs.insert().values(**run._mapping))
        if reports:
            mine = snapshots.select().where(snapshots.c.experiment == "baselines")
            report = reading_.execute(mine.order_by(snapshots.c.as_of.desc())).first()
            assert report is not None
            connection.execute(snapshots.insert().values(**report._mapping))
    old.dispose()
    new.dispose()
