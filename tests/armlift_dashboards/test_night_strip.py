"""The strip of what matters now, in each state of a lab's jobs."""

from armlift_dashboards.night_strip import outcome, strip, until
from armlift_pipelines.job_runs import JobRun
from armlift_pipelines.night import Result

NOW = 1_767_330_000_000
HOUR = 3_600_000


def step(name: str, status: str = "succeeded", arm: str = "", **outputs: object) -> JobRun:
    return JobRun(
        f"{name}{arm}", "nightly", "live/2026-01-02", name, arm, "", 1, status, NOW - 90_000, NOW,
        "h:1:2", NOW, "", {}, outputs, {}, None, None,
    )  # fmt: skip


def write(night: Result | None = None, nexts: dict[str, int] | None = None, **alerts: int) -> str:
    return strip(night, nexts or {}, alerts, frozenset(), NOW, lambda identity: f"pipelines?run={identity}")


def test_nothing_yet() -> None:
    written = write()
    assert "none yet" in written
    assert "armlift nightly" in written
    assert "not planned" in written
    assert "armlift schedule" in written
    assert "nothing to know of" in written


def test_a_night_says_what_it_came_to() -> None:
    steps = [
        step("retrain", arm="recgpt"),
        step("gate", arm="recgpt", passed=False, reasons=["worse"]),
        step("promote", arm="sasrec", promoted=True),
        step("drift", "failed"),
    ]
    night = Result(step(""), steps)
    assert outcome(night) == "3 of 4 steps done; 1 new version serves; refused: recgpt; failed: drift"
    written = write(night)
    assert '<a href="pipelines?run=">2026-01-02</a>' in written
    assert "in 90.0 s" in written


def test_what_is_due_next_and_what_nobody_does() -> None:
    written = write(nexts={"monitor": NOW + 120_000, "nightly": NOW + 20 * HOUR})
    assert "in 2 minutes" in written
    assert "nightly: " in written
    assert "no scheduler" not in written
    written = write(nexts={"nightly": NOW - 3 * HOUR})
    assert "overdue, 3 hours ago" in written
    assert "no scheduler is running" in written
    assert "no scheduler" not in write(nexts={"nightly": NOW - 1000})


def test_alerts_are_counted_by_kind() -> None:
    written = write(srm=2, stale_model=1200)
    assert "1,202" in written
    assert "2 × split is off, 1,200 × model too old" in written


def test_times_ahead_are_told_in_words() -> None:
    assert [until(NOW + ahead, NOW) for ahead in (-5, 59_000, 60_000, HOUR, 49 * HOUR)] == [
        "now", "now", "in 1 minute", "in 1 hour", "in 2 days",
    ]  # fmt: skip
