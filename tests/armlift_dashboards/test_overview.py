"""The overview's statuses: from what an experiment's newest report, its state and its decisions say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from armlift.days import DAY_MS
from armlift.lab import Lab
from armlift.planning import Progress
from armlift.report import Report
from armlift.reproduction import stored_report
from armlift.runs import LIVE, Run
from armlift.snapshots import named
from armlift.store.database import open_database, reading, writing
from armlift.store.tables import decisions
from armlift.verdict import Status
from armlift_dashboards.overview import Overview, overviews
from armlift_dashboards.stored import Taken, all_runs, all_snapshots

Tell = Callable[..., Overview]
Known = tuple[Run, Taken, Report]


@pytest.fixture(scope="module")
def known(filled: Lab) -> tuple[Run, Taken, Report]:
    """Give the newest run of `baselines`, its newest snapshot, and its report."""
    engine = open_database(filled, read_only=True)
    run = next(one for one in all_runs(engine, "known") if one.experiment == "baselines")
    taken = next(one for one in all_snapshots(engine, "known") if one.run == run.run)
    with reading(engine) as connection:
        report = stored_report(named(connection, taken.id))
    engine.dispose()
    return run, taken, report


@pytest.fixture
def tell(known: Known, filled: Lab, engine: Engine) -> Tell:
    """Give the overview of `baselines` with parts of its report replaced."""
    run, taken, report = known

    def overview(
        *, status: Status = "cannot_tell", now: int = taken.as_of, run: Run = run, **changed: Any
    ) -> Overview:
        progress = changed.pop("progress", Progress(100, None, None, None, None))
        left = progress.days_left
        verdict = report.verdict._replace(status=status, days_left=left)
        made = replace(report, verdict=verdict, progress=progress, **changed)
        found = overviews(filled, engine, [run], [taken], lambda _: made, now)
        return next(one for one in found if one.name == "baselines")

    return overview


@pytest.mark.parametrize(
    ("told", "badge"),
    [
        ({"status": "cannot_tell"}, "healthy"),
        ({"status": "ship"}, "ready to ship"),
        ({"status": "broken"}, "unhealthy"),
        ({"status": "keep_running", "progress": Progress(10, 40, False, None, 3)}, "3 days left"),
        ({"status": "keep_running", "progress": Progress(10, 40, False, None, 1)}, "1 day left"),
        ({"progress": Progress(0, None, None, None, None)}, "no data"),
    ],
)
def test_each_status_has_its_badge(tell: Tell, told: dict[str, Any], badge: str) -> None:
    assert tell(**told).badge[1] == badge


def test_a_failed_check_is_unhealthy_whatever_the_verdict(tell: Tell, known: Known) -> None:
    checks = [one._replace(status="fail") if one.name == "srm" else one for one in known[2].checks]
    assert tell(status="ship", checks=checks).badge[1] == "unhealthy"


def test_what_was_shipped_says_so(tell: Tell, engine: Engine) -> None:
    row = {
        "id": "d", "experiment": "baselines", "run": "r", "arm": "popularity", "action": "ship",
        "snapshot": "s", "reason": "better", "by": "ann", "at": 0,
        "verdict_status": "ship", "overridden": False,
    }  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(decisions).values(row))
    assert tell(status="ship").badge[1] == "shipped"


def test_a_live_run_without_a_report_of_two_days_is_stale(tell: Tell, known: Known) -> None:
    run, taken, _ = known
    live = run._replace(mode=LIVE, state="running")
    assert not tell(run=live, now=taken.as_of + DAY_MS).stale
    assert tell(run=live, now=taken.as_of + 3 * DAY_MS).stale
    assert not tell(run=run, now=taken.as_of + 3 * DAY_MS).stale


def test_the_best_arm_leads(tell: Tell, known: Known) -> None:
    lead = tell().leads
    assert lead is not None
    lifts = [one.lift for one in known[2].comparisons if one.metric == "click_rate" and one.lift is not None]
    assert lead.lift == max(lifts)


def test_an_experiment_that_never_ran_is_a_draft(tell: Tell, filled: Lab, engine: Engine) -> None:
    found = {one.name: one for one in overviews(filled, engine, [], [], lambda _: pytest.fail("read"), 0)}
    assert {one.badge[1] for one in found.values()} == {"draft"}
    assert set(found) == {"demo", "baselines"}
