"""Logs cut in time: what trains, what is asked for, and what no arm can know."""

from pathlib import Path

import pytest

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.logs.reader import open_log
from armlift.timesplit import LogSource
from armlift.usergroups import by_activity

CUT = 1_649_347_200_000
DAY = 86_400_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a log: (user, video, days from the cut, click, like); there is no column of long views."""
    rows = [
        (1, 10, -2, 1, 0),
        (1, 11, -1, 0, 1),
        (1, 11, 1, 1, 0),  # met before, if by another kind
        (1, 12, 2, 1, 1),
        (1, 13, 3, 1, 0),
        (2, 10, -1, 1, 0),
        (2, 99, 1, 1, 0),  # shown to nobody before the cut
        (3, 12, -1, 0, 1),
        (3, 10, 1, 1, 1),  # nothing clicked before
        (4, 13, 1, 1, 0),  # nothing known before
        (5, 13, -1, 1, 0),  # nothing after
    ]
    lines = [f"{user},{video},{CUT + at * DAY},{click},{like}" for user, video, at, click, like in rows]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,video_id,time_ms,is_click,is_like", *lines]) + "\n")
    return path


def test_the_first_new_item_after_the_cut_is_asked_for(log: Path) -> None:
    source = LogSource(open_log([log]), CUT)
    clicks = source.data(["click", "purchase"])
    assert clicks is not None
    asked = {request.unit: (target, len(request.history), request.ts) for request, target in clicks.asked()}
    assert asked == {"1": ("12", 2, CUT + 2 * DAY), "2": ("99", 1, CUT + DAY)}
    assert (clicks.tested, clicks.skipped, clicks.unknown) == (2, 2, 1)
    assert clicks.items.ids == ["10", "11", "12", "13"]
    assert all(behaviour.ts < CUT for history in clicks.histories() for behaviour in history.behaviours)
    assert source.notes == (
        "click: 1 of 2 targets are items that no row before the cut shows; they count as missed",
    )
    likes = source.data(["like"])
    assert likes is not None
    assert {request.unit: target for request, target in likes.asked()} == {"1": "12", "3": "10"}
    assert clicks.data_hash == likes.data_hash  # what trains is the same
    source.close()


def test_kinds_the_log_lacks_are_told_apart_from_kinds_nobody_gave(log: Path) -> None:
    source = LogSource(open_log([log]), CUT)
    assert source.kinds == {"click", "like"}
    assert source.data(["long_view", "rating"]) is None
    assert source.data(["click"]) is source.data(["click"])


def test_a_cut_needs_rows_on_both_sides(log: Path) -> None:
    for cut in (CUT - 9 * DAY, CUT + 9 * DAY):
        with pytest.raises(InputError, match="must leave rows of the log on both sides"):
            LogSource(open_log([log]), cut)
    source = LogSource(open_log([log]), CUT + 3 * DAY)
    with pytest.raises(InputError, match="like: no unit has such a behaviour before the cut, and one on an"):
        source.data(["like"])


def test_units_are_grouped_by_the_days_on_which_they_did_something(log: Path) -> None:
    source = LogSource(open_log([log]), CUT)
    data = source.data(["click"])
    assert data is not None
    groups = by_activity(Calendar("Asia/Shanghai"))(data, ["click"])
    assert {group.name: set(group.units) for group in groups} == {
        "active days: 1": {"2"},
        "active days: 2": {"1"},
    }
