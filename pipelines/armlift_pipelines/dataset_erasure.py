"""Units are erased from data sets: their rows go, and data sets are of what is left."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl

from armlift.hashing import places_of
from armlift_pipelines.dataset import ITEMS, Contents, DataSet, has_dataset
from armlift_pipelines.dataset_build import remove_unfinished, write_meta
from armlift_pipelines.shards import TABLES, shard_of, write_shard


def erase(folder: Path, units: Collection[str]) -> int:
    """Erase units from a data set, and give how many rows of them it had.

    Shards that hold them are written anew; counts and `data_hash` become those of what is left, and `erased`
    is set. What killed builds of it left is removed. Broken off and done again it comes to the same. Raises
    InputError where there is no data set, or a file of it is damaged.
    """
    remove_unfinished(folder.parent, folder.name)
    data = DataSet(folder)
    gone = list(units)
    numbers = set(np.unique(shard_of(places_of(gone), data.meta.shards)).tolist())
    contents, erased = Contents(data.span), 0
    for table in TABLES:
        for number in data.shards:
            frame = data.read(table, number)
            if number in numbers:
                before, frame = len(frame), frame.filter(~pl.col("unit").is_in(gone))
                if len(frame) < before:
                    write_shard(table, folder, number, frame)
                    erased += before - len(frame)
            contents.add(table.name, frame)
    contents.add(ITEMS.name, data.all_items())
    meta = contents.meta(data.meta.shards, erased=True)
    if meta.data_hash != data.meta.data_hash:
        write_meta(folder, meta)
    return erased


def erase_from_all(datasets: Path, units: Collection[str]) -> dict[str, int]:
    """Erase units from every data set of a folder; gives how many rows each had of them, by its name."""
    remove_unfinished(datasets)  # which may have read them; builds done again read what is left
    folders = sorted(one for one in datasets.glob("*") if has_dataset(one))
    return {one.name: erase(one, units) for one in folders}
