"""Rows of an import: columns of any type become units, times, arms and values, or a reason why not."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import polars as pl

from armlift.days import DAY_MS, Calendar
from armlift.errors import InputError
from armlift.events import LARGEST, LATEST, SMALLEST
from armlift.experiment import Experiment
from armlift.hashing import digest
from armlift.mapping import Epoch
from armlift.segments import segment_name

REASON = "reason"
"""The column that says why a row cannot be used; null in rows that can."""
NO_VERSION = "-"
_EARLIEST = 946_684_800_000
"""2000-01-01: numbers that tell an earlier time are in another unit than was said."""
_SCALES: Mapping[Epoch, tuple[int, int]] = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 10**6)}
_LONGEST, _MOST = 200, 2**63 - 1
_TRUE, _FALSE = ("true", "1", "t", "yes"), ("false", "0", "f", "no")

Checks = list[tuple[str, pl.Expr]]
"""Reasons, each with the rows it holds for; the first that holds is given."""


class Reader(NamedTuple):
    """Reads the rows of one experiment; `oldest_day` is the first (UTC) whose events may still come."""

    calendar: Calendar
    epoch: Epoch
    oldest_day: int = 0

    def exposures(
        self, batch: pl.DataFrame, columns: Mapping[str, str], experiment: Experiment, arms: Mapping[str, str]
    ) -> pl.DataFrame:
        """Give unit_id, ts, arm, phase, arm_version, forced, segments and the reason of each row."""
        got = {name: batch[column] for name, column in columns.items()}
        frame = self._begin(got).with_columns(
            arm=texts_of(got["arm"]).replace(arms),
            arm_version=texts_of(got["arm_version"]).fill_null(NO_VERSION)
            if "arm_version" in got
            else pl.lit(NO_VERSION),
            forced_text=texts_of(got["forced"]).str.to_lowercase().fill_null("false")
            if "forced" in got
            else pl.lit("false"),
        )
        values = [segment_name(attribute) for attribute in experiment.analysis.segments]
        frame = frame.with_columns(texts_of(got[name]).alias(name) for name in values)
        starts = [p.start and self.calendar.parse(p.start) for p in experiment.phases]
        reached = [pl.lit(1) if start is None else (pl.col("ts") >= start).cast(pl.Int64) for start in starts]
        by_time = pl.sum_horizontal(reached) - 1
        phase = texts_of(got["phase"]).cast(pl.Int64, strict=False) if "phase" in got else by_time
        frame = frame.with_columns(phase=phase, forced=pl.col("forced_text").is_in(_TRUE))
        early = pl.lit("phase" not in got) & (pl.col("phase") < 0)
        checks: Checks = [
            ("blank_arm", pl.col("arm").is_null()),
            ("unknown_arm", ~pl.col("arm").is_in(list(experiment.arms))),
            ("before_first_phase", early),
            ("bad_phase", pl.col("phase").is_between(0, len(starts) - 1).not_().fill_null(True)),
            ("bad_forced", ~pl.col("forced_text").is_in((*_TRUE, *_FALSE))),
            ("bad_version", _unfit("arm_version")),
            *(("bad_segment", _unfit(name)) for name in values),
        ]
        return _judged(frame, checks).drop("forced_text")

    def events(
        self,
        batch: pl.DataFrame,
        columns: Mapping[str, str],
        known: Collection[str],
        valued: Collection[str],
        kinds: Mapping[str, str],
    ) -> pl.DataFrame:
        """Give unit_id, ts, kind, value and the reason of each row; a kind in `valued` must have a value."""
        got = {name: batch[column] for name, column in columns.items()}
        frame = self._begin(got).with_columns(kind=texts_of(got["kind"]).replace(kinds))
        if "value" in got:
            told = got["value"]
            frame = frame.with_columns(value=numbers_of(told), told=_present(told))
        else:
            frame = frame.with_columns(value=pl.lit(None, pl.Float64), told=pl.lit(False))
        size = pl.col("value").abs()
        checks: Checks = [
            ("blank_kind", pl.col("kind").is_null()),
            ("unknown_kind", ~pl.col("kind").is_in(list(known))),
            ("blank_value", ~pl.col("told") & pl.col("kind").is_in(list(valued))),
            (
                "bad_value",
                pl.col("told") & ~((size == 0) | size.is_between(SMALLEST, LARGEST)).fill_null(False),
            ),
            ("expired", pl.col("ts") < self.oldest_day * DAY_MS),
        ]
        return _judged(frame, checks).with_columns(pl.col("value").fill_null(1.0)).drop("told")

    def _begin(self, got: Mapping[str, pl.Series]) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "unit_id": texts_of(got["unit_id"]),
                "ts": self._times(got["ts"]),
                "timed": _present(got["ts"]),
            }
        )

    def _times(self, told: pl.Series) -> pl.Series:
        """Read times as UTC milliseconds, null where they are none; a time without zone is the lab's."""
        if told.dtype == pl.Date:
            told = told.cast(pl.Datetime("ms"))
        if isinstance(told.dtype, pl.Datetime):
            if told.dtype.time_zone is None:
                zone = self.calendar.timezone
                told = told.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
            found = told.dt.timestamp("ms")
        elif told.dtype.is_numeric():
            found = self._since_1970(told)
        else:
            texts = texts_of(told)
            found = self._since_1970(texts.cast(pl.Int64, strict=False))
            written = pl.Series(
                [self._written(text) for text in texts.filter(found.is_null())], dtype=pl.Int64
            )
            if len(written):
                found = found.scatter(found.is_null().arg_true(), written)
        return found.set(~found.is_between(0, LATEST), None).cast(pl.Int64)

    def _since_1970(self, numbers: pl.Series) -> pl.Series:
        """Turn numbers into UTC milliseconds; null where that is no time of this century."""
        times, over = _SCALES[self.epoch]
        scaled = (numbers.cast(pl.Float64) * times / over).floor() if numbers.dtype.is_float() else None
        if scaled is None:
            whole = numbers.cast(pl.Int64, strict=False)
            # What overflows is no time; multiplying it would wrap round.
            whole = whole.set(~whole.is_between(0, min(LATEST * over // times, _MOST)), None)
            scaled = whole * times // over
        return scaled.set(~scaled.is_between(_EARLIEST, LATEST), None).cast(pl.Int64, strict=False)

    def _written(self, text: str | None) -> int | None:
        if text is None:
            return None
        try:
            return self.calendar.parse(text)
        except InputError:
            return None


def content_of(frame: pl.DataFrame) -> int:
    """Hash the rows of a frame, whatever their order; frames' hashes add up to that of all their rows."""
    text = pl.concat_str(pl.all().cast(pl.String).fill_null("\0"), separator="\x1f")
    return sum(int(digest(row), 16) for row in frame.select(text).to_series())


def name_of(content: int) -> str:
    """Name what was hashed: 32 hexadecimal digits."""
    return f"{content % 2**128:032x}"


def _judged(frame: pl.DataFrame, checks: Checks) -> pl.DataFrame:
    """Say why a row cannot be used, by the first reason that holds."""
    first: Checks = [
        ("blank_unit", pl.col("unit_id").is_null()),
        ("bad_unit", _unfit("unit_id")),
        ("blank_time", ~pl.col("timed")),
        ("bad_time", pl.col("ts").is_null()),
    ]
    reasons = [pl.when(wrong).then(pl.lit(reason)) for reason, wrong in (*first, *checks)]
    return frame.with_columns(pl.coalesce(reasons).alias(REASON)).drop("timed")


def _unfit(column: str) -> pl.Expr:
    """Tell texts that no table can hold."""
    text = pl.col(column)
    return (text.str.len_chars() > _LONGEST) | text.str.contains("\0", literal=True)


def texts_of(column: pl.Series) -> pl.Series:
    """Give values as text, blank ones as null; whole numbers in a float column lose their `.0`."""
    if column.dtype == pl.Object:
        column = pl.Series(column.name, [None if one is None else str(one) for one in column], pl.String)
    elif column.dtype.is_float() and bool((column.is_null() | (column == column.floor())).all()):
        column = column.cast(pl.Int64, strict=False)
    texts = column.cast(pl.String).str.strip_chars()
    return texts.set(texts == "", None)


def str_of(value: object) -> str:
    """Write a value as a column's are: `True` as `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def numbers_of(column: pl.Series) -> pl.Series:
    """Give values as numbers; what is none, or not finite, is null."""
    numbers = (texts_of(column) if column.dtype in (pl.String, pl.Object) else column).cast(
        pl.Float64, strict=False
    )
    return numbers.set(~numbers.is_finite(), None)


def _present(column: pl.Series) -> pl.Series:
    """Tell which values are there."""
    return texts_of(column).is_not_null() if column.dtype in (pl.String, pl.Object) else column.is_not_null()
