"""What a process remembers of a forgotten unit goes at once, and does not come back by what is told late."""

import time

import pytest
from sqlalchemy import Engine, delete

from armlift import forgotten
from armlift.batch import Batch, write
from armlift.days import Calendar
from armlift.events import (
    Alias,
    Event,
    Exposure,
    Feedback,
    alias_identity,
    exposure_identity,
    feedback_identity,
    request_identity,
)
from armlift.serving.forgetting import Forgetting
from armlift.serving.units import Unit, Units
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.partitions import Partitions

NOW = time.time_ns() // 1_000_000


def clicked(unit: str, ts: int, item: str) -> Feedback:
    asked = request_identity(ts, f"{unit}{ts}{item}")
    return Feedback(feedback_identity(asked, item, "click", 0), "live", ts, asked, unit, item, "click", 1.0)


def met(unit: str, ts: int) -> Exposure:
    return Exposure(exposure_identity(ts, "live", unit, "e", "a"), "live", ts, unit, "e", 0, 0, "a", "v")


def alias(anonymous: str, unit: str, ts: int) -> Alias:
    return Alias(alias_identity(ts, "live", anonymous, unit), "live", ts, unit, anonymous)


def store(engine: Engine, *events: Event) -> None:
    batch = Batch(Calendar("UTC"))
    batch.add(events)
    Partitions(engine).ensure(batch.request_days)
    with writing(engine) as connection:
        write(connection, batch)


def record(engine: Engine, *units: str, at: int = NOW) -> list[forgotten.Record]:
    with writing(engine) as connection:
        secret = forgotten.secret_of(connection) or forgotten.new_secret()
        records = forgotten.records_of(units, secret=secret, at=at, by="me")
        forgotten.write(connection, records)
    return records


def finish(engine: Engine, records: list[forgotten.Record]) -> None:
    with writing(engine) as connection:
        connection.execute(delete(tables.feedback).where(tables.feedback.c.unit_id == "u"))
        connection.execute(delete(tables.exposures).where(tables.exposures.c.unit_id == "u"))
        forgotten.finish(connection, records, at=NOW + 1, counts={})


def seen(units: Units, unit: str) -> tuple[list[str], list[str]]:
    (found,) = units.read([("live", unit)])
    return [one.item for one in found.history], [*found.exposed]


@pytest.fixture
def units(engine: Engine) -> Units:
    """Give units of which one is known from the database and from what was told."""
    store(engine, clicked("u", NOW - 9, "stored"), met("u", NOW - 9), clicked("v", NOW - 9, "other"))
    units = Units(engine, limit=9)
    units.apply([clicked("u", NOW - 5, "told"), alias("w", "u", NOW - 4), clicked("w", NOW - 3, "merged")])
    assert seen(units, "w") == (["stored", "told", "merged"], ["e"])
    assert seen(units, "v") == (["other"], [])
    return units


def test_memory_follows_what_is_forgotten(engine: Engine, units: Units) -> None:
    reads = units.figures.reads
    forgetting = Forgetting(engine, units)
    forgetting.refresh()
    assert seen(units, "u")[0] == ["stored", "told", "merged"]
    records = record(engine, "u", "w")
    forgetting.refresh()
    assert units.known("live", "u") is None
    # Until its rows are gone they are read again, and forgotten again.
    assert seen(units, "u") == (["stored"], ["e"])
    finish(engine, records)
    forgetting.refresh()
    assert seen(units, "u") == ([], [])
    assert seen(units, "w") == ([], [])
    assert units.figures.units == 3
    assert seen(units, "v") == (["other"], [])
    assert units.figures.reads == reads + 3, "others stay in memory"


def test_what_is_told_late_is_left_out(engine: Engine, units: Units) -> None:
    with Forgetting(engine, units, check_every=0.02):
        finish(engine, record(engine, "u", "w"))
        deadline = time.monotonic() + 20
        while seen(units, "u") != ([], []):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        units.apply([clicked("u", NOW - 5, "told"), alias("w", "u", NOW - 4), met("u", NOW - 1)])
        units.apply([clicked("v", NOW - 5, "told")])
        assert seen(units, "u") == ([], [])
        assert seen(units, "v")[0] == ["other", "told"]
        units.apply([clicked("u", NOW + 5, "new"), met("u", NOW + 5)])
        assert seen(units, "u") == (["new"], ["e"])


def test_a_new_start_keeps_to_it(engine: Engine) -> None:
    finish(engine, record(engine, "u"))
    units = Units(engine, limit=9)
    with Forgetting(engine, units):
        units.apply([clicked("u", NOW - 5, "told")])
        assert units.read([("live", "u")]) == [Unit((), {}, {}, "u")]


def test_a_database_that_is_away_is_said(units: Units, engine: Engine) -> None:
    forgetting = Forgetting(engine, units)
    with engine.begin() as connection:
        tables.forgotten.drop(connection)
    forgetting.refresh()
    assert "forgotten" in (forgetting.failure or "")
    with engine.begin() as connection:
        tables.forgotten.create(connection)
    forgetting.refresh()
    assert forgetting.failure is None
