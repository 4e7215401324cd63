"""Shares of fallbacks: of the units that met the arm, over the hour, the day and the week of a look."""

from pathlib import Path

import pytest
from guarded import HOUR, START, make_lab, start_all
from sqlalchemy import Engine, insert

from armlift import running
from armlift.batch import Batch
from armlift.days import DAY_MS, utc_day
from armlift.events import Exposure, Impression, exposure_identity, impression_identity, request_identity
from armlift.fallbacks import Share, excess
from armlift.lab import Lab
from armlift.running import RunningExperiment
from armlift.store.database import reading, writing

DAY = -(-START // DAY_MS) * DAY_MS + 10 * DAY_MS
"""The first moment of a UTC day some days after the start."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path / "lab")


@pytest.fixture
def one(lab: Lab, engine: Engine) -> RunningExperiment:
    start_all(lab, engine)
    with reading(engine) as connection:
        return running.running(connection)[0]


def visits(
    lab: Lab, engine: Engine, arm: str, ts: int, n: int, failed: int, *, first: int = 0, exposed: bool = True
) -> None:
    """Store a visit of n units at a time; the first so many are answered by fallbacks."""
    batch = Batch(lab.calendar)
    for number in range(first, first + n):
        unit, request = f"{arm}{number}", request_identity(ts, f"{arm}{number}|{ts}")
        if exposed:
            identity = exposure_identity(ts, "live", unit, "one", arm)
            batch.add([Exposure(identity, "live", ts, unit, "one", 0, 0, arm, "v")])
        what = (request, unit, arm, "v", "i", 0, 0, None, None, number - first < failed)
        batch.add([Impression(impression_identity(request, "i"), "live", ts, *what)])
    with writing(engine) as connection:
        for table, rows in batch.rows.items():
            if rows:
                columns = [column.name for column in table.c]
                connection.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in rows])


def found(engine: Engine, one: RunningExperiment, as_of: int, since: int = START) -> list[Share]:
    with reading(engine) as connection:
        return excess(connection, one, as_of, since=since, allowed=0.05, alpha=0.05, minimum_units=100)


def test_a_storm_is_found_within_its_hour(lab: Lab, engine: Engine, one: RunningExperiment) -> None:
    visits(lab, engine, "new", DAY, 3000, 0)
    visits(lab, engine, "old", DAY + HOUR, 200, 4)
    visits(lab, engine, "new", DAY + HOUR, 99, 99, first=5000)
    assert found(engine, one, DAY + HOUR + 1) == [], "too few units"
    visits(lab, engine, "new", DAY + HOUR + 2, 1, 1, first=6000)
    (share,) = found(engine, one, DAY + HOUR + 2)
    assert share == Share("new", 1.0, 1.0, DAY + HOUR, 100, 100)
    assert found(engine, one, DAY + HOUR + 1) == [], "what is later does not count"


def test_what_is_allowed_is_none(lab: Lab, engine: Engine, one: RunningExperiment) -> None:
    visits(lab, engine, "new", DAY, 1000, 60)
    assert found(engine, one, DAY + 1) == [], "6 % of 1,000 may be 5 %"
    visits(lab, engine, "new", DAY + 2, 3000, 600, first=2000)
    (share,) = found(engine, one, DAY + 2)
    assert share.value == pytest.approx(0.165)
    assert share.units == share.impressions == 4000
    assert 0.05 < share.low < 0.165


def test_days_of_few_units_are_put_together(lab: Lab, engine: Engine, one: RunningExperiment) -> None:
    # The week, from 1970-01-01, that begins on a Thursday.
    week = -(-DAY // (7 * DAY_MS)) * 7 * DAY_MS
    for day in range(3):
        visits(lab, engine, "new", week + day * DAY_MS, 60, 40, first=100 * day)
        visits(lab, engine, "old", week + day * DAY_MS, 200, 0, first=300 * day)
    (share,) = found(engine, one, week + 2 * DAY_MS + 1)
    assert (share.arm, share.units, share.since) == ("new", 180, week)
    assert found(engine, one, week + 2 * DAY_MS + 1, since=week + 2 * DAY_MS) == [], "people went on since"


def test_units_that_did_not_meet_the_arm_do_not_count(
    lab: Lab, engine: Engine, one: RunningExperiment
) -> None:
    visits(lab, engine, "old", DAY, 500, 500, exposed=False)
    assert found(engine, one, DAY + 1) == []
    visits(lab, engine, "old", DAY + 5, 500, 0)
    assert found(engine, one, DAY + 5) == [], "nor what they were shown before"
    assert utc_day(DAY) * DAY_MS == DAY
