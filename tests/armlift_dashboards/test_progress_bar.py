"""The power bar says how far a run is, against its plan or without one."""

from dataclasses import replace
from typing import Any

import pytest
from demos import Demo

from armlift.lab import Lab
from armlift.planning import NO_PROGRESS
from armlift.report import Report
from armlift.reproduction import stored_report
from armlift.runs import LIVE
from armlift.snapshots import named
from armlift.store.database import open_database, reading
from armlift_dashboards.progress_bar import power_bar
from armlift_dashboards.stored import all_snapshots


@pytest.fixture(scope="module")
def report(demo: Demo) -> Report:
    engine = open_database(Lab(demo.folder), read_only=True)
    with reading(engine) as connection:
        found = stored_report(named(connection, all_snapshots(engine, "bar")[0].id))
    engine.dispose()
    return found


def bar(report: Report, *, live: bool = True, **progress: Any) -> str:
    told = NO_PROGRESS._replace(**progress)
    run = report.run._replace(mode=LIVE) if live else report.run
    return power_bar(replace(report, run=run, progress=told))


def test_without_a_plan_it_says_what_there_is(report: Report) -> None:
    said = bar(report, units=1_234)
    assert "1,234 units. The plan names neither planned_units nor smallest_lift" in said
    assert "<svg" not in said


def test_with_a_plan_it_fills_up(report: Report) -> None:
    said = bar(report, units=250, units_needed=1_000, days_left=9)
    assert "250 of 1,000 units (25%), about 9 days left at the rate so far." in said
    assert 'aria-label="25% of the units needed are there"' in said
    assert 'width="25"' in said


def test_what_is_full_and_what_no_longer_grows_say_so(report: Report) -> None:
    assert "all that the plan asks for" in bar(report, units=1_200, units_needed=1_000)
    assert "no more will come" in bar(report, live=False, units=10, units_needed=1_000)
    assert "not known how long the rest takes" in bar(report, units=10, units_needed=1_000)
