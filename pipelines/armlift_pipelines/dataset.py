"""Data sets: what units did up to a watermark, read once from SQL and kept as files that every step reads.

    datasets/<name>/behaviours.parquet   unit, item, kind, value, ts: by unit, then in time order
    datasets/<name>/exposures.parquet    unit, experiment, arm, ts of the first exposure
    datasets/<name>/items.parquet        item, ts of its first event
    datasets/<name>/shown.parquet        unit, item, arm: who was shown what by whom in the time held out
    datasets/<name>/dataset.json         what it is of, written last: a data set without it does not exist

Models learn from what is before `until`; what follows up to the watermark is held out, to compare them on.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from sqlalchemy import Connection, Engine, Select, func, select, union_all

from armlift.aliases import unit_of
from armlift.arm import Behaviour, History, ItemTable
from armlift.errors import InputError
from armlift.hashing import hash_of
from armlift.store.database import reading
from armlift.store.tables import exposures, feedback, impressions
from armlift.training_mix import Learnt, Mode, histories_for

DATASETS = "datasets"
"""The folder of a lab that holds them."""
_META = "dataset.json"
_ROWS = 100_000
_BEHAVIOURS = {"unit": pl.String, "item": pl.String, "kind": pl.String, "value": pl.Float64, "ts": pl.Int64}
_EXPOSURES = {"unit": pl.String, "experiment": pl.String, "arm": pl.String, "ts": pl.Int64}
_ITEMS = {"item": pl.String, "ts": pl.Int64}
_SHOWN = {"unit": pl.String, "item": pl.String, "arm": pl.String}


class Span(NamedTuple):
    """What a data set covers: events of `run` in [first, watermark), learned from up to `until`; UTC ms."""

    run: str
    first: int
    until: int
    watermark: int


class Meta(NamedTuple):
    """What a data set holds: counts, and `data_hash`, the sha256 of its contents and its span."""

    span: Span
    behaviours: int
    learned: int
    units: int
    items: int
    data_hash: str


def build(engine: Engine, span: Span, folder: Path) -> Meta:
    """Read a data set from SQL into a folder, all of it or nothing; one that is there already is replaced.

    All of it is of one moment of the database. Ids that were merged into a unit count as that unit.
    """
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    scratch.mkdir(parents=True)
    try:
        with reading(engine) as connection:
            behaviours = _frame(connection, _behaviours(span), _BEHAVIOURS)
            exposed = _frame(connection, _exposures(span), _EXPOSURES).sort("unit", "experiment")
            items = _frame(connection, _items(span), _ITEMS).sort("item")
            shown = _frame(connection, _shown(span), _SHOWN).sort("unit", "item", "arm")
        behaviours = behaviours.sort("unit", "ts", "item", "kind", "value")
        frames = {"behaviours": behaviours, "exposures": exposed, "items": items, "shown": shown}
        hashed = hashlib.sha256(json.dumps(span).encode())
        for name, frame in frames.items():
            path = scratch / f"{name}.parquet"
            frame.write_parquet(path, compression="zstd")
            hashed.update(path.read_bytes())
        learned = behaviours.filter(pl.col("ts") < span.until)
        meta = Meta(
            span, len(behaviours), len(learned), learned["unit"].n_unique(), len(items), hashed.hexdigest()
        )
        (scratch / _META).write_text(json.dumps(meta._asdict() | {"span": span._asdict()}), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return meta


def has_dataset(folder: Path) -> bool:
    """Tell whether a folder holds a data set."""
    return (folder / _META).is_file()


def _frame(connection: Connection, query: Select[Any], schema: dict[str, Any]) -> pl.DataFrame:
    result = connection.execution_options(stream_results=True).execute(query)
    parts = [
        pl.DataFrame([tuple(row) for row in some], schema=schema, orient="row")
        for some in result.partitions(_ROWS)
    ]
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def _behaviours(span: Span) -> Select[Any]:
    f = feedback.c
    return select(unit_of(feedback), f.item_id, f.kind, f.value, f.ts).where(
        f.run == span.run, f.ts >= span.first, f.ts < span.watermark
    )


def _exposures(span: Span) -> Select[Any]:
    """Give each unit's first exposure in each experiment; of several at one moment, the first arm."""
    e = exposures.c
    place = func.row_number().over(partition_by=(unit_of(exposures), e.experiment), order_by=(e.ts, e.arm))
    met = select(unit_of(exposures).label("unit"), e.experiment, e.arm, e.ts, place.label("place")).where(
        e.run == span.run, e.ts < span.watermark
    )
    m = met.subquery().c
    return select(m.unit, m.experiment, m.arm, m.ts).where(m.place == 1)


