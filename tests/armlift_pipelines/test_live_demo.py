"""The live demo: what is promoted and started, what is left as it is, and simulated users who meet it."""

import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from serving_lab import command, serving, wait_for
from sqlalchemy import Engine, func, select

from armlift import promotions
from armlift.client import Client
from armlift.lab import Lab, init_lab
from armlift.promotions import EVERY_EXPERIMENT
from armlift.simulation.laboratory import Size
from armlift.simulation.played import Play
from armlift.simulation.simulate import Simulation
from armlift.store.database import open_database, reading, writing
from armlift.store.tables import exposures
from armlift_pipelines.live_demo import NAME, start

NOW = time.time_ns() // 1_000_000
DAY = 86_400_000


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


@pytest.fixture
def database(lab: Lab) -> Iterator[Engine]:
    engine = open_database(lab, create=True)
    yield engine
    engine.dispose()


def serves(engine: Engine, arm: str) -> promotions.ModelRow:
    with reading(engine) as connection:
        found = promotions.promoted(connection, arm, EVERY_EXPERIMENT)
    assert found is not None
    return found


def test_it_begins_yesterday_and_once_and_users_live_through_the_day(lab: Lab, database: Engine) -> None:
    started = start(lab, database, now=NOW)
    today = lab.calendar.day(NOW)
    assert (started.state, started.starts) == ("running", (lab.calendar.start_of(today - 1),))
    assert started.experiment.simulation.first_day == date(1970, 1, 1) + timedelta(days=today - 1)
    assert [serves(database, arm).data_until for arm in started.experiment.arms] == [*started.starts] * 2
    assert start(Lab(lab.folder), database, now=NOW + 3 * DAY) == started

    with command(lab, "ingest"), serving(lab) as answering, Client(answering.url) as client:
        played = Play(lab, lab.experiment(NAME), Size(30, 1), client).play()
        assert (played.fallbacks, set(played.versions)) == ({}, {"popularity", "covisitation"})
        client.recommend("me", experiment=NAME)
        asked = select(func.count(exposures.c.unit_id.distinct()), func.max(exposures.c.ts))

        def stored() -> bool:
            with database.connect() as connection:
                units, newest = connection.execute(asked).one()
            return bool(units > 10 and newest >= NOW)

        wait_for(stored)


def test_what_serves_and_what_was_written_stay(lab: Lab, database: Engine) -> None:
    fitted = Simulation(lab, lab.experiment("baselines"), Size(20, 1), database)
    mine = fitted.arms["popularity"].version
    with writing(database) as connection:
        promotions.promote(connection, "popularity", "*", mine, at=NOW, by="me", reason="mine")
    text = (lab.folder / "experiments" / "baselines.yaml").read_text()
    written = text.replace("name: baselines", f"name: {NAME}").replace("name: feed", f"name: {NAME}")
    few = "simulation: {training_users: 30, history_days: 2, videos: 200}\n"
    (lab.folder / "experiments" / f"{NAME}.yaml").write_text(written + few)
    started = start(lab, database, now=NOW)
    assert [*started.experiment.arms] == ["random", "popularity", "covisitation"]
    assert serves(database, "popularity").version == mine
    assert serves(database, "covisitation").state == "promoted"
