"""Generated logs in KuaiRand's schema, for use where no data is at hand.

A log is made of simulated users whose tastes, sessions and answers follow a simple model (`generator_world`,
`generator_policy`, `generator_response`, `generator_day`), fitted to the published figures of KuaiRand
(`generator_fit`, `published`). Its user ids begin at `SYNTHETIC_USERS_FROM`, so that every reader knows it is
synthetic.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.logs.generator_day import World, day_of
from armlift.logs.generator_fit import calibrate
from armlift.logs.generator_settings import GeneratorSettings
from armlift.logs.generator_world import DAY_STREAM, Floats, Ints, Tastes, catalogue_of, population_of
from armlift.logs.kuairand import COLUMNS
from armlift.logs.log import SYNTHETIC_USERS_FROM

__all__ = ["TRUTH_COLUMNS", "GeneratedLog", "GeneratorSettings", "generate", "planted_videos"]

TRUTH_COLUMNS = ("p_click", "p_long_view")


@dataclass(frozen=True)
class GeneratedLog:
    """What was written: rows, users and videos that occur in them, first and last time (UTC milliseconds)."""

    path: Path
    rows: int
    users: int
    videos: int
    first_ts: int
    last_ts: int
    settings: GeneratorSettings


class _Tally:
    """Counts what has been written."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self.users = np.zeros(settings.users, dtype=np.bool_)
        self.videos = np.zeros(settings.videos, dtype=np.bool_)
        self.rows, self.first_ts, self.last_ts = 0, 0, 0

    def add(self, log: dict[str, Ints], first_user: int) -> None:
        ts = log["time_ms"]
        if len(ts) == 0:
            return
        self.users[log["user_id"] - first_user] = True
        self.videos[log["video_id"]] = True
        self.first_ts = self.first_ts if self.rows else int(ts[0])
        self.last_ts = int(ts[-1])
        self.rows += len(ts)


def generate(
    settings: GeneratorSettings,
    path: Path,
    *,
    truth: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GeneratedLog:
    """Write a log in KuaiRand's schema: CSV, 19 integer columns, in time order.

    `truth` names a second CSV with the same rows in the same order: `p_click` and `p_long_view`, the
    probabilities of a click and of a long view given that this user was shown this video there. `progress` is
    called with the days done and the days in all. One day is in memory at a time. Both files appear only when
    they are complete. Raises InputError where a file cannot be written, or where the settings make no row at
    all.
    """
    tally = _Tally(settings)
    with ExitStack() as files:
        log_file = files.enter_context(_replacing(path))
        truth_file = files.enter_context(_replacing(truth)) if truth is not None else None
        for done, (log, chances) in enumerate(_days(settings), start=1):
            _write(log_file, {name: log[name] for name in COLUMNS}, header=done == 1)
            if truth_file is not None:
                _write(truth_file, {name: chances[name] for name in TRUTH_COLUMNS}, header=done == 1)
            tally.add(log, SYNTHETIC_USERS_FROM)
            if progress is not None:
                progress(done, settings.days)
        if tally.rows == 0:
            raise InputError(
                f"{path}: no session in {settings.days} days of {settings.users} users at sessions_per_day "
                f"{settings.sessions_per_day:g}, must be more of one of these"
            )
    users, videos = int(tally.users.sum()), int(tally.videos.sum())
    return GeneratedLog(path, tally.rows, users, videos, tally.first_ts, tally.last_ts, settings)


def planted_videos(settings: GeneratorSettings) -> Ints:
    """List the ids of the videos that carry the planted lift, ascending, int64."""
    return np.flatnonzero(catalogue_of(settings).planted)


def _days(settings: GeneratorSettings) -> Iterator[tuple[dict[str, Ints], dict[str, Floats]]]:
    """Generate day after day, each from a seed of its own: more days change none of the earlier ones."""
    world = World(settings, catalogue_of(settings), population_of(settings), calibrate(settings))
    calendar, tastes = Calendar(settings.timezone), Tastes(settings)
    first = calendar.parse(settings.first_day)
    today = calendar.day(first)
    for number in range(settings.days):
        rng = np.random.default_rng([settings.seed, DAY_STREAM, number])
        if number:
            tastes.drift(rng)
        start, end = calendar.start_of(today + number), calendar.start_of(today + number + 1)
        yield day_of(world, tastes.gains(), rng, start, end - start, _dates(settings, number))


def _dates(settings: GeneratorSettings, number: int) -> tuple[int, int]:
    """Give a day of the log and the day after as YYYYMMDD."""
    day = settings.first_day + timedelta(days=number)
    return int(f"{day:%Y%m%d}"), int(f"{day + timedelta(days=1):%Y%m%d}")


def _write(file: BinaryIO, columns: dict[str, Ints] | dict[str, Floats], *, header: bool) -> None:
    pl.DataFrame(columns).write_csv(file, include_header=header)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place when all went well and vanishes when not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
