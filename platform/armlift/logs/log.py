"""A log of impressions as armlift sees it, whatever file it came from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SYNTHETIC_USERS_FROM = 9_000_000_000
"""Generated logs draw their user ids from here on; real Kuaishou ids are far below. A reader that meets one
marks the log synthetic, whatever the file is called."""


@dataclass(frozen=True)
class LogSummary:
    """What one pass over the files tells, before anything is replayed.

    `kinds` are the feedback kinds the files can tell; others are `no_data`, never 0. `first_ts` and `last_ts`
    are UTC milliseconds. `random_rows` is None where the files have no flag of random exposure.
    """

    files: tuple[str, ...]
    format: str
    sha256: str
    rows: int
    first_ts: int
    last_ts: int
    ordered: bool
    kinds: frozenset[str]
    random_rows: int | None
    synthetic: bool


@dataclass(frozen=True)
class LogBatch:
    """Impressions in time order, as columns of one length n.

    `ts` is int64 [n], UTC milliseconds; `feedback` maps each kind to float64 [n], 0 where it did not happen
    (`play` in seconds); `random` is bool [n], True where the exposure was uniformly random, None if unknown.
    `duration` is the item's length in seconds, float64 [n], NaN where it is missing; None if the files do not
    tell.
    """

    units: list[str]
    items: list[str]
    ts: npt.NDArray[np.int64]
    feedback: Mapping[str, npt.NDArray[np.float64]]
    random: npt.NDArray[np.bool_] | None
    duration: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.units)
