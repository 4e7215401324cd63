"""Fixtures of the archive: a database with two runs of some days, and an archive of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from event_rows import FIRST, NOW, RUNS, store_events
from sqlalchemy import Engine

from armlift.archive.archive import Archive
from armlift.archive.archived import Archived
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Give a database with three days of two runs, one of them without exposures."""
    for run in RUNS:
        for day in range(FIRST, FIRST + 3):
            exposed = 0 if run == "live" and day == FIRST + 1 else 20
            store_events(engine, run, day, shown=60, answered=40, exposed=exposed)
    return engine


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Give an archive in a folder that is not there yet."""
    return Archive(str(tmp_path / "archive"))


@pytest.fixture
def close(filled: Engine, archive: Archive) -> Callable[..., Archived]:
    """Give what archives the closed days of the database."""

    def do(**given: Any) -> Archived:
        return archive_closed(filled, archive, NOW, **{"after": 3 * DAY_MS, **given})

    return do
