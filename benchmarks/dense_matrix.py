"""A generated dense matrix in KuaiRec's columns: each user meets nearly each video once, at a random time."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FIRST = 1_593_878_400_000
"""The first moment (UTC milliseconds) of the matrix, 2020-07-05 in Asia/Shanghai."""
DAY_MS = 86_400_000
HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"


class DenseMatrix(NamedTuple):
    """What was written: arrays [users, videos] of the chance of a long view, and of what came of it.

    `ts` is in UTC milliseconds, `play` in seconds; `observed` says which pairs the file has. Users and videos
    are named by their places.
    """

    path: Path
    chance: npt.NDArray[np.float64]
    observed: npt.NDArray[np.bool_]
    ts: npt.NDArray[np.int64]
    long_view: npt.NDArray[np.bool_]
    play: npt.NDArray[np.float64]


def write_matrix(
    path: Path,
    *,
    users: int = 60,
    videos: int = 40,
    days: int = 10,
    missing: float = 0.004,
    forced: float = 0.0,
    spread: float = 1.0,
    seed: int = 0,
    video_seed: int = 0,
) -> DenseMatrix:
    """Write a matrix; `spread` is that of videos' log odds of a long view, `missing` the share of pairs.

    `forced` is the share of pairs without a time; the arrays have their time after all others.
    """
    rng, catalogue = np.random.default_rng(seed), np.random.default_rng([video_seed, 1])
    odds = catalogue.normal(0, spread, videos) + rng.normal(0, 0.7, users)[:, None] - 0.5
    chance = 1 / (1 + np.exp(-odds))
    duration = catalogue.integers(5_000, 60_000, videos)
    shape = (users, videos)
    observed = rng.random(shape) >= missing
    ts = FIRST + (rng.random(shape) * days * DAY_MS).astype(np.int64)
    long_view = rng.random(shape) < chance
    needed = np.minimum(duration, 18_000)
    play = np.where(long_view, needed * (1 + rng.random(shape)), needed * rng.random(shape) * 0.99)
    play_ms = play.astype(np.int64)
    forced_pairs = rng.random(shape) < forced
    ts[forced_pairs] = FIRST + days * DAY_MS
    rows = sorted((int(ts[at]), *at) for at in zip(*np.nonzero(observed), strict=True))
    lines = [
        f"{user},{video},{play_ms[user, video]},{duration[video]},,,"
        f"{'' if forced_pairs[user, video] else f'{when / 1000:.3f}'},"
        for when, user, video in rows
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return DenseMatrix(path, chance, observed, ts, long_view, play_ms / 1000)
