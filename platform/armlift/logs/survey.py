"""The first pass over the files of a log: what they hold, and whether they are in time order."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from armlift.errors import InputError
from armlift.logs.csvfile import read_frames
from armlift.logs.layout import BAD_TIME, BLANK_TIME, TS, USER, Layout
from armlift.logs.log import SYNTHETIC_USERS_FROM, LogSummary
from armlift.logs.timesort import tally_hours


@dataclass(frozen=True)
class LogFile:
    """A file whose header is that of a log."""

    path: Path
    layout: Layout


class Extent(NamedTuple):
    """The first and last time (UTC milliseconds) of a file's usable rows, and whether they are in order."""

    first: int
    last: int
    ordered: bool

    def joined(self, later: "Extent") -> "Extent":
        """Put the next part of the same file behind this one."""
        in_order = self.ordered and later.ordered and self.last <= later.first
        return Extent(min(self.first, later.first), max(self.last, later.last), in_order)


@dataclass
class Survey:
    """What the first pass gathers.

    `rows` counts all rows, `dirty` those that cannot be used, by reason; `hours` counts usable rows by hour
    since the epoch; `extents` has one entry a file, None where it has no usable row.
    """

    layout: Layout
    hasher: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    rows: int = 0
    random_rows: int = 0
    synthetic: bool = False
    dirty: Counter[str] = field(default_factory=Counter)
    hours: Counter[int] = field(default_factory=Counter)
    extents: list[Extent | None] = field(default_factory=list)

    def take(self, file: LogFile) -> None:
        """Go over a file; raises InputError if it has no rows or a line cannot be read."""
        before = self.rows
        extent: Extent | None = None
        for frame in read_frames(file.path, file.layout.columns, self.hasher):
            self.rows += len(frame)
            clean, dirty = clean_rows(frame, self.layout)
            self.dirty.update(dirty)
            if len(clean):
                part = self._look_at(clean)
                extent = part if extent is None else extent.joined(part)
        if self.rows == before:
            raise InputError(f"{file.path}: has a header but no rows")
        self.extents.append(extent)

    def _look_at(self, clean: pl.DataFrame) -> Extent:
        self.hours.update(tally_hours(clean))
        self.synthetic = self.synthetic or bool((clean[USER] >= SYNTHETIC_USERS_FROM).any())
        if self.layout.random is not None:
            self.random_rows += int(clean.select(self.layout.random.sum()).item())
        ts = clean[TS].to_numpy()
        return Extent(int(ts.min()), int(ts.max()), bool((np.diff(ts) >= 0).all()))

    def chain(self) -> list[int] | None:
        """Order the files so that one read after the other is in time order; None if no order does."""
        found = [(extent, index) for index, extent in enumerate(self.extents) if extent is not None]
        found.sort()
        apart = all(earlier.last <= later.first for (earlier, _), (later, _) in pairwise(found))
        ordered = apart and all(extent.ordered for extent, _ in found)
        return [index for _, index in found] if ordered else None

    def summary(self, files: Sequence[LogFile]) -> LogSummary:
        """Sum up the files that were taken; raises InputError if none of their rows can be used."""
        found = [extent for extent in self.extents if extent is not None]
        if not found:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.dirty.items()))
            raise InputError(f"{files[0].path}: none of the log's {self.rows} rows can be used: {reasons}")
        return LogSummary(
            files=tuple(str(file.path) for file in files),
            format=self.layout.format,
            sha256=self.hasher.hexdigest(),
            rows=self.rows,
            first_ts=min(extent.first for extent in found),
            last_ts=max(extent.last for extent in found),
            ordered=self.chain() is not None,
            kinds=self.layout.kinds,
            random_rows=None if self.layout.random is None else self.random_rows,
            synthetic=self.synthetic,
        )


def usable_frames(files: Sequence[LogFile], layout: Layout) -> Iterator[pl.DataFrame]:
    """Read the usable rows of files, one file after the other, in the columns of the log's `layout`."""
    for frame in raw_frames(files):
        yield clean_rows(frame, layout)[0]


def raw_frames(files: Sequence[LogFile]) -> Iterator[pl.DataFrame]:
    """Read all rows of files, one file after the other."""
    for file in files:
        yield from read_frames(file.path, file.layout.columns)


def untimed_rows(frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Keep the rows that would be usable if they had a time; they are given -1."""
    frame = frame.with_columns(layout.ts).select(layout.order).filter(pl.col(TS).is_null())
    for reason, bad in layout.dirt.items():
        if reason not in (BLANK_TIME, BAD_TIME):
            frame = frame.filter(~bad.fill_null(False))
    return frame.with_columns(pl.col(TS).fill_null(-1))


def clean_rows(frame: pl.DataFrame, layout: Layout) -> tuple[pl.DataFrame, dict[str, int]]:
    """Add the time, put the columns in the layout's order, and take out the dirty rows.

    Returns the usable rows and, by reason, how many are dirty; a row counts for the first reason it meets.
    """
    frame = frame.with_columns(layout.ts).select(layout.order)
    dirty: dict[str, int] = {}
    suspects = frame.select(bad.sum().alias(reason) for reason, bad in layout.dirt.items())
    for reason, count in suspects.row(0, named=True).items():
        if count:
            # A predicate is null where its column is blank: that is for another reason to tell.
            usable = frame.filter(~layout.dirt[reason].fill_null(False))
            if len(usable) < len(frame):
                dirty[reason] = len(frame) - len(usable)
                frame = usable
    return frame, dirty
