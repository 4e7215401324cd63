"""The page Planner in each of its states, and used as a person would."""

import shutil
from pathlib import Path

import pytest
import streamlit as st
from playwright.sync_api import Page, expect
from sqlalchemy import delete, update
from streamlit.testing.v1 import AppTest

from armlift.cli import run
from armlift.lab import VARIABLE, Lab, init_lab
from armlift.store.database import open_database, writing
from armlift.store.tables import snapshots
from armlift_dashboards import source


def shown(monkeypatch: pytest.MonkeyPatch, folder: Path, **query: str) -> AppTest:
    monkeypatch.setenv(VARIABLE, str(folder))
    source.open_source.clear()
    st.cache_data.clear()

    def page() -> None:
        from armlift_dashboards.app import render
        from armlift_dashboards.views import planner

        render(planner.show)

    test = AppTest.from_function(page, default_timeout=30)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


@pytest.fixture
def own(filled: Lab, tmp_path: Path) -> Lab:
    """Copy the filled lab, to be changed."""
    shutil.copytree(filled.folder, tmp_path / "lab")
    return Lab(tmp_path / "lab")


def told(test: AppTest) -> str:
    return " ".join(one.proto.json for one in test.get("bidi_component"))


def test_a_lab_without_a_database_says_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_lab(tmp_path / "lab")
    test = shown(monkeypatch, tmp_path / "lab")
    assert "has no database yet" in test.info[0].value
    assert test.code[0].value == "armlift demo"


def test_without_snapshots_numbers_are_asked_for(own: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(own)
    with writing(engine) as connection:
        connection.execute(delete(snapshots))
    engine.dispose()
    test = shown(monkeypatch, own.folder)
    assert test.radio(key="from").value == "Numbers typed in"
    assert "units in all" in told(test)
    test.radio(key="kind").set_value("A mean per unit").run()
    test.number_input(key="sd").set_value(3.0).run()
    assert not test.exception
    assert "click_rate" in told(test)
    test.radio(key="from").set_value("A stored run").run()
    assert "No report was stored yet" in test.info[0].value


def test_a_stored_run_is_planned_from(filled: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    test = shown(monkeypatch, filled.folder, experiment="baselines")
    assert (test.selectbox(key="experiment").value, test.selectbox(key="metric").value) == (
        "baselines", "click_rate",
    )  # fmt: skip
    assert "To find a lift of 2% in click_rate with 80% power at 95% confidence takes" in told(test)
    before = told(test)
    test.number_input(key="lift").set_value(4.0).run()
    assert "To find a lift of 4%" in told(test)
    assert told(test) != before
    test.selectbox(key="metric").set_value("watch_time").run()
    assert "A guardrail is planned for its margin" in told(test)
    assert test.multiselect(key="draft-primary-watch_time").value == ["watch_time"]


@pytest.mark.parametrize(
    "query", [{"metric": "x", "experiment": "x"}, {"lift": "many", "power": "1", "days": "9999", "from": "x"}]
)
def test_a_link_with_unknown_values_shows_the_page(
    filled: Lab, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    assert "takes" in told(shown(monkeypatch, filled.folder, **query))


def test_a_metric_that_cannot_be_planned_says_why(own: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(own)
    with writing(engine) as connection:
        mine = snapshots.select().where(snapshots.c.experiment == "baselines")
        row = connection.execute(mine.order_by(snapshots.c.as_of.desc())).first()
        assert row is not None
        aggregates = dict(row.aggregates)
        aggregates["run"]["log"]["kinds"].remove("click")
        connection.execute(update(snapshots).values(aggregates=aggregates))
    engine.dispose()
    test = shown(monkeypatch, own.folder, experiment="baselines")
    assert "click_rate cannot be planned for popularity: the log or the arm has nothing that" in told(test)


def test_a_snapshot_that_lacks_answers_fails_in_a_line(own: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(own)
    with writing(engine) as connection:
        mine = snapshots.select().where(snapshots.c.experiment == "baselines")
        row = connection.execute(mine.order_by(snapshots.c.as_of.desc())).first()
        assert row is not None
        answers = {k: v for k, v in row.aggregates["answers"].items() if not k.startswith("units/")}
        connection.execute(update(snapshots).values(aggregates={**row.aggregates, "answers": answers}))
    engine.dispose()
    test = shown(monkeypatch, own.folder)
    assert "another version made it" in test.error[0].value


def test_a_person_plans_drafts_downloads_and_the_file_passes_the_check(
    filled: Lab, filled_pages: str, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{filled_pages}/planner?experiment=baselines&lift=10&days=30")
    expect(page.get_by_text("To find a lift of 10% in click_rate")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Smallest lift after 30 days")).to_be_visible()
    expect(page.get_by_text("Give the experiment a name")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("baselines")
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.get_by_text("'baselines' is taken")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("from-the-page")
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.get_by_text("finds nothing wrong with it")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download from-the-page.yaml").click()
    assert download.value.suggested_filename == "from-the-page.yaml"
    lab = tmp_path / "lab"
    shutil.copytree(filled.folder, lab, ignore=shutil.ignore_patterns("*.db*", "models", "stream"))
    download.value.save_as(lab / "experiments" / "from-the-page.yaml")
    assert run(["experiment", "check", "from-the-page", "--lab", str(lab)]) == 0
    assert not (filled.folder / "experiments" / "from-the-page.yaml").exists()
    found = Lab(lab).experiment("from-the-page")
    assert (found.analysis.smallest_lift, found.control) == (0.1, "random")
    assert found.analysis.planned_units is not None


def test_the_page_fits_a_phone_and_its_choices_are_in_the_address(filled_pages: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{filled_pages}/planner")
    expect(page.get_by_text("To find a lift of 2% in click_rate")).to_be_visible()
    page.get_by_label("Power (%)").fill("90")
    page.get_by_label("Power (%)").press("Enter")
    expect(page.get_by_text("with 90% power")).to_be_visible()
    expect(page).to_have_url(f"{filled_pages}/planner?power=90")
    wide = page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
    assert wide <= 0
