"""How near a log comes to the published figures of KuaiRand (see `published` for the sources).

A tolerance allows for the model, a stated share or distance, and for the sample: 3.29 standard errors, which
99.9 % of samples keep. Impressions of one session are alike, so rates take sessions as clusters; counts per
user-day take users. Figures that grow with the catalogue have no tolerance and are given for orientation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from armlift.errors import InputError
from armlift.logs import published
from armlift.logs.published import Floats

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_Z = 3.29
_POSITIVE = ("is_like", "is_follow", "is_comment", "is_forward")
_COLUMNS = (
    "user_id", "video_id", "time_ms", "is_click", *_POSITIVE, "is_hate", "long_view", "is_profile_enter",
    "is_rand", "tab",
)  # fmt: skip
# What the model may miss by: of a main rate (tastes drift away from those it was fitted on), of a rare
# action's rate (as a share of it), of a tab's or an hour's share, of the hours' correlation, and of counts
# (as a share; users who occur on no day are not counted).
_RATE, _RARE, _TAB, _HOUR, _CORRELATION, _COUNT = 0.01, 0.2, 0.005, 0.01, 0.05, 0.05
# Rates of tabs with less of the log than this are left out.
_TAB_SHOWN = 0.01


@dataclass(frozen=True)
class Figure:
    """One published figure beside the log's; `holds` and `tolerance` are None where it is for orientation.

    `measured` is None where the log has no such impressions.
    """

    name: str
    published: float
    measured: float | None
    tolerance: float | None

    @property
    def holds(self) -> bool | None:
        """Tell whether the log is within the tolerance; None where that cannot be told."""
        if self.measured is None or self.tolerance is None:
            return None
        return abs(self.measured - self.published) <= self.tolerance


@dataclass(frozen=True)
class _Log:
    """A log by user and time, arrays [n]; `session` numbers sessions from 0, `day` and `hour` are local."""

    columns: dict[str, Ints]
    session: Ints
    day: Ints
    hour: Ints

    def kind(self, random: bool) -> Bools:
        chosen: Bools = self.columns["is_rand"] == int(random)
        return chosen


def measure(path: Path, timezone: str = published.TIMEZONE) -> list[Figure]:
    """Measure a log in KuaiRand's schema against the published figures; `timezone` gives days and hours.

    The log is read whole. Raises InputError where it cannot be read or lacks one of the columns needed.
    """
    log = _read(path, timezone)
    return [
        *_main_rates(log),
        *_rare_rates(log),
        *_tab_figures(log),
        *_activity(log),
        *_hours(log),
        *_concentration(log),
    ]


def render(figures: Sequence[Figure]) -> str:
    """Write figures as a table of text: published, measured, tolerance, and whether it holds."""
    words = {True: "yes", False: "NO", None: "for orientation"}
    header = f"{'figure':<38}{'published':>11}{'measured':>11}{'tolerance':>11}  holds"
    lines = [
        f"{figure.name:<38}{figure.published:>11.4f}{_number(figure.measured)}{_number(figure.tolerance)}  "
        + ("no such rows" if figure.measured is None else words[figure.holds])
        for figure in figures
    ]
    return "\n".join([header, *lines])


def _number(value: float | None) -> str:
    return f"{'-':>11}" if value is None else f"{value:>11.4f}"


def _read(path: Path, timezone: str) -> _Log:
    clock = pl.from_epoch("time_ms", time_unit="ms").dt.replace_time_zone("UTC")
    local = clock.dt.convert_time_zone(timezone)
    gap = pl.col("time_ms").diff().over("user_id") > published.SESSION_GAP_MS
    try:
        frame = (
            pl.scan_csv(path, schema_overrides=dict.fromkeys(_COLUMNS, pl.Int64))
            .select(_COLUMNS)
            .sort("user_id", "time_ms", maintain_order=True)
            .with_columns(
                session=gap.fill_null(True).cum_sum().cast(pl.Int64) - 1,
                day=local.dt.date().cast(pl.Int32).cast(pl.Int64),
                hour=local.dt.hour().cast(pl.Int64),
            )
            .collect()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be measured: {str(error).splitlines()[0]}") from error
    if frame.is_empty():
        raise InputError(f"{path}: has no rows to measure")
    columns = {name: frame[name].to_numpy() for name in _COLUMNS}
    return _Log(columns, *(frame[name].to_numpy() for name in ("session", "day", "hour")))


def _rate(
    log: _Log,
    name: str,
    target: float,
    happened: Bools,
    rows: Bools,
    *,
    absolute: float = 0,
    relative: float = 0,
) -> Figure:
    """Compare a rate over `rows`, with the standard error of a ratio over sessions."""
    count = int(rows.sum())
    if count == 0:
        return Figure(name, target, None, None)
    measured = float(happened[rows].mean())
    excess = np.bincount(log.session[rows], happened[rows] - measured)
    # What is rare may not have happened at all, and has an error none the less: at least that of single rows.
    error = max(math.sqrt(float(excess @ excess)), math.sqrt(target * (1 - target) * count)) / count
    return Figure(name, target, measured, absolute + relative * target + _Z * error)


def _main_rates(log: _Log) -> list[Figure]:
    targets = {
        "is_click": ("click rate", published.CLICK_RANDOM, published.CLICK_STANDARD),
        "long_view": ("long view rate", published.LONG_VIEW_RANDOM, published.LONG_VIEW_STANDARD),
    }
    return [
        _rate(
            log,
            f"{name}, {kind}",
            target,
            log.columns[column] == 1,
            log.kind(kind == "random"),
            absolute=_RATE,
        )
        for column, (name, *rates) in targets.items()
        for kind, target in zip(("random", "standard"), rates, strict=True)
    ]


def _rare_rates(log: _Log) -> list[Figure]:
    positive = np.max([log.columns[name] for name in _POSITIVE], axis=0) == 1
    targets = (
        ("positive", positive, published.POSITIVE_RANDOM, published.POSITIVE_STANDARD),
        ("hate", log.columns["is_hate"] == 1, published.HATE_RANDOM, published.HATE_STANDARD),
        (
            "profile",
            log.columns["is_profile_enter"] == 1,
            published.PROFILE_RANDOM,
            published.PROFILE_STANDARD,
        ),
    )
    return [
        _rate(log, f"{name} rate, {kind}", target, happened, log.kind(kind == "random"), relative=_RARE)
        for name, happened, *rates in targets
        for kind, target in zip(("random", "standard"), rates, strict=True)
    ]


def _tab_figures(log: _Log) -> list[Figure]:
    standard, tab = log.kind(False), log.columns["tab"]
    shares, rates = published.TAB_SHARES, published.TAB_CLICK_RATES
    # Users stay in a tab for a while, so rows are alike within such a stay, not within a whole session.
    stay = np.cumsum((np.diff(log.session, prepend=-1) > 0) | (np.diff(tab, prepend=tab[0]) != 0))
    name = "tab shares, largest difference"
    figures = [_largest_miss(name, shares[0], tab[standard], stay[standard], _TAB)]
    figures.append(
        _rate(log, "share of tab 1, random", float(shares[1, 1]), tab == 1, log.kind(True), absolute=_TAB)
    )
    for number in np.flatnonzero(shares[0] > _TAB_SHOWN):
        rows, clicked = standard & (tab == number), log.columns["is_click"] == 1
        name = f"click rate, standard, tab {number}"
        figures.append(_rate(log, name, float(rates[0, number]), clicked, rows, absolute=2 * _RATE))
    return figures


def _largest_miss(name: str, shares: Floats, values: Ints, clusters: Ints, absolute: float) -> Figure:
    """Compare shares of values 0, 1, ...: the largest difference, which should be 0."""
    count = len(values)
    if count == 0:
        return Figure(name, 0.0, None, None)
    measured = np.bincount(values, minlength=len(shares))[: len(shares)] / count
    # Many shares are compared, so the error is that of the one which varies most.
    error = math.sqrt(float(np.max(shares * (1 - shares))) / _independent(clusters))
    return Figure(name, 0.0, float(np.abs(measured - shares).max()), absolute + _Z * error)


def _independent(clusters: Ints) -> float:
    """Give how many independent rows vary as much as these, if rows of a cluster are all alike."""
    sizes = np.bincount(clusters).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes @ sizes))


def _activity(log: _Log) -> list[Figure]:
    """Compare sessions and rows per user-day: users that occur, times days that occur."""
    users, user = np.unique(log.columns["user_id"], return_inverse=True)
    days = len(np.unique(log.day))
    begins = np.diff(log.session, prepend=-1)
    per_user = {
        "sessions per user-day": (published.SESSIONS_PER_DAY, np.bincount(user, begins) / days),
        "rows per user-day": (published.ROWS_PER_USER_DAY, np.bincount(user) / days),
    }
    return [
        Figure(
            name,
            target,
            float(counts.mean()),
            _COUNT * target + _Z * float(counts.std()) / math.sqrt(len(users)),
        )
        for name, (target, counts) in per_user.items()
    ]


def _hours(log: _Log) -> list[Figure]:
    name = "hour shares, largest difference"
    target = published.HOUR_SHARES
    shares = np.bincount(log.hour, minlength=24) / len(log.hour)
    # Noise in the shares alone lowers a correlation of 1 to this; twice the loss is allowed.
    noise = float(np.mean(target * (1 - target))) / _independent(log.session)
    noisy = 1 / math.sqrt(1 + noise / float(target.var()))
    correlation = float(np.corrcoef(shares, target)[0, 1])
    return [
        _largest_miss(name, target, log.hour, log.session, _HOUR),
        Figure("hour shares, correlation", 1.0, correlation, _CORRELATION + 2 * (1 - noisy)),
    ]


def _concentration(log: _Log) -> list[Figure]:
    """Compare how exposures gather on few videos of those shown; the published catalogue is far larger."""
    targets = (
        ("random", published.TOP_SHARE_RANDOM, published.GINI_RANDOM),
        ("standard", published.TOP_SHARE_STANDARD, published.GINI_STANDARD),
    )
    figures = []
    for kind, top, gini in targets:
        counts = np.bincount(log.columns["video_id"][log.kind(kind == "random")])
        counts = np.sort(counts[counts > 0])
        shown = len(counts) > 0
        figures += [
            Figure(f"top 1 % of videos' share, {kind}", top, _top_share(counts) if shown else None, None),
            Figure(f"Gini of exposures, {kind}", gini, _gini(counts) if shown else None, None),
        ]
    return figures


def _top_share(counts: Ints) -> float:
    return float(counts[-math.ceil(len(counts) / 100) :].sum() / counts.sum())


def _gini(counts: Ints) -> float:
    """Give the Gini coefficient of counts in ascending order."""
    n = len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * counts.sum()))
