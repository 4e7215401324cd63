"""How the columns of one log file are read: the seam between a format and the reader."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

USER = "user_id"
ITEM = "video_id"
TS = "__ts"
"""The column the reader adds to every frame: UTC milliseconds, int64."""
BLANK_TIME, BAD_TIME = "blank_time", "bad_time"
"""The reasons to drop a row that are about its time."""
MAX_TS = 1 << 48
"""Times are below this many milliseconds, as in events (about the year 10889)."""


@dataclass(frozen=True)
class Layout:
    """What the columns of a file mean, as polars expressions over them and over `TS`.

    `columns` has the type of every column, in the file's order; `unused` are those whose content follows from
    the others; `extra` those the format does not know (kept as text, only to tell duplicates apart).
    `dirt` maps a reason to the predicate of rows to drop, tested in order on what is left by the earlier
    ones; `oddities` names what is kept and counted. `feedback` gives each kind the file can tell, in the
    units of events (seconds); `random` is true where the exposure was uniformly random; `duration` is the
    length of what was shown (seconds), null where it is missing.
    """

    format: str
    columns: Mapping[str, pl.DataType]
    unused: frozenset[str]
    extra: tuple[str, ...]
    ts: pl.Expr
    dirt: Mapping[str, pl.Expr]
    oddities: Mapping[str, pl.Expr]
    feedback: Mapping[str, pl.Expr]
    random: pl.Expr | None
    duration: pl.Expr | None

    @property
    def kinds(self) -> frozenset[str]:
        """The feedback kinds the file can tell."""
        return frozenset(self.feedback)

    @property
    def order(self) -> list[str]:
        """The columns of a cleaned frame in the order of sorting: time, user, item, then the rest."""
        rest = sorted(self.columns.keys() - self.unused - {USER, ITEM})
        return [TS, USER, ITEM, *rest]


@dataclass(frozen=True)
class LogFormat:
    """A kind of log file and how to know it.

    A header with any of `marks` is meant to be of this format; it must then have all of `required` and, where
    `one_of` is not empty, at least one of those.
    """

    name: str
    marks: frozenset[str]
    required: tuple[str, ...]
    one_of: tuple[str, ...]
    layout: Callable[[Sequence[str]], Layout]

    @property
    def needs(self) -> str:
        """What a header must have, in words."""
        text = ", ".join(self.required)
        return f"{text} and at least one of {', '.join(self.one_of)}" if self.one_of else text

    def missing(self, columns: Sequence[str]) -> str | None:
        """Name the first required column that a header lacks, or None."""
        for column in self.required:
            if column not in columns:
                return column
        if self.one_of and not set(self.one_of) & set(columns):
            return " or ".join(self.one_of)
        return None


def common_dirt(play: str | None, flags: Sequence[str]) -> dict[str, pl.Expr]:
    """Give the reasons to drop a row that every format shares, first reason first.

    `play` is the column of watch time, `flags` are the columns that hold 0 or 1.
    """
    dirt = {
        "blank_user": pl.col(USER).is_null(),
        "blank_video": pl.col(ITEM).is_null(),
        BLANK_TIME: pl.col(TS).is_null(),
        BAD_TIME: (pl.col(TS) < 0) | (pl.col(TS) >= MAX_TS),
    }
    if play is not None:
        dirt["blank_play"] = pl.col(play).is_null()
        dirt["negative_play"] = pl.col(play) < 0
    if flags:
        dirt["bad_flag"] = pl.any_horizontal(
            pl.col(flag).is_null() | (pl.col(flag) > 1) | (pl.col(flag) < 0) for flag in flags
        )
    return dirt


def seconds(column: str) -> pl.Expr:
    """Turn a column of whole milliseconds into seconds, float64: the nearest number to each quotient."""
    # polars multiplies by 0.001, which is off by one unit in the last place in an eighth of all cases.
    return (pl.col(column) / 1000).round(3)


def known_seconds(column: str) -> pl.Expr:
    """Turn a column of whole milliseconds into seconds; null where it is 0 or less, which means unknown."""
    return pl.when(pl.col(column) > 0).then(seconds(column))


def indicator(condition: pl.Expr) -> pl.Expr:
    """Turn a condition into 1.0 where it holds and 0.0 elsewhere, also where it is unknown."""
    return condition.fill_null(False).cast(pl.Float64)