def _items(span: Span) -> Select[Any]:
    parts = [
        select(table.c.item_id, func.min(table.c.ts).label("ts"))
        .where(table.c.run == span.run, table.c.ts >= span.first, table.c.ts < span.watermark)
        .group_by(table.c.item_id)
        for table in (impressions, feedback)
    ]
    met = union_all(*parts).subquery().c
    return select(met.item_id, func.min(met.ts)).group_by(met.item_id)


def _shown(span: Span) -> Select[Any]:
    i = impressions.c
    return (
        select(unit_of(impressions), i.item_id, i.arm)
        .where(i.run == span.run, i.ts >= span.until, i.ts < span.watermark)
        .distinct()
    )


class DataSet:
    """A data set in a folder; raises InputError where there is none, or not all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            found = json.loads((folder / _META).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: is no data set ({_META} cannot be read: {error})") from error
        self.meta = Meta(**found | {"span": Span(**found["span"])})

    @property
    def span(self) -> Span:
        """Give what it covers."""
        return self.meta.span

    @cached_property
    def behaviours(self) -> pl.DataFrame:
        """Read all behaviours, by unit and time."""
        return self._read("behaviours", _BEHAVIOURS)

    @cached_property
    def items(self) -> ItemTable:
        """Give the catalogue: the items that had an event before `until`."""
        found = self._read("items", _ITEMS).filter(pl.col("ts") < self.span.until)
        return ItemTable(sorted(found["item"].to_list()))

    @cached_property
    def shown(self) -> pl.DataFrame:
        """Read what units were shown in the time that is held out, and by whom."""
        return self._read("shown", _SHOWN)

    def histories(self, before: int | None = None) -> Iterator[History]:
        """Give each unit's behaviours before a time, oldest first; by default before the watermark."""
        frame = self.behaviours
        if before is not None:
            frame = frame.filter(pl.col("ts") < before)
        for unit, group in groupby(frame.iter_rows(), key=itemgetter(0)):
            yield History(unit, [Behaviour(*row[1:]) for row in group])

    def met(self, experiment: str) -> dict[str, tuple[str, int]]:
        """Give the arm and the time of each unit's first exposure in an experiment, if before `until`."""
        found = self._read("exposures", _EXPOSURES).filter(
            (pl.col("experiment") == experiment) & (pl.col("ts") < self.span.until)
        )
        return {unit: (arm, ts) for unit, _, arm, ts in found.iter_rows()}

    def served_by(self, arm: str) -> set[str]:
        """Name the units that an arm showed something in the time that is held out."""
        return set(self.shown.filter(pl.col("arm") == arm)["unit"].to_list())

    def _read(self, name: str, schema: dict[str, Any]) -> pl.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            return pl.read_parquet(path, columns=list(schema))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


class Lesson:
    """What one arm learns from a data set: a `TrainingSet`.

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
        """Give each unit's behaviours, oldest first."""
        if self._mode == "pooled":
            yield from self._data.histories(self.until)
            return
        met = self._data.met(self._experiment)
        learnt = [
            Learnt(one.unit, one.behaviours, *met.get(one.unit, (None, None)))
            for one in self._data.histories(self.until)
        ]
        yield from histories_for(self._arm, self._arms, learnt, self._mode)
