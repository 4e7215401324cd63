"""Shards: rows of units in files, each small enough for memory, in an order that is the same for any size.

A unit's place is a hash of its id. Rows are ordered by place, unit, and the other columns of their table; a
shard holds those of an equal part of all places, so that all rows of a unit are in one shard, whose number
its id tells. Rows that come in any order are sorted outside memory: in runs, files that are sorted each, of
which every shard is then merged.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from armlift.errors import InputError
from armlift.hashing import places_of

SHARD_ROWS = 250_000
"""Rows of a shard, about; one unit's are never parted."""
RUN_ROWS = 500_000
"""Rows that are sorted in memory at once."""
PLACE = "place"
"""The column of runs that holds the place of the row's unit."""
_GROUP = 65_536

Longs = npt.NDArray[np.int64]


class Table(NamedTuple):
    """Rows of units: the table's name, its columns, and those that order the rows of a unit."""

    name: str
    schema: dict[str, Any]
    order: tuple[str, ...]

    @property
    def sorting(self) -> list[str]:
        """Name the columns by which runs and shards are sorted."""
        return [PLACE, "unit", *self.order]

    def path(self, folder: Path, number: int) -> Path:
        """Name the file of a shard of a data set."""
        return folder / self.name / f"{number:05}.parquet"


BEHAVIOURS = Table(
    "behaviours",
    {"unit": pl.String, "item": pl.String, "kind": pl.String, "value": pl.Float64, "ts": pl.Int64},
    ("ts", "item", "kind", "value"),
)
EXPOSURES = Table(
    "exposures",
    {"unit": pl.String, "experiment": pl.String, "arm": pl.String, "ts": pl.Int64},
    ("experiment",),
)
SHOWN = Table("shown", {"unit": pl.String, "item": pl.String, "arm": pl.String}, ("item", "arm"))
TABLES = (BEHAVIOURS, EXPOSURES, SHOWN)


def shards_for(rows: int, shard_rows: int = SHARD_ROWS) -> int:
    """Give how many shards some rows make: one at least."""
    return max(1, -(-rows // shard_rows))


def shard_of(places: Longs, shards: int) -> Longs:
    """Give the number of the shard of each place: int64 [n], in the order of places."""
    return (((places >> 32) + (1 << 31)) * shards) >> 32


def placed(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the place of each row's unit."""
    return frame.with_columns(pl.Series(PLACE, places_of(frame["unit"].to_list())))


def sorted_runs(
    table: Table, parts: Iterator[pl.DataFrame], folder: Path, run_rows: int = RUN_ROWS
) -> list[Path]:
    """Write rows that come in parts, in any order, as runs into a folder."""
    runs: list[Path] = []
    kept: list[pl.DataFrame] = []

    def write() -> None:
        folder.mkdir(exist_ok=True)
        path = folder / f"{len(runs)}.parquet"
        run = pl.concat(kept).sort(table.sorting)
        run.write_parquet(path, compression="lz4", row_group_size=_GROUP)
        runs.append(path)
        kept.clear()

    for part in parts:
        kept.append(placed(part))
        if sum(map(len, kept)) >= run_rows:
            write()
    if kept:
        write()
    return runs


def rows_of(runs: Sequence[Path]) -> int:
    """Count the rows of runs."""
    return sum(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() for path in runs)


def merged(table: Table, runs: Sequence[Path], shards: int) -> Iterator[pl.DataFrame]:
    """Give the rows of each shard, sorted: all shards, in the order of their numbers."""
    edges = [_edges(path, shards) for path in runs]
    for number in range(shards):
        slices = [
            pl.scan_parquet(path, glob=False).select(PLACE, *table.schema).slice(start, end - start)
            for path, (start, end) in zip(runs, (at[number : number + 2] for at in edges), strict=True)
            if end > start
        ]
        if slices:
            yield pl.concat(slices).collect().sort(table.sorting).drop(PLACE)
        else:
            yield pl.DataFrame(schema=table.schema)


def _edges(run: Path, shards: int) -> list[int]:
    """Give where in a run each shard begins, and the last one ends."""
    places = pl.read_parquet(run, columns=[PLACE], glob=False)[PLACE].to_numpy()
    edges: list[int] = np.searchsorted(shard_of(places, shards), np.arange(shards + 1)).tolist()
    return edges


def write_shard(table: Table, folder: Path, number: int, frame: pl.DataFrame) -> None:
    """Write a shard; one that is there already is replaced at once."""
    path = table.path(folder, number)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    frame.write_parquet(part, compression="zstd")
    part.replace(path)


def read_rows(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    """Read a file of a data set; raises InputError where it is damaged or missing."""
    try:
        return pl.read_parquet(path, columns=list(schema), glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


class ContentHash:
    """The sha256 of a table's rows in their order, whatever the parts in which they come."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._rows = 0
        self._columns = {name: (hashlib.sha256(), hashlib.sha256()) for name in schema}

    def add(self, frame: pl.DataFrame) -> None:
        """Go on with more rows."""
        self._rows += len(frame)
        for name, (values, lengths) in self._columns.items():
            column = frame[name]
            if column.dtype == pl.String:
                values.update("".join(column.to_list()).encode())
                lengths.update(column.str.len_bytes().to_numpy().astype("<u4").tobytes())
            else:
                numbers = column.to_numpy()
                values.update(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes())

    def hexdigest(self) -> str:
        """Give the hash of all rows so far."""
        parts = [(name, *(one.hexdigest() for one in pair)) for name, pair in self._columns.items()]
        return hashlib.sha256(repr((self._rows, parts)).encode()).hexdigest()
