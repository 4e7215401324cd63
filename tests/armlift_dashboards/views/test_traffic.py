"""The page Traffic in each of its states, and as a person uses it in a browser."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, insert
from streamlit.testing.v1 import AppTest

from armlift.experiment import Experiment
from armlift.ingesters import Heartbeat
from armlift.lab import Lab
from armlift.runs import LIVE, Run, begin
from armlift.snapshots import Snapshot, keep
from armlift.store import tables
from armlift.store.database import open_database, writing
from armlift.streams.opening import open_stream

Shown = Callable[..., AppTest]
Told = Callable[[AppTest], str]
NARROW = "document.querySelector('[data-testid=stMain]').scrollWidth <= 390"
"""Holds once nothing is wider than a telephone; charts take a moment to shrink."""
DAY = 20_455
CHECKS = [{"name": "srm", "status": "ok", "value": 0.31, "meaning": "as planned"}]


@pytest.fixture
def engine(bare: Lab) -> Iterator[Engine]:
    made = open_database(bare)
    yield made
    made.dispose()


def live(engine: Engine, name: str, **values: Any) -> Run:
    experiment = Experiment.model_validate(
        {"name": name, "arms": {"a": 1, "b": 3}, "control": "a", "metrics": {"primary": ["clicks"]}}
    )
    definition = {"experiment": experiment.model_dump(mode="json"), "metrics": {}}
    run = Run("live", 0, name, LIVE, False, 10, 0, "running", False, definition, {}, {}, {}, {})
    with writing(engine) as connection:
        return begin(connection, run._replace(**values))


def report(engine: Engine, run: Run, **answers: object) -> None:
    aggregates = {"run": {"definition": run.definition}, "timezone": "UTC", "answers": answers}
    now = time.time_ns() // 1_000_000
    made = Snapshot(
        run.experiment, run.run, run.experiment, now, now, "1", "d", "", aggregates, {"checks": CHECKS}
    )
    with writing(engine) as connection:
        keep(connection, made)


def test_nothing_was_ingested_yet(bare: Lab, shown: Shown, told: Told) -> None:
    app = shown("traffic")
    assert "unknown" in told(app)
    assert [one.value for one in app.info] == [
        "There is no stream yet: it is made when the first event is published.",
        "Nothing was ingested yet. The demo makes a lab with simulated users.",
        "No experiment has a run yet.",
    ]
    assert not (bare.folder / "stream").exists()


def test_events_that_wait_for_an_ingester(bare: Lab, engine: Engine, shown: Shown, told: Told) -> None:
    with open_stream(bare) as stream:
        stream.publish("u1", b"x")
        stream.flush()
    app = shown("traffic")
    assert "1 record" in told(app)
    assert app.warning[0].value.startswith("No ingester is running; not stored yet: 1 record.")
    assert app.code[0].value == "armlift ingest"


def test_an_ingester_that_runs(bare: Lab, engine: Engine, shown: Shown, told: Told) -> None:
    from prometheus_client import CollectorRegistry

    from armlift.ingest_metrics import IngestMetrics

    with open_stream(bare) as stream, Heartbeat(engine, stream.stream_id, IngestMetrics(CollectorRegistry())):
        app = shown("traffic")
    assert "1 running" in told(app)
    assert not [one for one in (*app.info, *app.warning) if "ingester" in one.value]


def test_a_stream_that_cannot_be_reached_is_one_line(
    bare: Lab, engine: Engine, shown: Shown, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARMLIFT_STREAM_URL", "kafka://127.0.0.1:1/events")
    letter = {
        "stream_id": "s",
        "partition": 0,
        "offset": 1,
        "index": 0,
        "reason": "no kind",
        "bytes": b"secret",
    }
    with writing(engine) as connection:
        connection.execute(insert(tables.dead_letters).values(letter))
    app = shown("traffic")
    assert app.error[0].value.startswith("The stream cannot be reached: ")
    written = told(app)
    assert "no kind" in written
    assert "secret" not in written
    assert "Events by day" in written


def test_events_of_many_runs(engine: Engine, shown: Shown, told: Told) -> None:
    live(engine, "demo")
    rows = [
        {"stream_id": "s", "partition": 0, "run": run, "day": DAY, "events": 240, "late": 24, "watermark": 0}
        for run in ("live", *(f"past{number}" for number in range(8)))
    ]
    with writing(engine) as connection:
        connection.execute(insert(tables.arrivals), rows)
    app = shown("traffic")
    written = told(app)
    assert "live (demo)" in written
    assert '<td class="number">24 (10.0%)</td>' in written
    (chart,) = [json.loads(one.proto.spec) for one in app.main if one.type == "vega_lite_chart"]
    assert chart["layer"][0]["encoding"]["color"]["scale"]["domain"] == [
        "A: live (demo)", *(f"{'BCDEF'[number]}: past{number}" for number in range(5)), "G: other runs",
    ]  # fmt: skip


def test_a_run_without_a_report_says_what_makes_one(engine: Engine, shown: Shown) -> None:
    live(engine, "demo")
    app = shown("traffic", experiment="demo")
    assert app.info[-1].value.startswith("Run live has no report yet")
    assert app.code[-1].value == "armlift report demo --run live"


def test_units_by_arm_and_day(engine: Engine, shown: Shown, told: Told) -> None:
    run = live(engine, "demo")
    report(
        engine,
        run,
        assigned=[["a", 0, 0, 30], ["b", 0, 0, 70]],
        arrivals_by_arm=[["a", DAY, 30], ["b", DAY, 70]],
    )
    live(engine, "newer")
    app = shown("traffic", experiment="demo")
    written = told(app)
    assert "Sample ratio (p = 0.31)" in written
    assert '<td class="number">70</td><td class="number">70.0%</td>' in written
    assert "02 Jan 2026" in written
    app.selectbox("experiment").select("newer").run()
    assert not app.exception
    assert app.info[-1].value.startswith("Run live has no report yet")


def test_what_older_reports_and_paired_runs_cannot_tell(engine: Engine, shown: Shown) -> None:
    run = live(engine, "old")
    report(engine, run, assigned=[["a", 0, 0, 30]])
    assert "an older version" in shown("traffic", experiment="old").warning[-1].value
    paired = live(engine, "both", run="p1", paired=True, mode="rerank")
    report(engine, paired, assigned=[])
    assert "Every unit of this run meets every arm" in shown("traffic", experiment="both").info[-1].value
    assert not shown("traffic", experiment="<nothing>", run="?", live="maybe").exception


def test_changed_runs_are_chosen_anew(engine: Engine, shown: Shown) -> None:
    live(engine, "one", run="r1")
    live(engine, "two", run="r2")
    app = shown("traffic", experiment="one", run="r1")
    assert app.selectbox("run").value == "r1"
    app.selectbox("experiment").select("two").run()
    assert not app.exception
    assert app.selectbox("run").value == "r2"


def test_a_person_looks_at_the_traffic(filled_pages: str, filled: Lab, page: Page) -> None:
    page.goto(f"{filled_pages}/traffic")
    expect(page.get_by_text("0 records")).to_be_visible()
    expect(page.get_by_text("none running")).to_be_visible()
    page.get_by_text("The numbers", exact=True).click()
    expect(page.get_by_role("region", name=re.compile("^Events as they arrived"))).to_contain_text(
        "baselines"
    )
    page.get_by_text("Look again every 5 seconds").click()
    expect(page).to_have_url(re.compile(r"\?live=false$"))
    expect(page.get_by_text("Sample ratio (p", exact=False)).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(NARROW)


def test_what_comes_in_is_seen_without_a_hand(
    bare: Lab, engine: Engine, serve: Callable[..., object], page: Page
) -> None:
    with open_stream(bare) as stream, serve(bare.folder) as address:  # type: ignore[attr-defined]
        page.goto(f"{address}/traffic")
        expect(page.get_by_text("0 records")).to_be_visible()
        stream.publish("u1", b"x")
        stream.flush()
        expect(page.get_by_text("1 record", exact=False).first).to_be_visible(timeout=15_000)
