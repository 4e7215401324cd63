"""Data sets built by Spark from an archive: the same rows as from SQL, in the same order."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl
from sqlalchemy import Connection, Engine, Select

from armlift.archive.archive import Archive
from armlift.archive.archived import Archived
from armlift.archive.closed import archive_closed
from armlift.archive.schema import TABLES as ARCHIVED
from armlift.days import DAY_MS, utc_day
from armlift.errors import InputError, StoreError
from armlift.events import MOST_DAYS_BEFORE
from armlift.lab import Lab
from armlift.settings import SparkSettings
from armlift.spark import dbapi
from armlift.spark.rows import carry, engine_on, show_files
from armlift.spark.session import open_session
from armlift.store.database import reading
from armlift.store.tables import aliases
from armlift_pipelines import dataset_rows
from armlift_pipelines.dataset import ITEMS, Meta, Span
from armlift_pipelines.dataset_build import Gathered, build
from armlift_pipelines.shards import PLACE, SHARD_ROWS, TABLES, Table, rows_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_GROUP_BYTES = 16 * 1024 * 1024


def days_of(span: Span) -> int:
    """Give the first UTC day of whose requests no event counts in a span, counted from 1970-01-01."""
    return utc_day(span.watermark - 1) + 1 + MOST_DAYS_BEFORE


def archive_up_to(engine: Engine, archive: Archive, span: Span) -> Archived:
    """Archive all events that count in a span, also those of a day that is not over yet.

    Whoever archives next writes such a day again, as more events have come. Raises StoreError where the
    archive is damaged for good, or another process writes it.
    """
    until = days_of(span)
    done = archive_closed(engine, archive, until * DAY_MS, after=0, run=span.run)
    if not done.sound:
        raise StoreError("; ".join(done.complaints()))
    return done


def archive_and_build(lab: Lab, engine: Engine, span: Span, folder: Path) -> Meta:
    """Archive what counts in a span, then build the data set from the lab's archive."""
    archive = Archive(lab.resolve(lab.settings.archive_url))
    print(archive_up_to(engine, archive, span).text())
    return build_from_archive(lab.settings.spark, engine, archive, span, folder)


def build_from_archive(
    settings: SparkSettings, engine: Engine, archive: Archive, span: Span, folder: Path, *,
    shard_rows: int = SHARD_ROWS,
) -> Meta:  # fmt: skip
    """Build a data set from the events of an archive and the merges of ids that a database has; see `build`.

    Spark's workers write the sorted rows, so that they must see the folder. Raises InputError where they do
    not, or Spark cannot be used.
    """

    def gather(runs: Path) -> Gathered:
        with open_session(settings) as session, engine_on(session).connect() as spark:
            for name, table in ARCHIVED.items():
                show_files(session, spark, table, archive.files(span.run, name, days_of(span)))
            with reading(engine) as sql:
                carry(session, spark, sql, aliases, aliases.c.run == span.run)
            asked = dataset_rows.rows_by_table(span)
            found = {table.name: _sorted_runs(spark, table, asked[table.name], runs) for table in TABLES}
            items = [tuple(row) for row in spark.execute(dataset_rows.items(span))]
            return Gathered(found, pl.DataFrame(items, ITEMS.schema, orient="row"))

    return build(span, folder, gather, shard_rows=shard_rows)


def _sorted_runs(spark: Connection, table: Table, query: Select[Any], runs: Path) -> list[Path]:
    """Have Spark write a table's rows as sorted files."""
    from pyspark.sql import Observation
    from pyspark.sql.functions import count, lit, xxhash64

    folder, written = (runs / table.name).absolute(), Observation()
    placed = _frame(spark, query).withColumn(PLACE, xxhash64("unit")).orderBy(*table.sorting)
    counted = placed.observe(written, count(lit(1)).alias("rows"))
    counted.write.option("parquet.block.size", _GROUP_BYTES).parquet(str(folder))
    found = sorted(folder.glob("*.parquet"))
    if rows_of(found) != written.get["rows"]:
        raise InputError(
            f"{folder}: has {rows_of(found):,} of the {written.get['rows']:,} rows that Spark wrote, must be "
            "in a folder that all its workers see"
        )
    return found


def _frame(spark: Connection, query: Select[Any]) -> "DataFrame":
    """Give a query's rows where they are, on Spark's workers."""
    compiled = query.compile(dialect=spark.dialect, compile_kwargs={"render_postcompile": True})
    driver = cast(dbapi.Connection, spark.connection.driver_connection)
    frame = driver.run(str(compiled), compiled.params)
    assert frame is not None  # it is a query
    return frame
