"""KuaiRec logs: watch times of Kuaishou, a big sparse matrix and a small one that is 99.6 % observed.

Source: Gao et al. 2022, "KuaiRec: A Fully-observed Dataset and Insights for Evaluating Recommender Systems".
There is no click, like or flag of random exposure: what the files cannot tell is not among the kinds.
"""

from collections.abc import Sequence

import polars as pl

from armlift.logs.layout import (
    ITEM,
    MAX_TS,
    TS,
    USER,
    Layout,
    LogFormat,
    common_dirt,
    indicator,
    known_seconds,
    seconds,
)

TIME = "timestamp"
PLAY = "play_duration"
DURATION = "video_duration"
UNUSED = frozenset({"time", "date", "watch_ratio"})
"""What follows from the other columns; a blank there means nothing."""
COLUMNS = (USER, ITEM, PLAY, DURATION, "time", "date", TIME, "watch_ratio")
"""The 8 official columns, in the official order."""
LONG_VIEW_MS = 18_000


def layout(columns: Sequence[str]) -> Layout:
    """Say how a file with these columns is read; `columns` has all that `FORMAT` requires."""
    types: dict[str, pl.DataType] = dict.fromkeys((USER, ITEM, PLAY, DURATION), pl.Int64())
    types[TIME] = pl.Float64()
    return Layout(
        format=FORMAT.name,
        columns={column: types.get(column, pl.String()) for column in columns},
        unused=UNUSED & set(columns),
        extra=tuple(column for column in columns if column not in COLUMNS),
        ts=_milliseconds().alias(TS),
        dirt=common_dirt(PLAY, ()),
        oddities={"duration_missing": _duration_missing()},
        feedback={"long_view": long_view(), "play": seconds(PLAY)},
        random=None,
        duration=known_seconds(DURATION),
    )


def long_view() -> pl.Expr:
    """Tell a long view as KuaiRand defines it: play >= duration up to 18 s of duration, else play >= 18 s.

    A video whose duration is missing is held to the 18 s: they make a long view whatever its length.
    """
    short = (pl.col(DURATION) <= LONG_VIEW_MS) & ~_duration_missing()
    needed = pl.when(short).then(pl.col(DURATION)).otherwise(LONG_VIEW_MS)
    return indicator(pl.col(PLAY) >= needed)


def _milliseconds() -> pl.Expr:
    """Turn seconds into UTC milliseconds; what is out of range becomes -1, a bad time."""
    ms = (pl.col(TIME) * 1000.0).round()
    usable = ms.is_null() | (ms.is_finite() & (ms.abs() < MAX_TS))
    return pl.when(usable).then(ms).otherwise(-1.0).cast(pl.Int64)


def _duration_missing() -> pl.Expr:
    return pl.col(DURATION).is_null() | (pl.col(DURATION) <= 0)


FORMAT = LogFormat(
    name="KuaiRec",
    marks=frozenset({TIME, PLAY, "watch_ratio"}),
    required=(USER, ITEM, PLAY, DURATION, TIME),
    one_of=(),
    layout=layout,
)
