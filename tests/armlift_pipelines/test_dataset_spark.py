"""Data sets by Spark from an archive: what SQL gives, row by row and hash by hash."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from acting_units import SPAN, TICK, World
from sqlalchemy import Engine, delete
from walkers import FIRST, NIGHTLY

from armlift.archive.archive import Archive
from armlift.days import DAY_MS, utc_day
from armlift.errors import InputError, StoreError
from armlift.lab import Lab
from armlift.settings import SparkSettings
from armlift.store.database import writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback
from armlift_pipelines import dataset_spark
from armlift_pipelines.dataset import DATASETS, DataSet
from armlift_pipelines.dataset_build import build_from_sql
from armlift_pipelines.dataset_spark import archive_up_to, build_from_archive
from armlift_pipelines.job_runs import SUCCEEDED
from armlift_pipelines.night import Night
from armlift_pipelines.shards import TABLES

SPARK = SparkSettings(url="local[2]", memory="1g", conf={"spark.sql.shuffle.partitions": "4"})
sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def archive(engine: Engine, tmp_path: Path) -> Archive:
    """Fill a database with a small world, and give a place for its archive."""
    World().fill(engine)
    return Archive(str(tmp_path / "archive"))


def test_spark_builds_what_sql_does(engine: Engine, archive: Archive, tmp_path: Path) -> None:
    archive_up_to(engine, archive, SPAN)
    by_sql = build_from_sql(engine, SPAN, tmp_path / "sql", shard_rows=100)
    by_spark = build_from_archive(SPARK, engine, archive, SPAN, tmp_path / "spark", shard_rows=100)
    assert by_spark == by_sql
    sql, spark = DataSet(tmp_path / "sql"), DataSet(tmp_path / "spark")
    assert [*spark.learnt("e")] == [*sql.learnt("e")]
    for table in TABLES:
        for number in sql.shards:
            assert spark.read(table, number).equals(sql.read(table, number))


@sqlite_only
def test_what_comes_late_is_archived_and_learned_from(
    engine: Engine, archive: Archive, tmp_path: Path
) -> None:
    first = archive_up_to(engine, archive, SPAN)
    # The watermark lies within a day, of which there are later events.
    assert [one.day for one in first.written][-1] == "1970-01-05"
    late = SPAN.watermark - TICK
    with writing(engine) as connection:
        row = (utc_day(late), 0, "late", "live", late, "r", "unit-7", "new", "click", 1.0, 0)
        insert_new(connection, feedback, [row])
    again = archive_up_to(engine, archive, SPAN)
    assert [(one.day, one.reason) for one in again.written] == [("1970-01-04", "late events")]
    by_spark = build_from_archive(SPARK, engine, archive, SPAN, tmp_path / "spark")
    assert by_spark == build_from_sql(engine, SPAN, tmp_path / "sql")
    assert "new" in DataSet(tmp_path / "spark").all_items()["item"]


@sqlite_only
def test_an_archive_that_is_damaged_for_good_is_not_learned_from(engine: Engine, archive: Archive) -> None:
    archive_up_to(engine, archive, SPAN)
    with writing(engine) as connection:
        connection.execute(delete(feedback).where(feedback.c.request_day == 1))
    with pytest.raises(StoreError, match="the archive was left as it is"):
        archive_up_to(engine, archive, SPAN)


@sqlite_only
def test_rows_that_workers_wrote_elsewhere_are_missed(
    engine: Engine, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_up_to(engine, archive, SPAN)
    monkeypatch.setattr(dataset_spark, "rows_of", lambda _: 3)
    with pytest.raises(InputError, match=r"behaviours: has 3 of the [0-9,]+ rows that Spark wrote, must be"):
        build_from_archive(SPARK, engine, archive, SPAN, tmp_path / "sets" / "day")
    assert not list((tmp_path / "sets").iterdir())


@sqlite_only
def test_a_night_learns_from_the_archive(lab: Lab, engine: Engine) -> None:
    """The step that Spark does in a process of its own gives what SQL's does."""
    arms = "arms: {tiny: {steps: []}, popularity: {steps: []}}\n"
    day = FIRST + timedelta(days=6)
    now = (day.toordinal() - date(1970, 1, 1).toordinal() + 30) * DAY_MS
    hashes = []
    settings = lab.folder / "armlift.toml"
    given = settings.read_text().replace('"local[*]"', '"local[2]"').replace('memory = "2g"', 'memory = "1g"')
    settings.write_text(given + '[spark.conf]\n"spark.sql.shuffle.partitions" = "4"\n')
    for name in ("sql", "spark"):
        (lab.folder / "nightly.yaml").write_text(f"{NIGHTLY}{arms}data: {{engine: {name}}}\n")
        result = Night(lab.again(), engine, day, now=now).run()
        assert result.run.status == SUCCEEDED
        (built,) = [one for one in result.steps if one.step == "build_dataset"]
        hashes.append(built.outputs["data_hash"])
        assert DataSet(lab.folder / DATASETS / built.outputs["dataset"]).meta.data_hash == hashes[-1]
    assert hashes[0] == hashes[1]
    assert Archive(str(lab.folder / "archive")).runs() == ["live"]
