"""What an archive lacks of a report's events is named, and never left out in silence."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from armlift.aggregates import Question
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS
from armlift.errors import InputError
from armlift.events import event_identity
from armlift.spark.completeness import manifests_for
from armlift.store.database import writing
from armlift.store.partitions import Partitions, expire
from armlift.store.sink import insert_new
from armlift.store.tables import feedback, unit_days

FIRST = 19_100
"""2022-04-18."""


def click(engine: Engine, day: int, request_day: int | None = None) -> None:
    """Store a click, and count it as the rollup does."""
    request_day = day if request_day is None else request_day
    name = event_identity(f"{day * DAY_MS:012x}", str(request_day))
    row = (request_day, day, name, "live", day * DAY_MS, "request", "u1", "v", "click", 1.0, 0)
    Partitions(engine).ensure([request_day])
    with writing(engine) as connection:
        insert_new(connection, feedback, [row])
        counted = {"run": "live", "experiment": "demo", "unit_id": "u1", "day": day, "metric": "clicks"}
        counted |= {"side": "post", "arm": "a", "num": 1.0, "den": 0.0, "num_sq": 1.0}
        connection.execute(insert(unit_days).values(counted))


def archived(engine: Engine, folder: Path, before: int) -> Archive:
    found = Archive(str(folder / "archive"))
    archive_closed(engine, found, before * DAY_MS, after=0)
    return found


def days_for(engine: Engine, archive: Archive, day: int) -> int:
    question = Question("live", "demo", False, (day + 1) * DAY_MS - 1, day)
    with engine.connect() as connection:
        return len(manifests_for(archive, connection, question))


def test_what_is_archived_can_be_reported_up_to_its_end(engine: Engine, tmp_path: Path) -> None:
    for day in range(4):
        click(engine, FIRST + day)
    archive = archived(engine, tmp_path, FIRST + 2)
    assert days_for(engine, archive, FIRST + 1) == 2
    with pytest.raises(InputError) as refused:
        days_for(engine, archive, FIRST + 3)
    text = str(refused.value)
    assert "lacks events of run live from 2022-04-20 on" in text
    assert "run `armlift archive`, or ask for --as-of 2022-04-19" in text


def test_late_events_of_an_archived_day_are_missed(engine: Engine, tmp_path: Path) -> None:
    click(engine, FIRST)
    archive = archived(engine, tmp_path, FIRST + 1)
    assert days_for(engine, archive, FIRST) == 1
    click(engine, FIRST + 1, request_day=FIRST)
    with pytest.raises(InputError, match="lacks events of run live from 2022-04-18 on"):
        days_for(engine, archive, FIRST)
    archived(engine, tmp_path, FIRST + 1)
    assert days_for(engine, archive, FIRST + 1) == 1


def test_days_deleted_before_they_were_archived_are_missed(engine: Engine, tmp_path: Path) -> None:
    click(engine, FIRST)
    click(engine, FIRST + 9)
    archive = archived(engine, tmp_path, FIRST + 1)
    expire(engine, FIRST + 1)
    archived(engine, tmp_path, FIRST + 10)
    assert days_for(engine, archive, FIRST + 9) == 2
    click(engine, FIRST + 12)
    expire(engine, FIRST + 13)
    archived(engine, tmp_path, FIRST + 20)
    with pytest.raises(InputError, match=r"of 2022-04-30, and the database has deleted them"):
        days_for(engine, archive, FIRST + 12)
    assert days_for(engine, archive, FIRST + 11) == 2


def test_an_archive_without_the_run(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no day of run live; `armlift archive` writes"):
        days_for(engine, archived(engine, tmp_path, FIRST), FIRST)
