"""Time as armlift keeps it: UTC milliseconds, and the days of the lab's time zone.

A day is an integer, the number of days since 1970-01-01 in the lab's zone, so that days can be counted
and subtracted in any SQL dialect.
"""

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from armlift.errors import InputError

DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = (date.max - date(1970, 1, 1)).days
_YEARS = range(1970, 9999)
_IN_YEARS = f"must be in the years {_YEARS[0]} to {_YEARS[-1]}"


class Calendar:
    """Days of one time zone.

    A day lasts from its first moment to that of the next one, also where clocks are put back over midnight.
    """

    def __init__(self, timezone: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InputError(
                f"timezone: {timezone!r} is not a time zone, must be a name such as UTC or Asia/Shanghai"
            ) from error
        self.timezone = timezone
        self._starts: dict[int, int] = {}
        self._last = (0, 0, 0)

    def day(self, ts: int) -> int:
        """Give the day (days since 1970-01-01 in this zone) of a time in UTC milliseconds."""
        start, end, day = self._last  # times are mostly asked for in order
        if not start <= ts < end:
            # No zone is a day away from UTC: the day is the UTC day, the one after or the one before.
            day = ts // DAY_MS + 1
            while self.start_of(day) > ts:
                day -= 1
            self._last = self.start_of(day), self.start_of(day + 1) if day < _LAST_DAY else ts + 1, day
        return day

    def start_of(self, day: int) -> int:
        """Give the first millisecond (UTC) of a day of this zone; raises InputError beyond the year 9999."""
        start = self._starts.get(day)
        if start is None:
            try:
                local = datetime(1970, 1, 1, tzinfo=self.zone) + timedelta(days=day)
            except OverflowError as error:
                raise InputError(f"day {day} is out of range, {_IN_YEARS}") from error
            start = self._starts[day] = _millis(local)
        return start

    def parse(self, text: str | date | datetime) -> int:
        """Read a time: ISO 8601, a date alone means its first moment; a time without offset is local.

        Returns UTC milliseconds. Raises InputError for anything else.
        """
        value = read_time(text) if isinstance(text, str) else text
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if value.year not in _YEARS:
            raise InputError(f"{text!s} is out of range, {_IN_YEARS}")
        return _millis(value.replace(tzinfo=self.zone) if value.tzinfo is None else value)

    def parse_end(self, text: str) -> int:
        """Read a time as `parse` does, but a date alone means its last millisecond."""
        ts = self.parse(text)
        try:
            date.fromisoformat(text)
        except ValueError:
            return ts
        return self.start_of(self.day(ts) + 1) - 1

    def show(self, ts: int) -> str:
        """Write a time (UTC milliseconds) as ISO 8601 in this zone, to the second."""
        return datetime.fromtimestamp(ts // 1000, self.zone).isoformat(timespec="seconds")


def read_time(text: str) -> datetime:
    """Read ISO 8601, a date alone as its midnight; raises InputError for anything else."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is not a time, must be like 2022-04-15 or 2022-04-15T06:30+08:00"
        ) from error


def _millis(value: datetime) -> int:
    # In whole numbers: a float loses a millisecond here and there.
    return (value - _EPOCH) // timedelta(milliseconds=1)


def utc_now() -> int:
    """Give the time, in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def utc_day(ts: int) -> int:
    """Give the UTC day (days since 1970-01-01) of a time in UTC milliseconds."""
    return ts // DAY_MS


def utc_text(ts: int) -> str:
    """Write a time (UTC milliseconds) as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(ts // 1000, UTC).isoformat(timespec="seconds")
