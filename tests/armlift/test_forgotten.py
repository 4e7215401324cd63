"""Forgotten units are known by their hash, in every transaction that writes what units did."""

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, func, select

from armlift import forgotten
from armlift.batch import Batch, write
from armlift.days import Calendar
from armlift.erasure import erase
from armlift.events import Event, Exposure, Feedback, exposure_identity, feedback_identity, request_identity
from armlift.forgotten import Forgotten
from armlift.naming import names_in
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.partitions import Partitions

NOW = time.time_ns() // 1_000_000
UTC = Calendar("UTC")


def clicked(unit: str, ts: int, requested: int | None = None) -> Feedback:
    asked = request_identity(ts if requested is None else requested, f"{unit}{ts}")
    return Feedback(feedback_identity(asked, "i", "click", 0), "live", ts, asked, unit, "i", "click", 1.0)


def met(unit: str, ts: int) -> Exposure:
    return Exposure(exposure_identity(ts, "live", unit, "e", "a"), "live", ts, unit, "e", 0, 0, "a", "v")


def record(engine: Engine, unit: str, at: int) -> None:
    with writing(engine) as connection:
        secret = forgotten.secret_of(connection) or forgotten.new_secret()
        forgotten.write(connection, forgotten.records_of([unit], secret=secret, at=at, by="me"))


def stored(connection: Connection) -> int:
    return sum(
        connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (tables.exposures, tables.feedback, tables.touched_cells)
    )


def test_the_last_erasure_of_an_id_counts(engine: Engine) -> None:
    known = Forgotten()
    with engine.connect() as connection:
        assert not known.refresh(connection)
    for at in (NOW, NOW + 9, NOW + 5):
        record(engine, "u", at)
    with engine.connect() as connection:
        known.refresh(connection)
        assert known.of("v") is None
        assert known.of("u") == forgotten.Erased(2, NOW + 9)
        assert known.among(["u", "v"]) == {"u": (2, NOW + 9)}
        assert (known.covers("u", NOW + 9), known.covers("u", NOW + 10), known.covers("v", 0)) == (
            True,
            False,
            False,
        )
        assert forgotten.erased_since(connection, NOW + 5) == 2
    record(engine, "ü", NOW)
    with engine.connect() as connection:
        assert known.refresh(connection).covers("ü", NOW)


def test_what_is_from_before_is_dropped_by_its_own_time_or_its_requests(engine: Engine) -> None:
    record(engine, "u", NOW)
    events: list[Event] = [
        clicked("u", NOW),
        clicked("u", NOW + 9, NOW - 9),
        met("u", NOW),
        clicked("u", NOW + 1),
        met("v", NOW),
    ]
    batch = Batch(UTC)
    batch.add(events)
    Partitions(engine).ensure(batch.request_days)
    with writing(engine) as connection:
        assert write(connection, batch) == 2
        assert batch.dropped == {1: 3}
        assert forgotten.dropped_events(connection) == 3
        rows = connection.execute(select(tables.feedback.c.unit_id, tables.feedback.c.ts)).all()
    assert rows == [("u", NOW + 1)]


@pytest.fixture
def slow(engine: Engine) -> Iterator[tuple[Engine, threading.Event]]:
    """Give a database into which a batch is being written until the event is set."""
    batch, go_on, there = Batch(UTC), threading.Event(), threading.Event()
    batch.add([met("u", NOW - 5), clicked("u", NOW - 4)])
    Partitions(engine).ensure(batch.request_days)

    def run() -> None:
        with writing(engine) as connection:
            write(connection, batch)
            there.set()
            go_on.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert there.wait(20)
    yield engine, go_on
    go_on.set()
    thread.join()


def test_no_unit_comes_in_while_it_is_forgotten(slow: tuple[Engine, threading.Event]) -> None:
    """A batch that has looked already, and is stored later, is waited for, and then erased."""
    engine, go_on = slow
    done = threading.Event()

    def forget() -> None:
        record(engine, "u", NOW)
        erase(engine, ["u"], UTC)
        done.set()

    thread = threading.Thread(target=forget)
    thread.start()
    assert not done.wait(0.5)
    go_on.set()
    assert done.wait(30)
    thread.join()
    with engine.connect() as connection:
        assert stored(connection) == 0


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b'{"unit_id": "u1", "more": [{"user": "u2"}], "value": 7}', {"u1", "u2"}),
        (b'{"unit_id": 7}', {"7"}),
        (b'{"a": "\\u00fc"}', {"ü"}),
        (b'{"unit_id": "u 1", broken', {"u 1"}),
        (b"GET /u1?user=u2 \xff", {"u2"}),
    ],
)
def test_bytes_name_units(raw: bytes, named: set[str]) -> None:
    assert named <= names_in(raw)
    assert "u" not in names_in(raw)
