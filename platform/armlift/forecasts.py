"""Forecasts of a run's units: how many there will be, and in how many days there are enough."""

from collections.abc import Sequence
from typing import NamedTuple

from armlift.aggregates import Question
from armlift.answers import Answers
from armlift.days import Calendar
from armlift.stats.arrival import ArrivalStatus, days_left

HORIZON = 365
"""Days ahead that a forecast looks."""


class Wait(NamedTuple):
    """Days until there are enough units, with the range that holds 80 % of the forecast; unknown is None."""

    status: ArrivalStatus
    days: int | None
    low: int | None
    high: int | None


def arrivals_of(totals: Answers, question: Question, calendar: Calendar) -> list[int]:
    """Give new units of all arms by day, from the first unit's on; a day that is not over is left out."""
    found = totals.arrivals()
    over = question.as_of_day + (calendar.start_of(question.as_of_day + 1) <= question.as_of + 1)
    return [found.get(day, 0) for day in range(min(found, default=over), over)]


def wait(arrivals: Sequence[int], needed: int, *, lag: int = 0) -> Wait:
    """Forecast the days until so many units count; a unit counts `lag` days after it came.

    See `days_left` of `stats.arrival` for the forecast. Days are counted from the last complete day.
    """
    whole = lasting(arrivals, needed, lag=lag)
    left = [
        None if day is None else max(0, day - len(arrivals)) for day in (whole.days, whole.low, whole.high)
    ]
    return Wait("ok" if whole.status == "reached" and left[0] else whole.status, *left)


def lasting(arrivals: Sequence[int], needed: int, *, lag: int = 0) -> Wait:
    """Say in how many days from the first one on so many units count, as `wait` does; known where reached."""
    came = 0
    for day, count in enumerate(arrivals, 1):
        came += count
        if came >= needed:
            return Wait("reached", day + lag, day + lag, day + lag)
    found, seen = days_left(arrivals, needed, horizon=HORIZON), len(arrivals) + lag
    later = [None if day is None else day + seen for day in (found.days, found.days_low, found.days_high)]
    return Wait(found.status, *later)


def units_after(arrivals: Sequence[int], days: int) -> int | None:
    """Forecast how many units will have come `days` days after the last complete one; None if not known.

    It is the largest number that `days_left` expects by then. Negative days look back.
    """
    if days <= 0:
        return sum(arrivals[: max(0, len(arrivals) + days)])

    def there(needed: int) -> bool:
        found = days_left(arrivals, needed, horizon=days)
        return found.status in ("ok", "reached")

    units = sum(arrivals)
    if days_left(arrivals, units + 1).status == "no_data":
        return None
    low, high = units, 2 * units
    while there(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low
