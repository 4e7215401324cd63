"""The timetable: what is due when, over downtime, set clocks and nights on which clocks change."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, inspect, select

from armlift.errors import InputError
from armlift.nightly import Schedule
from armlift.store.database import connect, scratch, upgrade
from armlift_pipelines.clocks import SetClock, millis
from armlift_pipelines.timetable import Timetable, WallClock, planned, trigger_of

NIGHTLY = WallClock("30 3 * * *", "UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clock(text: str) -> SetClock:
    return SetClock(millis(at(text)))


def test_a_job_is_due_once_a_night(engine: Engine) -> None:
    mine = clock("2026-01-01T12:00")
    timetable = Timetable(engine, mine)
    timetable.plan("nightly", NIGHTLY)
    assert timetable.due() == []
    mine.set(millis(at("2026-01-02T03:29:59")))
    assert timetable.due() == []
    mine.set(millis(at("2026-01-02T03:30")))
    ((job, times),) = timetable.due()
    assert (job, times) == ("nightly", [at("2026-01-02T03:30")])
    assert timetable.due() == []
    assert timetable.next_times() == {"nightly": at("2026-01-03T03:30")}
    timetable.shutdown()
    assert "apscheduler_jobs" not in inspect(engine).get_table_names()  # it is in a table of ours


def test_a_timetable_that_ends_leaves_the_connections_of_others(engine: Engine) -> None:
    timetable, pool = Timetable(engine, clock("2026-01-01T12:00")), engine.pool
    with engine.connect() as connection:
        timetable.shutdown()
        assert connection.scalar(select(1)) == 1
    assert engine.pool is pool  # where the connection has come back to, and is closed with the engine


def test_what_was_missed_is_due_after_downtime_at_once(engine: Engine) -> None:
    before = Timetable(engine, clock("2026-01-01T12:00"))
    before.plan("nightly", NIGHTLY)
    before.shutdown()
    after = Timetable(engine, clock("2026-01-05T10:00"))
    after.plan("nightly", NIGHTLY)  # the same: its next time is kept
    ((job, times),) = after.due()
    assert job == "nightly"
    assert [time.day for time in times] == [2, 3, 4, 5]
    assert after.due() == []
    after.shutdown()


def test_a_changed_schedule_begins_anew(engine: Engine) -> None:
    mine = clock("2026-01-01T12:00")
    timetable = Timetable(engine, mine)
    timetable.plan("nightly", NIGHTLY)
    timetable.plan("nightly", WallClock("0 13 * * *", "UTC"))
    assert timetable.next_times() == {"nightly": at("2026-01-01T13:00")}
    timetable.plan("nightly", WallClock("0 13 * * *", "Asia/Shanghai"))
    assert timetable.next_times() == {"nightly": at("2026-01-02T05:00")}
    timetable.shutdown()


def test_two_share_one_timetable(engine: Engine) -> None:
    mine = clock("2026-01-01T12:00")
    one, other = Timetable(engine, mine), Timetable(engine, mine)
    for timetable in (one, other):
        timetable.plan("nightly", NIGHTLY)
    mine.set(millis(at("2026-01-02T04:00")))
    assert [len(timetable.due()) for timetable in (one, other)] == [1, 0]
    for timetable in (one, other):
        timetable.shutdown()


def test_two_that_look_at_the_same_moment_find_a_job_due_once(engine: Engine) -> None:
    mine = clock("2026-01-01T12:00")
    timetables = [Timetable(engine, mine) for _ in range(2)]
    timetables[0].plan("nightly", NIGHTLY)
    with ThreadPoolExecutor(2) as pool:
        for night in range(1, 31):
            mine.set(millis(at("2026-01-01T04:00") + timedelta(days=night)))
            found = [*pool.map(lambda one: one.due(), timetables)]
            assert [len(due) for due in found] in ([0, 1], [1, 0])
    for timetable in timetables:
        timetable.shutdown()


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 0 * * *", "59 23 * * *", "0 3 * * *", "15 1 * * *"])
@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Asia/Shanghai",
        "Africa/Cairo",
    ],
)
def test_every_day_has_one_night_also_where_clocks_change(zone: str, cron: str) -> None:
    trigger, here = WallClock(cron, zone), ZoneInfo(zone)
    for year in (2018, 2026):
        first = trigger.get_next_fire_time(None, datetime(year, 1, 1, tzinfo=here))
        assert first is not None
        fired = [first]
        while fired[-1].astimezone(here).year == year:
            after = trigger.get_next_fire_time(fired[-1], fired[-1])
            assert after is not None
            fired.append(after)
        days = [moment.astimezone(here).date() for moment in fired[:-1]]
        expected = [days[0] + timedelta(days=number) for number in range(len(days))]
        assert days == expected
        assert len(days) >= 365


def test_a_time_that_clocks_jump_over_comes_an_hour_later_and_one_shown_twice_comes_once() -> None:
    trigger = WallClock("30 2 * * *", "Europe/Berlin")
    spring = trigger.get_next_fire_time(None, at("2026-03-28T12:00"))
    autumn = trigger.get_next_fire_time(None, at("2026-10-24T12:00"))
    assert (spring, autumn) == (at("2026-03-29T01:30"), at("2026-10-25T00:30"))
    assert trigger.get_next_fire_time(autumn, at("2026-10-25T01:00")) == at("2026-10-26T01:30")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40 * 24 * 60), min_size=1, max_size=30))
def test_however_the_clock_moves_no_night_is_left_out_or_done_twice(minutes: list[int]) -> None:
    """Time goes on in any steps; in the end every night up to now was due exactly once."""
    with scratch() as store:
        mine = clock("2026-03-01T00:00")
        timetable = Timetable(store, mine)
        timetable.plan("nightly", WallClock("30 2 * * *", "Europe/Berlin"))
        done: list[datetime] = []
        for minute in minutes:  # a clock that is set back stands still
            mine.set(millis(at("2026-03-01T00:00")) + minute * 60_000)
            done += [time for due in timetable.due() for time in due.times]
        timetable.shutdown()
    berlin = ZoneInfo("Europe/Berlin")
    days = [time.astimezone(berlin).date() for time in done]
    end = at("2026-03-01T00:00") + timedelta(minutes=max(minutes))
    assert days == [days[0] + timedelta(days=number) for number in range(len(days))] if days else True
    last = WallClock("30 2 * * *", "Europe/Berlin").get_next_fire_time(None, end + timedelta(minutes=1))
    assert last is not None
    assert len(days) == (last.astimezone(berlin).date() - datetime(2026, 3, 1).date()).days


@pytest.mark.parametrize(
    ("cron", "zone", "reason"),
    [
        ("30 3 * *", None, "has 4 fields, must have five"),
        ("61 3 * * *", None, "higher than the maximum value"),
        ("x 3 * * *", None, "Unrecognized expression"),
        ("30 3 * * 1", None, "the day of week is '1', must be by name, like mon-fri"),
        ("30 3 * * *", "Mars/Olympus", "Mars/Olympus"),
    ],
)
def test_what_is_no_schedule_is_refused(cron: str, zone: str | None, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        trigger_of(Schedule(cron=cron, timezone=zone), "UTC")


def test_a_schedule_is_in_the_labs_zone_unless_it_names_one(tmp_path: Path) -> None:
    assert repr(trigger_of(Schedule(cron="0 1 * * mon-fri"), "Asia/Shanghai")).endswith("'Asia/Shanghai')")
    assert repr(trigger_of(Schedule(cron="0 1 * * mon", timezone="UTC"), "Asia/Shanghai")).endswith("'UTC')")


def test_what_is_planned_can_be_read_without_writing(tmp_path: Path) -> None:
    file = f"sqlite:///{tmp_path / 'armlift.db'}"
    engine = connect(file, tmp_path)
    upgrade(engine)
    reader = connect(file, tmp_path, read_only=True)
    with reader.connect() as connection:
        assert planned(connection) == {}
    timetable = Timetable(engine, clock("2026-01-01T12:00"))
    timetable.plan("nightly", NIGHTLY)
    timetable.plan("monitor", WallClock("*/5 * * * *", "UTC"))
    with reader.connect() as connection:
        found = planned(connection)
    assert found == {"monitor": millis(at("2026-01-01T12:00")), "nightly": millis(at("2026-01-02T03:30"))}
    assert found == {job: millis(moment) for job, moment in timetable.next_times().items()}
    timetable.shutdown()
    for one in (engine, reader):
        one.dispose()
