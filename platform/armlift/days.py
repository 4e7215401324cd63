"""Time as armlift keeps it: UTC milliseconds, and the days of the lab's time zone.

A day is an integer, the number of days since 1970-01-01 in the lab's zone, so that days can be counted
and subtracted in any SQL dialect.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from armlift.errors import InputError

DAY_MS = 86_400_000
_QUARTER_MS = 900_000
_EPOCH = date(1970, 1, 1)


class Calendar:
    """Days of one time zone.

    Every zone's offset changes at whole quarters of an hour, so the day of a quarter is looked up once
    and remembered.
    """

    def __init__(self, timezone: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InputError(
                f"timezone: {timezone!r} is not a time zone, must be a name such as UTC or Asia/Shanghai"
            ) from error
        self.timezone = timezone
        self._days: dict[int, int] = {}

    def day(self, ts: int) -> int:
        """Give the day (days since 1970-01-01 in this zone) of a time in UTC milliseconds."""
        quarter = ts // _QUARTER_MS
        day = self._days.get(quarter)
        if day is None:
            local = datetime.fromtimestamp(quarter * 900, self.zone).date()
            day = self._days[quarter] = (local - _EPOCH).days
        return day

    def start_of(self, day: int) -> int:
        """Give the first millisecond (UTC) of a day of this zone."""
        local = _EPOCH + timedelta(days=day)
        return int(datetime(local.year, local.month, local.day, tzinfo=self.zone).timestamp() * 1000)

    def parse(self, text: str | date | datetime) -> int:
        """Read a time: ISO 8601, a date alone means its first moment; a time without offset is local.

        Returns UTC milliseconds. Raises InputError for anything else.
        """
        value: datetime
        if isinstance(text, datetime):
            value = text
        elif isinstance(text, date):
            value = datetime(text.year, text.month, text.day)
        else:
            try:
                value = datetime.fromisoformat(text)
            except ValueError as error:
                raise InputError(
                    f"{text!r} is not a time, must be like 2022-04-15 or 2022-04-15T06:30+08:00"
                ) from error
        if value.tzinfo is None:
            value = value.replace(tzinfo=self.zone)
        return int(value.timestamp() * 1000)

    def show(self, ts: int) -> str:
        """Write a time (UTC milliseconds) as ISO 8601 in this zone, to the second."""
        return datetime.fromtimestamp(ts // 1000, self.zone).isoformat(timespec="seconds")


def utc_day(ts: int) -> int:
    """Give the UTC day (days since 1970-01-01) of a time in UTC milliseconds."""
    return ts // DAY_MS


def date_of(day: int) -> str:
    """Write a day number as an ISO date."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def utc_text(ts: int) -> str:
    """Write a time (UTC milliseconds) as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(ts // 1000, UTC).isoformat(timespec="seconds")
