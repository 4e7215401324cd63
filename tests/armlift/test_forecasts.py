"""Forecasts of units: lags, complete days, and the way back from days to units."""

from typing import cast

import pytest

from armlift.aggregates import Question
from armlift.answers import Answers
from armlift.days import DAY_MS, Calendar
from armlift.forecasts import arrivals_of, units_after, wait
from armlift.stats.arrival import days_left

STEADY = [100] * 14
FALLING = [1000, 500, 330, 250, 200, 165, 140]


class Came:
    """Units that came on given days, as `UnitTotals` tells them."""

    def __init__(self, by_day: dict[int, int]) -> None:
        self._by_day = by_day

    def arrivals(self) -> dict[int, int]:
        return self._by_day


def arrivals(by_day: dict[int, int], as_of: int, zone: str = "Asia/Shanghai") -> list[int]:
    calendar = Calendar(zone)
    question = Question("r", "e", False, as_of, calendar.day(as_of))
    return arrivals_of(cast(Answers, Came(by_day)), question, calendar)


def test_days_begin_with_the_first_unit_and_end_with_the_last_complete_day() -> None:
    midnight = Calendar("Asia/Shanghai").start_of(13)
    assert arrivals({10: 3, 12: 5, 13: 1}, midnight) == [3, 0, 5]
    assert arrivals({10: 3, 12: 5}, midnight - 1) == [3, 0, 5]  # the last millisecond of day 12
    assert arrivals({10: 3, 12: 5}, midnight - 2) == [3, 0]
    assert arrivals({10: 3}, midnight + 2 * DAY_MS) == [3, 0, 0, 0, 0]
    assert arrivals({}, midnight) == []


def test_steady_arrivals_wait_in_proportion() -> None:
    found = wait(STEADY, 2100)
    assert found.status == "ok"
    assert found.days in (7, 8)  # curves that fall off a little have some weight too
    assert wait(STEADY, 2100, lag=3).days == found.days + 3
    assert wait([100, 100], 2100).status == "no_data"


@pytest.mark.parametrize(
    ("needed", "lag", "days"), [(1400, 0, 0), (1400, 7, 7), (1000, 7, 3), (700, 7, 0), (1, 14, 1), (1, 13, 0)]
)
def test_units_that_came_but_do_not_count_yet(needed: int, lag: int, days: int) -> None:
    found = wait(STEADY, needed, lag=lag)
    assert (found.days, found.low, found.high) == (days, days, days)
    assert found.status == ("ok" if days else "reached")


@pytest.mark.parametrize("came", [STEADY, FALLING])
@pytest.mark.parametrize("days", [1, 7, 30])
def test_units_after_is_the_way_back(came: list[int], days: int) -> None:
    units = units_after(came, days)
    assert units is not None
    assert days_left(came, units).days == days
    assert (days_left(came, units + 1).days or 999) > days


def test_units_after_looks_back_and_knows_when_it_cannot_know() -> None:
    assert units_after(FALLING, 0) == sum(FALLING)
    assert units_after(FALLING, -5) == 1500
    assert units_after(FALLING, -50) == 0
    assert units_after([5, 5], 3) is None
    assert units_after([], 3) is None
