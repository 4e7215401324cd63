"""Activity: sessions, days, hours and weekdays by hand, in a time zone."""

from pathlib import Path

import pytest

from armlift.days import Calendar
from armlift.logs.activity import activity_of
from armlift.logs.reader import open_log
from armlift.logs.rows import read_rows

FRIDAY = 1_649_347_200_000  # 2022-04-08 00:00 in Asia/Shanghai
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def test_by_hand(tmp_path: Path) -> None:
    times = {
        1: [0, 10 * MINUTE, 40 * MINUTE, 71 * MINUTE, DAY + HOUR],  # pauses of 10, 30 and 31 minutes
        2: [23 * HOUR, 23 * HOUR + 50 * MINUTE, DAY + 5 * MINUTE],  # a session over midnight
    }
    lines = [f"{user},{n},{FRIDAY + at},1" for user, own in times.items() for n, at in enumerate(own)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,video_id,time_ms,is_click", *lines]) + "\n")
    found = activity_of(read_rows(open_log([path])), Calendar("Asia/Shanghai"), 30 * MINUTE)
    assert (found.days, found.active_days) == (2, 4)
    assert found.unit_sessions.tolist() == [3, 2]
    assert found.sessions_per_day == pytest.approx(5 / 4)
    assert found.rows_per_session == pytest.approx(8 / 5)
    assert (found.session_rows[0], found.session_rows[50], found.session_rows[-1]) == (1, 1, 3)
    hours = {0: 4, 1: 2, 23: 2}
    assert found.hours.tolist() == [hours.get(hour, 0) / 8 for hour in range(24)]
    assert found.weekdays.tolist() == [0, 0, 0, 0, 6 / 8, 2 / 8, 0]


def test_weekdays_count_by_their_days(tmp_path: Path) -> None:
    lines = [f"1,1,{FRIDAY + day * DAY},1" for day in range(10)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,video_id,time_ms,is_click", *lines]) + "\n")
    found = activity_of(read_rows(open_log([path])), Calendar("Asia/Shanghai"), 30 * MINUTE)
    assert found.weekdays == pytest.approx([1 / 7] * 7)
