"""Data sets: what units did up to a watermark, kept as files that every step reads a shard at a time.

    datasets/<name>/behaviours/00000.parquet   unit, item, kind, value, ts
    datasets/<name>/exposures/00000.parquet    unit, experiment, arm, ts of the first exposure
    datasets/<name>/shown/00000.parquet        unit, item, arm: what who was shown in the time held out
    datasets/<name>/items.parquet              item, ts of its first event
    datasets/<name>/dataset.json               what it is of, written last: without it there is no data set

All rows of a unit are in the shards of one number (see `shards`). Models learn from what is before `until`;
what follows up to the watermark is held out, to compare them on.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from armlift.arm import Behaviour, History, ItemTable
from armlift.errors import InputError
from armlift.hashing import hash_of
from armlift.training_mix import Learnt, Mode, histories_for
from armlift_pipelines.shards import BEHAVIOURS, EXPOSURES, TABLES, ContentHash, Table, read_rows

DATASETS = "datasets"
"""The folder of a lab that holds them."""
META = "dataset.json"


class _Items(NamedTuple):
    name: str
    schema: dict[str, Any]
    file: str


ITEMS = _Items("items", {"item": pl.String, "ts": pl.Int64}, "items.parquet")
"""The catalogue, which is read whole."""


class Span(NamedTuple):
    """What a data set covers: events of `run` in [first, watermark), learned from up to `until`; UTC ms."""

    run: str
    first: int
    until: int
    watermark: int


class Meta(NamedTuple):
    """What a data set holds: counts, and `data_hash`, the sha256 of its contents and its span.

    The hash is the same whatever engine built it and however many shards it has. `erased` tells that units
    were erased since it was built.
    """

    span: Span
    behaviours: int
    learned: int
    units: int
    items: int
    shards: int
    data_hash: str
    erased: bool = False


class Contents:
    """What the rows of a data set add up to, told table by table, each in its order."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._hashes = {table.name: ContentHash(table.schema) for table in (*TABLES, ITEMS)}
        self._rows = dict.fromkeys(self._hashes, 0)
        self._learned = self._units = 0

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Take a shard of a table, or the items."""
        self._hashes[name].add(frame)
        self._rows[name] += len(frame)
        if name == BEHAVIOURS.name:
            learned = frame.filter(pl.col("ts") < self._span.until)["unit"]
            self._learned += len(learned)
            self._units += learned.n_unique()

    def meta(self, shards: int, *, erased: bool = False) -> Meta:
        """Sum up."""
        hashes = {name: one.hexdigest() for name, one in self._hashes.items()}
        text = json.dumps({"span": self._span, "tables": hashes}, sort_keys=True)
        return Meta(
            self._span,
            self._rows[BEHAVIOURS.name],
            self._learned,
            self._units,
            self._rows[ITEMS.name],
            shards,
            hashlib.sha256(text.encode()).hexdigest(),
            erased,
        )


def has_dataset(folder: Path) -> bool:
    """Tell whether a folder holds a data set."""
    return (folder / META).is_file()


class DataSet:
    """A data set in a folder; raises InputError where there is none, or not all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            found = json.loads((folder / META).read_text(encoding="utf-8"))
            self.meta = Meta(**found | {"span": Span(**found["span"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder}: is no data set ({META} cannot be read: {error})") from error

    @property
    def span(self) -> Span:
        """Give what it covers."""
        return self.meta.span

    @property
    def shards(self) -> range:
        """Number the shards."""
        return range(self.meta.shards)

    @cached_property
    def items(self) -> ItemTable:
        """Give the catalogue: the items that had an event before `until`."""
        found = self.all_items().filter(pl.col("ts") < self.span.until)
        return ItemTable(sorted(found["item"].to_list()))

    def all_items(self) -> pl.DataFrame:
        """Read all items, those of the time held out too, in the order of their ids."""
        return read_rows(self.folder / ITEMS.file, ITEMS.schema)

    def read(self, table: Table, number: int) -> pl.DataFrame:
        """Read a shard of a table; the rows of a unit lie together, in the table's order."""
        return read_rows(table.path(self.folder, number), table.schema)

    def histories(self, before: int | None = None) -> Iterator[History]:
        """Give each unit's behaviours before a time, oldest first; by default before the watermark.

        Units come in an order that their ids decide, a shard at a time.
        """
        for number in self.shards:
            yield from self._histories(number, self.span.watermark if before is None else before)

    def learnt(self, experiment: str) -> Iterator[Learnt]:
        """Give what each unit did before `until`, with the arm of an experiment that it had met by then."""
        for number in self.shards:
            met = {
                unit: (arm, ts)
                for unit, _, arm, ts in self.read(EXPOSURES, number)
                .filter((pl.col("experiment") == experiment) & (pl.col("ts") < self.span.until))
                .iter_rows()
            }
            for unit, behaviours in self._histories(number, self.span.until):
                yield Learnt(unit, behaviours, *met.get(unit, (None, None)))

    def _histories(self, number: int, before: int) -> Iterator[History]:
        frame = self.read(BEHAVIOURS, number).filter(pl.col("ts") < before)
        for unit, group in groupby(frame.iter_rows(), key=itemgetter(0)):
            yield History(unit, [Behaviour(*row[1:]) for row in group])


class Lesson:
    """What one arm learns from a data set: a `TrainingSet`, read a shard at a time.

    In mode `pooled` that is everything before `until`; else what `training_mix` gives an arm of an
    experiment, whose arms are `arms`.
    """

    def __init__(
        self, data: DataSet, mode: Mode = "pooled", arm: str = "", experiment: str = "",
        arms: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._data, self._mode, self._arm, self._experiment, self._arms = data, mode, arm, experiment, arms

    @property
    def items(self) -> ItemTable:
        """Give the catalogue."""
        return self._data.items

    @property
    def until(self) -> int:
        """Give the cut, UTC milliseconds."""
        return self._data.span.until

    @property
    def data_hash(self) -> str:
        """Hash what is learned from."""
        mix = [] if self._mode == "pooled" else [self._mode, self._arm, self._experiment, *self._arms]
        return hash_of({"data": self._data.meta.data_hash, "mix": mix})

    def histories(self) -> Iterator[History]:
        """Give each unit's behaviours, oldest first; units in the same order each time."""
        if self._mode == "pooled":
            return self._data.histories(self.until)
        return histories_for(self._arm, self._arms, _Met(self._data, self._experiment), self._mode)


class _Met:
    """What units did and whom they met, read anew by each pass."""

    def __init__(self, data: DataSet, experiment: str) -> None:
        self._data, self._experiment = data, experiment

    def __iter__(self) -> Iterator[Learnt]:
        return self._data.learnt(self._experiment)
