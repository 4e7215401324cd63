"""The page Pipelines in each of its states, and as a person uses it in a browser."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, delete, update
from streamlit.testing.v1 import AppTest

from armlift.lab import Lab
from armlift.store.database import open_database, writing
from armlift.store.tables import job_runs
from armlift_dashboards import parts
from armlift_pipelines.job_runs import Record

Shown = Callable[..., AppTest]
Told = Callable[[AppTest], str]
NARROW = "document.querySelector('[data-testid=stMain]').scrollWidth <= 390"
"""Holds once nothing is wider than a telephone; charts take a moment to shrink."""
NIGHT, STEP = "a" * 32, "b" * 32
LOG = "logs/live-2026-01-02/retrain-recgpt.log"


@pytest.fixture
def full(bare: Lab, happened: Callable[[Engine, int], None]) -> Iterator[Engine]:
    engine = open_database(bare)
    happened(engine, time.time_ns() // 1_000_000)
    (bare.folder / LOG).parent.mkdir(parents=True)
    (bare.folder / LOG).write_text("epoch 1\nepoch 2 <done>\n")
    yield engine
    engine.dispose()


def test_nothing_was_done_yet(bare: Lab, shown: Shown, told: Told) -> None:
    app = shown("pipelines")
    written = told(app)
    assert "none yet" in written
    assert "not planned" in written
    assert "Nothing was alerted yet." in written
    assert [one.value for one in app.info] == [
        "No job was done yet. A night retrains, proves and promotes the arms."
    ]
    assert app.code[0].value == "armlift nightly"


def test_there_is_no_database_yet(bare: Lab, shown: Shown) -> None:
    (bare.folder / "armlift.db").unlink()
    app = shown("pipelines")
    assert not app.exception
    assert "has no database yet" in app.info[0].value


def test_what_jobs_did(full: Engine, shown: Shown, told: Told) -> None:
    app = shown("pipelines")
    written = told(app)
    for said in (
        "4 of 5 steps done; refused: recgpt; failed: snapshot",
        "in 3 minutes",
        "1 × model refused, 1 × model too old",
        "monitor: 2 looks in the last 24 hours, 1 failed",
        "its process is gone",
        "large drift",
        "where chance alone makes 0.01",
        "recgpt is 4.1 days old",
    ):
        assert said in written
    assert written.count("<tr") > 10
    assert [one.type for one in app.main if one.type == "vega_lite_chart"] == ["vega_lite_chart"]


def test_choices_come_from_the_address_and_unknown_ones_do_no_harm(
    full: Engine, shown: Shown, told: Told
) -> None:
    app = shown("pipelines", job="monitor", status="failed")
    assert (app.selectbox("job").value, app.selectbox("status").value) == ("monitor", "failed")
    written = told(app)
    assert "away" in written
    assert "looks in the last" not in written
    app = shown("pipelines", job="<nothing>", status="7", limit="-1")
    assert not app.exception
    assert app.selectbox("job").value == "all"
    app.selectbox("status").select("running").run()
    assert "export x" in told(app)
    app.selectbox("job").select("nightly").run()
    assert [one.value for one in app.info] == ["No run is like that. Choose another job or status."]


def test_an_opened_night_has_its_steps(full: Engine, shown: Shown, told: Told) -> None:
    written = told(shown("pipelines", run=NIGHT, status="failed"))
    assert "Night 2026-01-02, run live" in written
    assert "1 of 5 steps failed: it &lt;b&gt;" in written
    assert f'href="pipelines?status=failed&amp;run={STEP}"' in written
    assert "killed" in written


def test_an_opened_step_has_its_log(full: Engine, shown: Shown, told: Told) -> None:
    written = told(shown("pipelines", run=STEP[:8]))
    assert "Retrain recgpt" in written
    assert f"{LOG}: 2 lines." in written
    assert "epoch 2 &lt;done&gt;" in written


def test_a_log_that_is_gone_and_one_that_leads_out(full: Engine, bare: Lab, shown: Shown, told: Told) -> None:
    shutil.rmtree(bare.folder / "logs")
    app = shown("pipelines", run=STEP)
    assert app.info[0].value == f"The log {LOG} is gone: nights delete logs after 90d."
    with writing(full) as connection:
        connection.execute(update(job_runs).where(job_runs.c.id == STEP).values(log="armlift.toml"))
    app = shown("pipelines", run=STEP)
    assert [one.value for one in app.error] == ["log armlift.toml: must lie in logs/ of the lab"]
    assert "database_url" not in told(app)


def test_logs_are_kept_from_who_may_not_see_them(
    full: Engine, shown: Shown, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "may_see_details", lambda: False)
    app = shown("pipelines", run=STEP)
    assert [one.value for one in app.warning] == ["What steps wrote is shown to owners only."]
    assert "epoch 2" not in told(app)
    assert "Retrain recgpt" in told(app)


def test_a_run_that_is_not_there_leaves_the_rest_of_the_page(full: Engine, shown: Shown, told: Told) -> None:
    app = shown("pipelines", run="f" * 32)
    assert "no job has such a run" in app.error[0].value
    assert "in the last 24 hours" in told(app)


def test_a_night_that_is_running_says_for_how_long(full: Engine, shown: Shown, told: Told) -> None:
    owner = Record(full).begin(Record(full).named(NIGHT)[0].key, {}).owner
    assert str(os.getpid()) in owner
    app = shown("pipelines")
    assert "s so far" in told(app)
    with writing(full) as connection:
        connection.execute(delete(job_runs).where(job_runs.c.step != ""))
    assert "0 of 0 steps done" in told(shown("pipelines"))


def test_a_person_looks_why_a_night_did_what_it_did(filled_pages: str, page: Page) -> None:
    page.goto(f"{filled_pages}/pipelines")
    expect(page.get_by_text("Last night", exact=True)).to_be_visible()
    page.get_by_role("link", name=re.compile("^night ")).first.click()
    steps = page.get_by_role("region", name="Its steps, in the order they began")
    expect(steps.get_by_text("retrain").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/pipelines\?run=[0-9a-f]{32}$"))
    steps.get_by_role("link", name="gate").first.click()
    expect(page.get_by_role("region", name="Log", exact=True)).to_contain_text(
        "finite: all weights are numbers"
    )
    page.get_by_role("link", name="Close").click()
    expect(page).to_have_url(re.compile(r"/pipelines$"))
    page.get_by_text("The numbers").click()
    expect(page.get_by_role("region", name="Seconds of work, all attempts together")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(NARROW)
