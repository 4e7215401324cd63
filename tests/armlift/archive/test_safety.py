"""Retention deletes what is archived row for row, and nothing from the first day on that is not."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from event_rows import FIRST, RUNS, archived, event_rows, store_events, stored
from sqlalchemy import Engine

from armlift.archive.archive import Archive
from armlift.archive.archived import Archived
from armlift.archive.safety import expire_archived
from armlift.archive.schema import TABLES
from armlift.store.database import writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback

Close = Callable[..., Archived]
NONE = {"impressions": 0, "feedback": 0}
A_DAY = {"impressions": 2 * 60, "feedback": 2 * 40}


def test_what_is_not_archived_stays(filled: Engine, archive: Archive) -> None:
    assert expire_archived(filled, archive, FIRST + 2) == (NONE, 2)
    assert len(stored(filled, "live", "impressions")) == 180


def test_what_is_archived_goes_once(close: Close, filled: Engine, archive: Archive) -> None:
    before = {(run, table): stored(filled, run, table) for run in RUNS for table in TABLES}
    close()
    assert expire_archived(filled, archive, FIRST + 1) == (A_DAY, 0)
    assert expire_archived(filled, archive, FIRST + 3) == ({"impressions": 240, "feedback": 160}, 0)
    assert expire_archived(filled, archive, FIRST + 3) == (NONE, 0)
    assert stored(filled, "live", "feedback") == []
    assert {(run, table): archived(archive, run, table) for run in RUNS for table in TABLES} == before


def test_one_run_that_is_not_archived_holds_its_day_and_later_ones(
    close: Close, filled: Engine, archive: Archive
) -> None:
    close(until=FIRST + 1)
    close(run="live")
    assert expire_archived(filled, archive, FIRST + 3) == (A_DAY, 2)
    close()
    assert expire_archived(filled, archive, FIRST + 3) == ({"impressions": 240, "feedback": 160}, 0)


def test_late_events_hold_their_day(close: Close, filled: Engine, archive: Archive) -> None:
    close()
    store_events(filled, "live", FIRST + 1, shown=0, answered=1, exposed=0, seed=1)
    assert expire_archived(filled, archive, FIRST + 3) == (A_DAY, 2)
    close()
    assert expire_archived(filled, archive, FIRST + 3) == ({"impressions": 240, "feedback": 161}, 0)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_damaged_file_holds_its_day(close: Close, filled: Engine, archive: Archive) -> None:
    close()
    (file,) = archive.manifest("live", FIRST).tables["impressions"]
    Path(archive.folder.address(file.path)).unlink()
    assert expire_archived(filled, archive, FIRST + 3) == (NONE, 3)


def test_events_that_come_while_days_are_deleted_are_seen(
    close: Close, filled: Engine, archive: Archive
) -> None:
    close()
    late = event_rows(feedback, "live", FIRST + 1, 1, seed=1)
    with ThreadPoolExecutor(1) as pool:
        with writing(filled) as connection:
            insert_new(connection, feedback, late)
            expiring = pool.submit(expire_archived, filled, archive, FIRST + 3)
            time.sleep(0.5)
            assert not expiring.done(), "it waits for who writes"
        assert expiring.result() == (A_DAY, 2)
    assert len(stored(filled, "live", "feedback")) == 81
