"""Data sets are built: rows of an engine are sorted outside memory and written as shards, all or nothing."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from sqlalchemy import Connection, Engine, Select

from armlift.archive.writing import sorting
from armlift_pipelines import dataset_rows
from armlift_pipelines.dataset import ITEMS, META, Contents, Meta, Span
from armlift_pipelines.shards import (
    SHARD_ROWS,
    TABLES,
    merged,
    rows_of,
    shards_for,
    sorted_runs,
    write_shard,
)

_RUNS = "runs"
_SCRATCH = re.compile(r"\.(?P<name>.+)-[0-9a-f]{32}")
_ROWS = 50_000


class Gathered(NamedTuple):
    """What an engine gives for a data set: the sorted runs of each table by its name, and the items."""

    runs: Mapping[str, Sequence[Path]]
    items: pl.DataFrame


Gather = Callable[[Path], Gathered]
"""Reads all rows of a span; given an empty folder for the runs, which is removed after."""


def build(span: Span, folder: Path, gather: Gather, *, shard_rows: int = SHARD_ROWS) -> Meta:
    """Build a data set in a folder, all of it or nothing; one that is there already is replaced.

    Memory holds a shard and the catalogue, whatever the number of units.
    """
    with _replacing(folder) as scratch:
        (scratch / _RUNS).mkdir()
        runs, items = gather(scratch / _RUNS)
        shards = shards_for(max(rows_of(some) for some in runs.values()), shard_rows)
        contents = Contents(span)
        for table in TABLES:
            for number, frame in enumerate(merged(table, runs[table.name], shards)):
                write_shard(table, scratch, number, frame)
                contents.add(table.name, frame)
        items = items.sort("item")
        items.write_parquet(scratch / ITEMS.file, compression="zstd")
        contents.add(ITEMS.name, items)
        shutil.rmtree(scratch / _RUNS, ignore_errors=True)
        meta = contents.meta(shards)
        write_meta(scratch, meta)
    return meta


def build_from_sql(engine: Engine, span: Span, folder: Path, *, shard_rows: int = SHARD_ROWS) -> Meta:
    """Build a data set from the events of a database, all as of one moment; see `build`."""

    def gather(runs: Path) -> Gathered:
        with sorting(engine) as connection:
            asked = dataset_rows.rows_by_table(span)
            found = {
                table.name: sorted_runs(
                    table, _frames(connection, asked[table.name], table.schema), runs / table.name
                )
                for table in TABLES
            }
            return Gathered(found, pl.concat(_frames(connection, dataset_rows.items(span), ITEMS.schema)))

    return build(span, folder, gather, shard_rows=shard_rows)


def write_meta(folder: Path, meta: Meta) -> None:
    """Write what a data set is of; one that is there already is replaced at once."""
    part = folder / f"{META}.part"
    part.write_text(json.dumps(meta._asdict() | {"span": meta.span._asdict()}), encoding="utf-8")
    part.replace(folder / META)


def remove_unfinished(datasets: Path, name: str | None = None) -> None:
    """Remove what unfinished builds of a data set, or of all, have written; one that goes on will fail."""
    for one in datasets.glob(".*"):
        found = _SCRATCH.fullmatch(one.name)
        if found is not None and name in (None, found["name"]):
            gone = datasets / _scratch_name(found["name"])
            with suppress(FileNotFoundError):  # somebody else removes it too
                one.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _scratch_name(name: str) -> str:
    return f".{name}-{uuid.uuid4().hex}"


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Lend an empty folder that then takes the place of another; it is removed where the body fails."""
    remove_unfinished(folder.parent, folder.name)
    scratch = folder.with_name(_scratch_name(folder.name))
    scratch.mkdir(parents=True)
    try:
        yield scratch
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _frames(connection: Connection, query: Select[Any], schema: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    """Read rows in parts, an empty one first."""
    yield pl.DataFrame(schema=schema)
    result = connection.execution_options(stream_results=True).execute(query)
    for some in result.partitions(_ROWS):
        columns = zip(schema.items(), zip(*some, strict=True), strict=True)
        yield pl.DataFrame([pl.Series(name, values, kind) for (name, kind), values in columns])
