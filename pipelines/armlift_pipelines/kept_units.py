"""Kept units: which units the files of a lab hold, those of its archive and of its data sets."""

from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from armlift.archive.archive import Archive
from armlift_pipelines.dataset import DataSet, has_dataset
from armlift_pipelines.shards import TABLES


def archived_rows(archive: Archive, units: Collection[str]) -> int:
    """Count the archived rows of some units; files that cannot hold one are not read."""
    asked = pc.field("unit_id").isin(pa.array(sorted(units), pa.string()))
    rows = 0
    for path in _files(archive):
        with archive.folder.reading(path) as content:
            rows += pq.read_table(content, columns=["unit_id"], filters=asked).num_rows
    return rows


def archived(archive: Archive) -> Iterator[tuple[str, int]]:
    """Give each archived unit and a time (UTC ms) of its first row, by file: some units more than once."""
    for path in _files(archive):
        with archive.folder.reading(path) as content:
            rows = pq.read_table(content, columns=["unit_id", "ts"]).group_by("unit_id")
            first = rows.aggregate([("ts", "min")])
        yield from zip(first["unit_id"].to_pylist(), first["ts_min"].to_pylist(), strict=True)


def dataset_rows(folder: Path, units: Collection[str]) -> int:
    """Count the rows of some units in all data sets of a folder."""
    return sum(int(one["unit"].is_in(list(units)).sum()) for one in _shards(folder))


def in_datasets(folder: Path) -> Iterator[str]:
    """Name the units of all data sets of a folder, some of them more than once."""
    for one in _shards(folder):
        yield from one["unit"].unique()


def _files(archive: Archive) -> Iterator[str]:
    for run in archive.runs():
        for manifest in archive.manifests(run):
            for one in manifest.files:
                yield one.path


def _shards(folder: Path) -> Iterator[pl.DataFrame]:
    for place in sorted(folder.glob("*")):
        if has_dataset(place):
            data = DataSet(place)
            for table in TABLES:
                for number in data.shards:
                    yield data.read(table, number)
