"""KuaiRand logs: impressions of Kuaishou with twelve kinds of feedback and a flag of random exposure.

Source: Gao et al. 2022, "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
Videos". The official files have 19 columns; extracts that lack some are read as far as they go. The published
extract of explicit reactions has `label` (1 like, 0 hate) in place of `is_like` and `is_hate`.
"""

from collections.abc import Sequence

import polars as pl

from armlift.logs.layout import (
    ITEM,
    TS,
    USER,
    Layout,
    LogFormat,
    common_dirt,
    indicator,
    known_seconds,
    seconds,
)

FLAGS = {
    "is_click": "click",
    "is_like": "like",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_hate": "hate",
    "long_view": "long_view",
    "is_profile_enter": "profile_enter",
}
"""Columns that hold 0 or 1, and the feedback kind of each."""
TIME = "time_ms"
PLAY = "play_time_ms"
DURATION = "duration_ms"
RANDOM = "is_rand"
LABEL = "label"
COLUMNS = (
    USER, ITEM, "date", "hourmin", TIME, "is_click", "is_like", "is_follow", "is_comment", "is_forward",
    "is_hate", "long_view", PLAY, DURATION, "profile_stay_time", "comment_stay_time", "is_profile_enter",
    RANDOM, "tab",
)  # fmt: skip
"""The 19 official columns, all int64, in the official order."""


def layout(columns: Sequence[str]) -> Layout:
    """Say how a file with these columns is read; `columns` has all that `FORMAT` requires."""
    # A file with both would tell the same thing twice: the official columns win.
    labelled = LABEL in columns and not {"is_like", "is_hate"} & set(columns)
    known = {*COLUMNS, LABEL} if labelled else {*COLUMNS}
    flags = [flag for flag in (*FLAGS, RANDOM) if flag in columns]
    feedback = {kind: pl.col(flag).cast(pl.Float64) for flag, kind in FLAGS.items() if flag in columns}
    if labelled:
        flags.append(LABEL)
        feedback["like"] = indicator(pl.col(LABEL) == 1)
        feedback["hate"] = indicator(pl.col(LABEL) == 0)
    if PLAY in columns:
        feedback["play"] = seconds(PLAY)
    return Layout(
        format=FORMAT.name,
        columns={column: pl.Int64() if column in known else pl.String() for column in columns},
        unused=frozenset(),
        extra=tuple(column for column in columns if column not in known),
        ts=pl.col(TIME).alias(TS),
        dirt=common_dirt(PLAY if PLAY in columns else None, flags),
        oddities={"duration_missing": _duration_missing()} if DURATION in columns else {},
        feedback=feedback,
        random=pl.col(RANDOM) == 1 if RANDOM in columns else None,
        duration=known_seconds(DURATION) if DURATION in columns else None,
    )


def _duration_missing() -> pl.Expr:
    """The official files write 0 for a video whose length is not known."""
    return pl.col(DURATION).is_null() | (pl.col(DURATION) <= 0)


FORMAT = LogFormat(
    name="KuaiRand",
    marks=frozenset({TIME, PLAY, RANDOM, *FLAGS}),
    required=(USER, ITEM, TIME),
    one_of=(*FLAGS, PLAY, LABEL),
    layout=layout,
)
