"""Closed days are archived as the database has them, each once, on SQLite and PostgreSQL."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import polars as pl
import pyarrow.parquet as pq
import pytest
from event_rows import FIRST, NOW, RUNS, archived, assert_equal, event_files, store_events, stored
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy import Engine, delete

from armlift.archive import writing as file_writing
from armlift.archive.archive import Archive
from armlift.archive.archived import Archived
from armlift.archive.closed import archive_closed
from armlift.archive.schema import TABLES
from armlift.days import DAY_MS
from armlift.errors import InputError, StoreError
from armlift.store.database import writing
from armlift.store.partitions import expire
from armlift.store.tables import exposures, impressions

Close = Callable[..., Archived]
sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def times(archive: Archive) -> dict[str, int]:
    """Give when each file was written, and which file it is."""
    return {path: Path(archive.folder.address(path)).stat().st_mtime_ns for path in archive.folder.sizes()}


def spoil(archive: Archive, path: str, how: str) -> None:
    """Damage a file of a local archive."""
    place = Path(archive.folder.address(path))
    content = place.read_bytes()
    if how == "gone":
        place.unlink()
    else:
        cut = content[:-1] if how == "cut" else content[:20] + bytes([content[20] ^ 1]) + content[21:]
        place.write_bytes(cut)


def test_an_archive_has_every_row_and_column(close: Close, filled: Engine, archive: Archive) -> None:
    done = close()
    assert (len(done.written), done.skipped, done.sound) == (6, 0, True)
    assert done.rows == 5 * 120 + 100
    assert archive.runs() == sorted(RUNS)
    assert archive.days("live") == [FIRST, FIRST + 1, FIRST + 2]
    assert_equal(filled, archive)
    shown = archived(archive, RUNS[1], "impressions")
    assert {row[-2] is None for row in shown} == {True, False}, "some propensities are null"
    names = {row[6] for row in shown}
    assert any("用户" in name for name in names)


@sqlite
def test_files_lie_by_table_run_day_and_experiment(close: Close, archive: Archive) -> None:
    close()
    run = "run=a%2Fb%20c%2525%3D%C3%BC%2A%5B1%5D/day=2024-10-04"
    paths = [path for path in archive.folder.sizes() if run in path]
    folders = sorted(path.rpartition("/")[0] for path in paths)
    assert folders == [
        f"exposures/{run}/experiment=demo",
        f"exposures/{run}/experiment=other",
        f"feedback/{run}",
        f"impressions/{run}",
        f"manifests/{run.partition('/')[0]}",
    ]
    for table in TABLES:
        for file in archive.files(RUNS[1], table):
            name = pq.read_schema(file).metadata
            assert (name[b"armlift.table"].decode(), name[b"armlift.schema"]) == (table, b"1")
            assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert archive.files("live", "feedback", until=FIRST + 1) == archive.files("live", "feedback")[:1]
    assert [one.day.isoformat() for one in archive.manifests("live", until=FIRST + 2)] == [
        "2024-10-04",
        "2024-10-05",
    ]


@sqlite
def test_polars_reads_the_files_of_a_run_as_they_are_named(close: Close, archive: Archive) -> None:
    close()
    found = pl.scan_parquet(archive.files(RUNS[1], "impressions")).collect()
    assert found.height == 180
    assert found.schema["ts"] == pl.Int64
    assert found.schema["position"] == pl.Int32
    assert found.schema["propensity"] == pl.Float64
    assert found.schema["fallback"] == pl.Boolean
    assert found.columns == [column.name for column in impressions.c]


@pytest.mark.parametrize("url", ["memory://{name}/archive", "file://{folder}/archive/"])
@sqlite
def test_any_store_of_fsspec_holds_an_archive(filled: Engine, tmp_path: Path, url: str) -> None:
    archive = Archive(url.format(name=uuid4().hex, folder=tmp_path))
    assert archive.runs() == []
    first = archive_closed(filled, archive, NOW, after=0)
    assert_equal(filled, archive)
    store_events(filled, "live", FIRST, shown=1, answered=0, exposed=0, seed=1)
    again = archive_closed(filled, archive, NOW, after=0)
    assert (len(first.written), len(again.written), again.skipped) == (6, 1, 5)
    assert_equal(filled, archive)
    MemoryFileSystem.store.clear()


def test_many_row_groups_are_one_sorted_file(
    close: Close, filled: Engine, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_writing, "ROWS", 7)
    told: list[tuple[int, int]] = []
    close(tell=lambda done, total: told.append((done, total)))
    assert_equal(filled, archive)
    (path, *_) = archive.files("live", "impressions")
    assert pq.read_metadata(path).num_row_groups == 9
    assert told[-1] == (700, 700)
    assert sorted(told) == told


def test_what_did_not_change_is_not_touched(close: Close, archive: Archive) -> None:
    close()
    before = times(archive)
    again = close()
    assert (again.written, again.skipped, again.removed) == ([], 6, 0)
    assert times(archive) == before


def test_late_events_write_their_day_and_table_anew(close: Close, filled: Engine, archive: Archive) -> None:
    close()
    before = times(archive)
    (old,) = archive.manifest("live", FIRST).tables["feedback"]
    store_events(filled, "live", FIRST, shown=0, answered=3, exposed=0, seed=1)
    (again,) = close().written
    assert (again.run, again.day, again.reason, again.rows) == (
        "live",
        "2024-10-04",
        "late events",
        {"feedback": 43},
    )
    after = times(archive)
    (new,) = archive.manifest("live", FIRST).tables["feedback"]
    manifest = "manifests/run=live/day=2024-10-04.json"
    assert after.keys() - before.keys() == {new.path}
    assert before.keys() - after.keys() == {old.path}
    assert {path for path in before.keys() & after.keys() if before[path] != after[path]} == {manifest}
    assert_equal(filled, archive)


def test_days_of_one_run_or_before_a_day_or_young_ones(
    close: Close, filled: Engine, archive: Archive
) -> None:
    assert [one.day for one in close(run="live", until=FIRST + 1).written] == ["2024-10-04"]
    assert archive.runs() == ["live"]
    done = close(after=8 * DAY_MS)
    assert (done.before, archive.days("live")) == ("2024-10-06", [FIRST, FIRST + 1])
    assert (len(done.written), done.skipped) == (3, 1)
    # The day ended exactly `after` ago, or a millisecond less.
    assert archive_closed(filled, archive, NOW - 1, after=7 * DAY_MS).before == "2024-10-07"
    assert archive_closed(filled, archive, NOW - 2, after=7 * DAY_MS).before == "2024-10-06"


def test_rows_that_the_database_lost_stay_archived(close: Close, filled: Engine, archive: Archive) -> None:
    close()
    before = times(archive)
    with writing(filled) as connection:
        connection.execute(
            delete(impressions).where(impressions.c.run == "live", impressions.c.request_day == FIRST)
        )
    done = close()
    assert not done.sound
    assert [tuple(one) for one in done.short] == [("live", "2024-10-04", "impressions", 0, 60)]
    assert done.complaints() == [
        "run live, 2024-10-04: the database has 0 rows of impressions, the archive 60; "
        "the archive was left as it is"
    ]
    assert times(archive) == before


def test_expired_days_stay_archived(close: Close, filled: Engine, archive: Archive) -> None:
    kept = {table: stored(filled, "live", table) for table in TABLES}
    close()
    before = times(archive)
    expire(filled, FIRST + 2)
    done = close()
    assert (done.written, done.sound) == ([], True)
    assert times(archive) == before
    assert {table: archived(archive, "live", table) for table in TABLES} == kept


def test_exposures_outlive_days_that_were_never_archived(
    close: Close, filled: Engine, archive: Archive
) -> None:
    expire(filled, FIRST + 1)
    done = close()
    assert done.sound
    assert archive.manifest("live", FIRST).rows == {"exposures": 20}
    assert archived(archive, "live", "exposures") == stored(filled, "live", "exposures")
    assert close().written == []


@pytest.mark.parametrize(("how", "deep"), [("gone", False), ("cut", False), ("flipped", True)])
@sqlite
def test_a_damaged_file_is_found_and_mended(
    close: Close, filled: Engine, archive: Archive, how: str, deep: bool
) -> None:
    close()
    (file,) = archive.manifest("live", FIRST).tables["feedback"]
    spoil(archive, file.path, how)
    assert bool(close().written) is not deep, "content is read only where it is asked for"
    if deep:
        (mended,) = close(deep=True).written
        assert (mended.reason, mended.rows) == ("damaged", {"feedback": 40})
    assert_equal(filled, archive)
    assert close(deep=True).written == []


@sqlite
def test_a_damaged_file_whose_rows_expired_is_lost(close: Close, filled: Engine, archive: Archive) -> None:
    close()
    (file,) = archive.manifest("live", FIRST).tables["feedback"]
    expire(filled, FIRST + 1)
    spoil(archive, file.path, "cut")
    done = close()
    address = archive.folder.address(file.path)
    assert (done.written, done.lost, done.sound) == ([], [address], False)
    assert done.complaints() == [f"{address}: damaged, and the database no longer has its rows"]


@sqlite  # PostgreSQL deletes no partition that is being read, so that it cannot happen in one process
def test_events_that_are_deleted_meanwhile_leave_their_day_as_it_was(
    close: Close, filled: Engine, archive: Archive
) -> None:
    close()
    store_events(filled, "live", FIRST, shown=1, answered=0, exposed=0, seed=1)
    store_events(filled, "live", FIRST + 1, shown=1, answered=0, exposed=0, seed=1)
    before = times(archive)

    def meanwhile(_done: int, _total: int) -> None:
        expire(filled, FIRST + 2)

    with pytest.raises(StoreError, match=r"had 61 rows of impressions on 2024-10-05, and has 0 now"):
        close(tell=meanwhile)
    (old,) = archive.manifest("live", FIRST + 1).tables["impressions"]
    assert times(archive)[old.path] == before[old.path]
    assert close().sound
    assert event_files(archive) == {
        file.path for run in archive.runs() for one in archive.manifests(run) for file in one.files
    }


@sqlite
def test_late_events_of_a_file_that_is_gone(close: Close, filled: Engine, archive: Archive) -> None:
    close()
    (file,) = archive.manifest("live", FIRST).tables["feedback"]
    spoil(archive, file.path, "gone")
    store_events(filled, "live", FIRST, shown=0, answered=1, exposed=0, seed=1)
    assert [one.rows for one in close().written] == [{"feedback": 41}]
    assert_equal(filled, archive)


@sqlite
def test_files_without_a_name_go_and_others_stay(close: Close, archive: Archive) -> None:
    root = Path(archive.url)
    ours = ["impressions/run=live/day=2024-10-04/x.parquet", "manifests/run=live/day=x.json.1.unfinished"]
    others = ["notes.parquet", "impressions/README.md", "mine/a.parquet"]
    for path in (*ours, *others):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    assert close().removed == 2
    assert {*others} < event_files(archive)
    assert not any((root / path).exists() for path in ours)


@sqlite
def test_a_manifest_that_is_none_is_named(close: Close, archive: Archive) -> None:
    close()
    path = Path(archive.url) / "manifests/run=live/day=2024-10-04.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:40], encoding="utf-8")
    with pytest.raises(InputError, match=r"day=2024-10-04\.json: is not a manifest: "):
        close()
    path.write_text(text.replace("live", "else"), encoding="utf-8")
    with pytest.raises(InputError, match=r"is of 'else' and 2024-10-04, must be of its path's"):
        archive.manifests("live")
    path.write_text(text.replace('"schema_version": 1', '"schema_version": 2'), encoding="utf-8")
    with pytest.raises(InputError, match=r"schema_version: Input should be 1"):
        archive.manifests("live")


def test_days_of_no_exposures_are_no_files(close: Close, archive: Archive) -> None:
    close()
    found = archive.manifest("live", FIRST + 1)
    assert found.tables["exposures"] == ()
    assert found.rows == {"exposures": 0, "impressions": 60, "feedback": 40}
    assert len(archive.files("live", "exposures")) == 4
    assert exposures.name in found.rows


@pytest.mark.parametrize("url", ["nowhere://x", "s3://bucket/archive"])
def test_a_url_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(InputError, match=f"archive_url: '{url}' cannot be opened: "):
        Archive(url)
