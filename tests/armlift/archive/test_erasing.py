"""Units that are erased are in no file any more; everybody else's rows are as they were."""

from collections.abc import Callable
from pathlib import Path

import pytest
from event_rows import FIRST, RUNS, archived, event_files, store_events
from sqlalchemy import Engine

from armlift.archive import writing
from armlift.archive.archive import Archive
from armlift.archive.archived import Archived
from armlift.archive.schema import TABLES

Close = Callable[..., Archived]
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
UNIT = {name: [column.name for column in table.c].index("unit_id") for name, table in TABLES.items()}


def everything(archive: Archive) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    return {(run, table): archived(archive, run, table) for run in archive.runs() for table in TABLES}


@pytest.mark.parametrize("rows", [100_000, 9])
def test_a_unit_is_erased_and_nobody_else(
    filled: Engine, archive: Archive, close: Close, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(writing, "ROWS", rows)
    close()
    before = everything(archive)
    gone = {str(before[RUNS[0], "impressions"][0][6]), "u1ü", "nobody"}
    taken = sum(row[UNIT[table]] in gone for (_, table), rows in before.items() for row in rows)
    done = archive.erase(gone)
    assert (done.rows, done.files > 0) == (taken, True)
    assert everything(archive) == {
        (run, table): [row for row in rows if row[UNIT[table]] not in gone]
        for (run, table), rows in before.items()
    }
    assert event_files(archive) == {
        file.path for run in archive.runs() for one in archive.manifests(run) for file in one.files
    }
    for path in Path(archive.url).rglob("*"):
        assert not path.is_file() or "u1ü".encode() not in path.read_bytes()


def test_files_without_the_unit_are_not_touched(filled: Engine, archive: Archive, close: Close) -> None:
    close()
    before = {path: Path(archive.folder.address(path)).stat().st_mtime_ns for path in archive.folder.sizes()}
    assert archive.erase(["nobody", "zz", ""]) == (0, 0)
    after = {path: Path(archive.folder.address(path)).stat().st_mtime_ns for path in archive.folder.sizes()}
    assert after == before


def test_a_file_of_one_unit_alone_goes_whole(engine: Engine, archive: Archive, close: Close) -> None:
    store_events(engine, "alone", FIRST, shown=3, answered=0, exposed=1, units=1)
    close(run="alone")
    assert archive.erase(["u0"]) == (2, 4)
    found = archive.manifest("alone", FIRST)
    assert found.files == []
    assert found.rows == {"exposures": 0, "impressions": 0, "feedback": 0}
    assert not [path for path in event_files(archive) if "run=alone" in path]
