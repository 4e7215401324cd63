"""Activity: when units of a log come, how often, and how much they look at.

A session is a unit's rows without a pause over the gap. Days, hours and weekdays are those of a calendar.
"""

from dataclasses import dataclass

import numpy as np

from armlift.days import Calendar
from armlift.logs.rows import Floats, Ints, Rows

HOUR_MS = 3_600_000
QUANTILES = np.linspace(0, 1, 101)
_THURSDAY = 3
"""The weekday (Monday is 0) of day 0, 1970-01-01."""


@dataclass(frozen=True, eq=False)
class Activity:
    """What rows tell of their units' coming and going.

    `days` is the number of days from the first row to the last, `active_days` the unit-days with a row.
    `unit_sessions` counts each unit's sessions, int64 [units]. Means are `sessions_per_day`, of a unit-day
    with a row, and `rows_per_session`; `session_rows` has the quantiles of the latter at `QUANTILES`. Shares
    of rows by hour of the day, float64 [24], and by weekday, float64 [7] from Monday, add up to 1; weekdays
    count by the days of each that the log has, so that all are 1/7 where nothing changes from day to day.
    """

    days: int
    active_days: int
    unit_sessions: Ints
    sessions_per_day: float
    rows_per_session: float
    session_rows: Floats
    hours: Floats
    weekdays: Floats


def activity_of(rows: Rows, calendar: Calendar, gap_ms: int) -> Activity:
    """Measure the activity of units over rows, at least one; a pause over `gap_ms` ends a session."""
    first, last = calendar.day(int(rows.ts[0])), calendar.day(int(rows.ts[-1]))
    starts = np.array([calendar.start_of(day) for day in range(first, last + 2)], dtype=np.int64)
    day = np.searchsorted(starts, rows.ts, side="right") - 1
    hour = np.minimum((rows.ts - starts[day]) // HOUR_MS, 23)
    order = np.lexsort((rows.ts, rows.unit))
    unit, ts = rows.unit[order], rows.ts[order]
    begins = np.ones(len(ts), dtype=np.bool_)
    begins[1:] = (unit[1:] != unit[:-1]) | (np.diff(ts) > gap_ms)
    lengths = np.diff(np.append(np.flatnonzero(begins), len(ts)))
    days = len(starts) - 1
    active = len(np.unique(rows.unit.astype(np.int64) * days + day))
    return Activity(
        days=days,
        active_days=active,
        unit_sessions=np.bincount(unit[begins], minlength=len(rows.units)),
        sessions_per_day=len(lengths) / active,
        rows_per_session=len(rows) / len(lengths),
        session_rows=np.quantile(lengths, QUANTILES),
        hours=np.bincount(hour, minlength=24) / len(rows),
        weekdays=_weekdays(np.bincount(day, minlength=days), first),
    )


def _weekdays(rows: Ints, first: int) -> Floats:
    """Give the shares of weekdays from the rows of each day, the first of which is day `first`."""
    weekday = (first + _THURSDAY + np.arange(len(rows))) % 7
    days = np.bincount(weekday, minlength=7)
    means = np.bincount(weekday, rows, 7) / np.maximum(days, 1)
    shares: Floats = means / means.sum()
    return shares
