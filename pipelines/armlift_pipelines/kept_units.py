"""Kept units: which units the files of a lab hold, those of its archive and of its data sets."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from armlift.archive.archive import Archive
from armlift_pipelines.dataset import DataSet, has_dataset
from armlift_pipelines.shards import TABLES


def archived(archive: Archive) -> Iterator[tuple[str, int]]:
    """Give the unit and the time (UTC ms) of every archived row, a row group in memory at a time."""
    for run in archive.runs():
        for manifest in archive.manifests(run):
            for one in manifest.files:
                with archive.folder.reading(one.path) as content, pq.ParquetFile(content) as file:
                    for rows in file.iter_batches(columns=["unit_id", "ts"]):
                        yield from zip(rows["unit_id"].to_pylist(), rows["ts"].to_pylist(), strict=True)


def in_datasets(folder: Path) -> Iterator[str]:
    """Give the unit of every row of every data set in a folder, a shard in memory at a time."""
    for place in sorted(folder.glob("*")):
        if has_dataset(place):
            data = DataSet(place)
            for table in TABLES:
                for number in data.shards:
                    yield from data.read(table, number)["unit"]
