"""Times and days: the laws of a calendar, and what is read and written."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.days import DAY_MS, Calendar, read_time, utc_day, utc_text
from armlift.errors import InputError

# Half and quarter hours, both sides of the date line, clocks changed at midnight, and one minute after it.
ZONES = (
    "UTC",
    "Asia/Shanghai",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
)
CALENDARS = {zone: Calendar(zone) for zone in ZONES}
zones = st.sampled_from(ZONES)
times = st.integers(0, 4_102_444_800_000)  # to the year 2100


@given(zones, times)
def test_a_day_lasts_until_the_next_begins(zone: str, ts: int) -> None:
    calendar = CALENDARS[zone]
    day = calendar.day(ts)
    assert calendar.start_of(day) <= ts < calendar.start_of(day + 1)
    assert abs(day - utc_day(ts)) <= 1


@given(zones, times, times)
def test_days_never_go_back(zone: str, one: int, other: int) -> None:
    calendar = CALENDARS[zone]
    early, late = sorted((one, other))
    assert calendar.day(early) <= calendar.day(late)


@given(st.sampled_from([zone for zone in ZONES if zone != "America/St_Johns"]), times)
def test_a_day_is_the_local_date(zone: str, ts: int) -> None:
    local = datetime.fromtimestamp(ts / 1000, ZoneInfo(zone)).date()
    assert CALENDARS[zone].day(ts) == (local - date(1970, 1, 1)).days


@given(zones, times.filter(lambda ts: ts >= DAY_MS))
def test_what_is_shown_is_read_back_to_the_second(zone: str, ts: int) -> None:
    calendar = CALENDARS[zone]
    assert calendar.parse(calendar.show(ts)) == ts // 1000 * 1000


@given(st.integers(0, 253_000_000_000_000))
def test_every_millisecond_is_kept(ts: int) -> None:
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts)).isoformat()
    assert CALENDARS["Asia/Shanghai"].parse(text) == ts


@given(zones, st.dates(date(1970, 1, 2), date(2100, 1, 1)))
def test_a_date_is_its_first_moment(zone: str, when: date) -> None:
    calendar = CALENDARS[zone]
    start = calendar.start_of((when - date(1970, 1, 1)).days)
    assert calendar.parse(when) == calendar.parse(when.isoformat()) == start
    # The day before ends there.
    assert calendar.day(start - 1) < calendar.day(start)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2024-03-31", 23),
        ("Europe/Berlin", "2024-10-27", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),  # the clocks go from 0:00 to 1:00
        ("America/Havana", "2023-11-05", 25),  # the clocks go from 1:00 to 0:00
        ("Australia/Lord_Howe", "2024-04-07", 24.5),
        ("Pacific/Apia", "2011-12-29", 24),
        ("Pacific/Apia", "2011-12-30", 0),  # left out when the date line moved
        ("Asia/Shanghai", "2022-04-08", 24),
        ("UTC", "2022-04-08", 24),
    ],
)
def test_the_length_of_days(zone: str, day: str, hours: float) -> None:
    calendar = Calendar(zone)
    number = (date.fromisoformat(day) - date(1970, 1, 1)).days
    assert calendar.start_of(number + 1) - calendar.start_of(number) == hours * 3_600_000


def test_clocks_put_back_over_midnight_do_not_bring_the_day_back() -> None:
    # In St. John's, 2010-11-07 0:01 was followed by 2010-11-06 23:01.
    calendar = Calendar("America/St_Johns")
    midnight = calendar.parse("2010-11-07")
    day = calendar.day(midnight)
    assert [calendar.day(midnight + 60_000 * minute) - day for minute in (-1, 0, 1, 30, 61, 62)] == [
        -1,
        0,
        0,
        0,
        0,
        0,
    ]


def test_shanghai_is_eight_hours_ahead() -> None:
    calendar = Calendar("Asia/Shanghai")
    assert calendar.parse("2022-04-08") == 1_649_347_200_000
    assert calendar.parse("2022-04-08T06:30") == calendar.parse("2022-04-07T22:30Z")
    assert calendar.parse("2022-04-08T06:30+09:00") == calendar.parse("2022-04-08T05:30")
    assert calendar.parse(datetime(2022, 4, 8, 6, 30)) == calendar.parse("2022-04-08T06:30")
    assert calendar.show(1_649_347_200_999) == "2022-04-08T00:00:00+08:00"
    assert calendar.day(1_649_347_199_999) + 1 == calendar.day(1_649_347_200_000) == 19_090
    assert utc_day(1_649_347_200_000) == 19_089
    assert utc_text(1_649_347_200_000) == "2022-04-07T16:00:00+00:00"
    assert utc_day(DAY_MS - 1) == 0


@pytest.mark.parametrize(
    "text", ["nonsense", "", "2022-13-01", "2022-02-30", "08/04/2022", "1649347200", "now"]
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(
        InputError, match=r"is not a time, must be like 2022-04-15 or 2022-04-15T06:30\+08:00"
    ):
        read_time(text)
    with pytest.raises(InputError, match="is not a time"):
        Calendar("UTC").parse(text)


@pytest.mark.parametrize("text", ["1969-12-31", "0001-01-01", "9999-01-01"])
def test_times_beyond_the_calendar_are_refused(text: str) -> None:
    for calendar in CALENDARS.values():
        with pytest.raises(InputError, match=f"{text} is out of range, must be in the years 1970 to 9998"):
            calendar.parse(text)


def test_days_beyond_the_calendar_are_refused() -> None:
    with pytest.raises(InputError, match="is out of range, must be in the years 1970 to 9998"):
        Calendar("Asia/Shanghai").day(1 << 48)


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../../etc/passwd", "/etc/localtime", "asia", "UTC\0"])
def test_other_zones_are_refused(zone: str) -> None:
    with pytest.raises(InputError, match="is not a time zone, must be a name such as UTC or Asia/Shanghai"):
        Calendar(zone)


def test_a_date_alone_may_mean_its_end() -> None:
    shanghai = Calendar("Asia/Shanghai")
    end = shanghai.parse("2022-04-16") - 1
    assert shanghai.parse_end("2022-04-15") == end
    assert shanghai.parse_end("2022-04-15T00:00") == shanghai.parse("2022-04-15")
    assert shanghai.parse_end("2022-04-15T23:59:59.999+08:00") == end
    berlin = Calendar("Europe/Berlin")
    assert berlin.parse_end("2022-10-30") - berlin.parse("2022-10-30") == 25 * 3_600_000 - 1
