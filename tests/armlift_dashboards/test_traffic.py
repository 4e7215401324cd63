"""What the page Traffic reads, on both databases."""

from typing import Any

import pytest
from sqlalchemy import Engine, insert

from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.runs import LIVE, Run, begin
from armlift.snapshots import Snapshot, keep
from armlift.store.database import writing
from armlift.store.tables import arrivals
from armlift_dashboards import traffic
from armlift_dashboards.series import Arrived
from armlift_dashboards.traffic import Events

CALENDAR = Calendar("UTC")
DAY = 20_455
NOON = CALENDAR.start_of(DAY) + 12 * 3_600_000
CHECKS = [
    {"name": "srm", "status": "ok", "value": 0.3, "meaning": "as planned"},
    {"name": "srm_always_valid", "status": "ok", "value": 1.0, "meaning": "as planned"},
    {"name": "event_loss", "status": "ok", "value": 0.0, "meaning": "none"},
]


def experiment(**other: Any) -> dict[str, Any]:
    values = {
        "name": "demo", "arms": {"a": 1, "b": 3}, "control": "a", "metrics": {"primary": ["clicks"]}, **other,
    }  # fmt: skip
    return Experiment.model_validate(values).model_dump(mode="json")


def run(name: str = "live", of: str = "demo", mode: str = LIVE) -> Run:
    definition = {"experiment": experiment(name=of), "metrics": {}}
    return Run(name, 0, of, mode, False, 10, 0, "running", False, definition, {}, {}, {}, {})


def store(engine: Engine, *runs: Run) -> None:
    with writing(engine) as connection:
        for one in runs:
            begin(connection, one)


def arrive(engine: Engine, run: str, day: int, events: int, late: int = 0, partition: int = 0) -> None:
    with writing(engine) as connection:
        values = {"stream_id": "s", "partition": partition, "run": run, "day": day}
        connection.execute(insert(arrivals).values(**values, events=events, late=late, watermark=0))


def take(engine: Engine, identity: str, created: int, run: str = "live", **answers: Any) -> None:
    aggregates = {"run": {"definition": {"experiment": experiment()}}, "timezone": "UTC", "answers": answers}
    made = Snapshot(
        identity, run, "demo", NOON, created, "1", "d", "SELECT 1", aggregates, {"checks": CHECKS}
    )
    with writing(engine) as connection:
        keep(connection, made)


def test_nothing_yet(engine: Engine) -> None:
    with engine.connect() as connection:
        assert traffic.events(connection, CALENDAR, NOON) == []
        assert traffic.experiments(connection) == []
        assert traffic.runs_of(connection, "demo") == []
        assert traffic.split_of(connection, "none") is None
        assert traffic.labels(connection) == {}


def test_events_are_counted_by_day_and_run(engine: Engine) -> None:
    store(engine, run(), run(of="other"), run("0123456789abcdef", "past", "simulated"))
    arrive(engine, "live", DAY, 500, late=20)
    arrive(engine, "live", DAY, 700, late=4, partition=1)
    arrive(engine, "live", DAY - 1, 2400)
    arrive(engine, "0123456789abcdef", DAY - 1, 48, late=48)
    with engine.connect() as connection:
        found = traffic.events(connection, CALENDAR, NOON)
        labels = traffic.labels(connection)
    assert found == [
        Events("live", DAY, 1200, 24, 100.0),
        Events("0123456789abcdef", DAY - 1, 48, None, 2.0),
        Events("live", DAY - 1, 2400, 0, 100.0),
    ]
    assert labels == {"live": "live (demo, other)", "0123456789abcdef": "0123456789ab (past)"}


def test_only_the_newest_days_are_read_and_a_begun_hour_is_whole(engine: Engine) -> None:
    for day in range(DAY - 40, DAY + 1):
        arrive(engine, "live", day, 10)
    with engine.connect() as connection:
        found = traffic.events(connection, CALENDAR, CALENDAR.start_of(DAY) + 60_000)
    assert len(found) == traffic.DAYS
    assert (found[0].per_hour, found[-1].day) == (10.0, DAY - traffic.DAYS + 1)


def test_a_day_has_the_hours_it_has(engine: Engine) -> None:
    calendar = Calendar("Europe/Berlin")
    spring = calendar.day(calendar.parse("2026-03-29"))
    arrive(engine, "live", spring, 2300)
    with engine.connect() as connection:
        (found,) = traffic.events(connection, calendar, calendar.start_of(spring + 5))
    assert found.per_hour == 100.0


def test_a_few_runs_are_told_apart() -> None:
    found = [Events(f"r{number % 9}", DAY, 1, None, 1.0) for number in range(30)]
    assert traffic.grouped(found) == ["r0", "r1", "r2", "r3", "r4", "r5"]


def test_runs_have_their_newest_snapshot(engine: Engine) -> None:
    store(engine, run("first", mode="simulated"), run(), run(of="other"))
    take(engine, "s1", NOON)
    take(engine, "s2", NOON + 5)
    with engine.connect() as connection:
        assert traffic.experiments(connection) == ["other", "demo"]
        found = traffic.runs_of(connection, "demo")
    assert [(one.run, one.mode, one.snapshot, one.as_of) for one in found] == [
        ("live", "live", "s2", NOON),
        ("first", "simulated", None, None),
    ]


def test_a_snapshot_tells_how_units_were_split(engine: Engine) -> None:
    assigned = [["a", 0, 0, 30], ["b", 0, 0, 70]]
    take(engine, "s1", NOON, assigned=assigned, arrivals_by_arm=[["b", DAY, 40], ["a", DAY - 1, 30]])
    with engine.connect() as connection:
        found = traffic.split_of(connection, "s1")
    assert found is not None
    assert [(one.arm, one.units, one.expected) for one in found.arms] == [("a", 30, 25.0), ("b", 70, 75.0)]
    assert (found.units, [one.name for one in found.checks]) == (100, ["srm", "srm_always_valid"])
    assert found.days == [Arrived("a", DAY - 1, 30), Arrived("b", DAY, 40)]


def test_units_are_expected_by_the_weights_they_met() -> None:
    phases = [{"traffic": 1.0}, {"start": "2026-01-02", "traffic": 1.0, "weights": {"a": 1, "b": 1}}]
    assigned = [["a", 0, 0, 30], ["b", 0, 0, 70], ["a", 1, 1, 90], ["b", 1, 1, 110]]
    found = traffic.shares(experiment(phases=phases), {"assigned": assigned})
    assert [(one.units, one.expected) for one in found] == [(120, 125.0), (180, 175.0)]


def test_a_snapshot_of_nobody_and_one_of_an_older_version() -> None:
    assert [one.units for one in traffic.shares(experiment(), {"assigned": []})] == [0, 0]
    assert traffic.assignments({"arrivals": [[DAY, 3]]}) == []


@pytest.mark.parametrize(("day", "text"), [(0, "01 Jan 1970"), (DAY, "02 Jan 2026")])
def test_days_are_written(day: int, text: str) -> None:
    assert traffic.day_text(day) == text
