"""Told attributes: a unit's earliest value is kept, also over an outage of the database."""

import pytest
from sqlalchemy import Engine, select, text

from armlift.serving.told import ToldAttributes
from armlift.store.tables import unit_attributes


def stored(engine: Engine) -> dict[tuple[str, str, str], str]:
    a = unit_attributes.c
    with engine.connect() as connection:
        rows = connection.execute(select(a.run, a.attribute, a.unit_id, a.value))
        return {(run, attribute, unit): value for run, attribute, unit, value in rows}


def test_what_is_wanted_is_written(engine: Engine) -> None:
    told = ToldAttributes(engine)
    told.start()
    told.add(
        "live", "u1", 5, {"country": "de", "age": 31, "vip": True, "other": "x"}, ("country", "age", "vip")
    )
    told.add("live", "u1", 9, {"country": "fr"}, ("country",))
    told.add("live", "u2", 9, {"country": "c" * 201}, ("country", "age"))
    told.stop()
    assert stored(engine) == {
        ("live", "country", "u1"): "de",
        ("live", "age", "u1"): "31",
        ("live", "vip", "u1"): "true",
    }
    assert (told.waiting, told.dropped) == (0, 1)


def test_an_outage_loses_nothing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    told = ToldAttributes(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE unit_attributes RENAME TO elsewhere"))
    told.add("live", "u1", 5, {"country": "de"}, ("country",))
    told.stop()
    assert told.waiting == 1
    assert "attributes wait to be written" in caplog.text
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO unit_attributes"))
    told.add("live", "u2", 6, {"country": "fr"}, ("country",))
    told.stop()
    assert stored(engine) == {("live", "country", "u1"): "de", ("live", "country", "u2"): "fr"}
    assert told.waiting == 0
