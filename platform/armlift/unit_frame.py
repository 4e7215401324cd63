"""A frame with one row a unit, from polars or pandas, checked and in one form."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from armlift.complaints import choices
from armlift.errors import InputError
from armlift.events import LARGEST
from armlift.imported_rows import numbers_of, str_of, texts_of
from armlift.segments import UNKNOWN, check_values, segment_name
from armlift.unit_metrics import UnitMetrics, columns_of


class Columns(NamedTuple):
    """Which columns of a frame hold what; without `unit` each row is a unit of its own."""

    unit: str | None
    arm: str
    stratum: str | None
    segments: Sequence[str]


class UnitFrame(NamedTuple):
    """The units: unit_id, arm, phase, each part of each metric, by `part_name`, and `segment_name`s.

    `arms` has the names that reports use by those of the frame, the control first. `dropped` counts rows
    without a unit or an arm.
    """

    units: pl.DataFrame
    arms: Mapping[str, str]
    dropped: Mapping[str, int]


def part_name(metric: str, part: str) -> str:
    """Name the column of a metric's part: num, den, pre_num or pre_den."""
    return f"{part} {metric}"


def read_frame(
    frame: Any, metrics: UnitMetrics, columns: Columns, *, control: object, arms: Iterable[object] = ()
) -> UnitFrame:
    """Check a frame and bring it into one form; `arms` are those there must be, besides those there are.

    Raises InputError for a column that is missing or holds no numbers, a unit that stands twice, values that
    are not known, and a control that is no arm.
    """
    places = {
        (name, part): column
        for name, one in metrics.items()
        for part, column in columns_of(name, one).items()
    }
    named = [("unit", columns.unit), ("arm", columns.arm), ("stratum", columns.stratum)]
    wanted = [(place, column) for place, column in named if column is not None]
    wanted += [("segments", column) for column in columns.segments]
    wanted += [(f"metrics: {name}", column) for (name, _), column in places.items()]
    table = _polars(frame, wanted)
    units = table.select(
        (
            texts_of(table[columns.unit])
            if columns.unit
            else pl.Series(range(len(table)), dtype=pl.Int64).cast(pl.String)
        ).alias("unit_id"),
        texts_of(table[columns.arm]).alias("arm"),
        (
            (texts_of(table[columns.stratum]).fill_null("").rank("dense") - 1).cast(pl.Int64)
            if columns.stratum
            else pl.lit(0, pl.Int64)
        ).alias("phase"),
        *(
            _values(table[column], name, part).alias(part_name(name, part))
            for (name, part), column in places.items()
        ),
        *(
            texts_of(table[column]).fill_null(UNKNOWN).alias(segment_name(column))
            for column in columns.segments
        ),
    )
    blank = {
        "row_blank_unit": pl.col("unit_id").is_null(),
        "row_blank_arm": pl.col("unit_id").is_not_null() & pl.col("arm").is_null(),
    }
    counts = units.select(**{reason: wrong.sum() for reason, wrong in blank.items()}).row(0, named=True)
    units = units.filter(pl.col("unit_id").is_not_null(), pl.col("arm").is_not_null()).sort("unit_id", "arm")
    _check_values(units, places)
    _check_units(units, columns.unit or "row")
    names = _arms(units["arm"].unique(), control, arms, columns.arm)
    units = units.with_columns(pl.col("arm").replace_strict(names, return_dtype=pl.String))
    check_values({column: units[segment_name(column)].unique().to_list() for column in columns.segments})
    return UnitFrame(units, names, {reason: n for reason, n in counts.items() if n})


def _polars(frame: Any, wanted: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Take the columns that are wanted, each at some place, out of a frame."""
    if isinstance(frame, pl.LazyFrame):
        there: list[Any] = frame.collect_schema().names()
    else:
        there = list(getattr(frame, "columns", []))
    if not there:
        raise InputError(f"frame is {type(frame).__name__} without columns, must be a polars or pandas frame")
    for place, column in wanted:
        if column not in there:
            raise InputError(f"{place}: column {column!r} {choices(column, map(str, there))}")
    columns = list(dict.fromkeys(column for _, column in wanted))
    if isinstance(frame, pl.DataFrame):
        return frame.select(columns)
    if isinstance(frame, pl.LazyFrame):
        return frame.select(columns).collect()
    try:
        return pl.from_pandas(frame[columns])
    except ModuleNotFoundError as error:
        raise InputError(f"frame: {error}; or give a polars frame") from error
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InputError(f"frame cannot be read: {' '.join(str(error).split())[:200]}") from error


def _values(column: pl.Series, metric: str, part: str) -> pl.Series:
    """Give a column's numbers; what is not finite is null."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise InputError(f"metrics: {metric}: column {column.name!r} is {column.dtype}, must hold numbers")
    return numbers_of(column)


def _check_values(units: pl.DataFrame, places: Mapping[tuple[str, str], str]) -> None:
    for (metric, part), column in places.items():
        values = units[part_name(metric, part)]
        if values.null_count() and not part.startswith("pre_"):
            raise InputError(
                f"metrics: {metric}: column {column!r} has {values.null_count():,} values that are null, NaN "
                "or infinite, must have none; fill in 0 where a unit did nothing, or leave the units out"
            )
        largest = values.abs().max()
        if isinstance(largest, float) and largest > LARGEST:
            raise InputError(
                f"metrics: {metric}: column {column!r} holds {largest:g}, must be at most {LARGEST:g}"
            )


def _check_units(units: pl.DataFrame, column: str) -> None:
    twice = units.filter(pl.struct("unit_id", "arm").is_duplicated())
    if len(twice):
        raise InputError(f"{column}: {twice['unit_id'][0]!r} stands twice, must be one row a unit")


def _arms(found: pl.Series, control: object, asked: Iterable[object], column: str) -> dict[str, str]:
    """Give the arms' names in reports by those in the frame: lower case, other characters as `_`."""
    base, *others = (text for text in texts_of(pl.Series([str_of(one) for one in (control, *asked)])))
    known = sorted({*found, *others})
    if base not in known:
        raise InputError(f"control: {base!r} is not in column {column!r}, {choices(str(base), known)}")
    if others and not {*found} <= {*others}:
        extra = sorted({*found} - {*others})[0]
        raise InputError(f"weights: name no arm {extra!r}, which column {column!r} holds")
    if len(known) < 2:
        raise InputError(f"arm: column {column!r} holds one arm, {base}, must hold two or more")
    names = {arm: re.sub(r"[^a-z0-9_-]+", "_", arm.lower()).strip("_-")[:63] for arm in (base, *known)}
    for arm, name in names.items():
        same = [other for other in names if names[other] == name]
        if not name or len(same) > 1:
            raise InputError(
                f"arm: {arm!r} cannot be told by a name of a-z, 0-9, _ and -"
                f"{f' from {same[-1]!r}' if len(same) > 1 else ''}; rename it"
            )
    return names
