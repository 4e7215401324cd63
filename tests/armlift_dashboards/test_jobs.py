"""What the page Pipelines reads, on both databases."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from armlift.errors import InputError
from armlift_dashboards import jobs
from armlift_dashboards.jobs import Choice, Spent

NOW = 1_767_330_000_000


@pytest.fixture
def full(engine: Engine, happened: Callable[[Engine, int], None]) -> Engine:
    happened(engine, NOW)
    return engine


def test_nothing_yet(engine: Engine) -> None:
    assert jobs.listing(engine, Choice(), NOW) == ([], None)
    assert jobs.last_night(engine) is None
    assert jobs.nights_of(engine) == []
    assert jobs.spent(engine, "live") == []


def test_looks_of_the_monitor_are_one_line_unless_it_is_chosen(full: Engine) -> None:
    found = jobs.listing(full, Choice(), NOW)
    assert [(one.job, one.status) for one in found.runs] == [
        ("nightly", "failed"), ("export", "running"), ("nightly", "succeeded"), ("nightly", "skipped"),
    ]  # fmt: skip
    assert found.looks is not None
    assert (found.looks.looks, found.looks.failed) == (2, 1)
    assert found.looks.newest.subject == "2026-01-02T04:55+00:00"
    chosen = jobs.listing(full, Choice("monitor", "failed"), NOW)
    assert ([one.error for one in chosen.runs], chosen.looks) == (["away"], None)
    assert len(jobs.listing(full, Choice(limit=2), NOW).runs) == 2
    assert jobs.listing(full, Choice("unheard of"), NOW).runs == []


def test_the_last_night_has_the_newest_attempt_of_each_step(full: Engine) -> None:
    night = jobs.last_night(full)
    assert night is not None
    assert night.run.subject == "live/2026-01-02"
    assert [(one.step, one.attempt) for one in night.steps] == [
        ("build_dataset", 1), ("retrain", 2), ("gate", 1), ("drift", 1), ("snapshot", 1),
    ]  # fmt: skip
    assert [one.arm for one in night.refused] == ["recgpt"]
    assert [one.step for one in night.failed] == ["snapshot"]
    assert jobs.night_of(night.run) == ("live", "2026-01-02")


def test_a_run_is_opened_by_its_id(full: Engine) -> None:
    night = jobs.opened(full, "a" * 32)
    assert [(one.step, one.attempt) for one in night.steps][:3] == [
        ("build_dataset", 1), ("retrain", 1), ("retrain", 2),
    ]  # fmt: skip
    assert night.night is None
    step = jobs.opened(full, "b" * 6)
    assert (step.run.attempt, step.steps) == (2, [])
    assert step.night is not None
    assert step.night.id == "a" * 32
    for wrong in ("b" * 5, "", "<script>", "%"):
        with pytest.raises(InputError, match="no job has such a run"):
            jobs.opened(full, wrong)


def test_seconds_are_added_up_by_part(full: Engine) -> None:
    assert jobs.nights_of(full) == ["live"]
    assert jobs.spent(full, "live") == [
        Spent("2026-01-01", "report", 20.0),
        Spent("2026-01-01", "train", 60.0),
        Spent("2026-01-02", "data", 90.0),
        Spent("2026-01-02", "gate", 90.0),
        Spent("2026-01-02", "report", 180.0),
        Spent("2026-01-02", "train", 180.0),
    ]
    found = [*jobs.spent(full, "live"), Spent("2026-01-02", "a new one", 1.0)]
    assert jobs.parts_of(found) == ["data", "train", "gate", "report", "a new one"]
    assert jobs.spent(full, "li") == []
    assert jobs.spent(full, "%") == []


def test_drift_is_told_in_words(full: Engine) -> None:
    night = jobs.last_night(full)
    assert night is not None
    found = jobs.drift_of(night)
    assert found is not None
    assert jobs.in_words(found) == [
        "kinds of feedback, PSI: 0.3, where chance alone makes 0.01 and seldom more than 0.02: a large drift."
    ]
    assert [one.status for one in jobs.shifted(found)] == ["fail", "ok", "no_data"]
    assert jobs.drift_of(night._replace(steps=[])) is None
