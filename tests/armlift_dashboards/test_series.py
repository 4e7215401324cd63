"""Figures over time: one point a time, none later than asked for, evenly thinned."""

from dataclasses import replace

import pytest

from armlift.lab import Lab
from armlift.rendering.forest_table import ABSOLUTE, RELATIVE
from armlift.report import Report
from armlift.reproduction import stored_report
from armlift.snapshots import named
from armlift.store.database import open_database, reading
from armlift_dashboards.series import MOST_POINTS, arrivals, cumulative
from armlift_dashboards.stored import Taken, all_snapshots, newest_of_each_time


@pytest.fixture(scope="module")
def report(filled: Lab) -> Report:
    engine = open_database(filled, read_only=True)
    taken = next(one for one in all_snapshots(engine, "series") if one.experiment == "demo")
    with reading(engine) as connection:
        found = stored_report(named(connection, taken.id))
    engine.dispose()
    return found


def times(count: int) -> list[Taken]:
    return [Taken(f"s{at}", "r", "demo", at, at) for at in range(count - 1, -1, -1)]


def test_points_come_in_the_order_of_time_up_to_the_time_asked_for(report: Report) -> None:
    found = cumulative(times(5), lambda _: report, RELATIVE, until=3)
    assert [one.at for one in found] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {(one.metric, one.arm) for one in found} == {("click_rate", "recgpt"), ("click_rate", "recgpt1")}
    first = next(one for one in report.comparisons if one.metric == "click_rate")
    assert found[0][4:] == (first.lift, first.lift_low, first.lift_high, first.always_low, first.always_high)


def test_absolute_points_are_differences(report: Report) -> None:
    changed = replace(report, comparisons=[replace(one, difference=0.25) for one in report.comparisons])
    assert {one.value for one in cumulative(times(1), lambda _: changed, ABSOLUTE, until=0)} == {0.25}


def test_long_series_are_thinned_and_keep_the_newest(report: Report) -> None:
    read: list[str] = []

    def tell(snapshot: str) -> Report:
        read.append(snapshot)
        return report

    found = cumulative(times(500), tell, RELATIVE, until=10_000)
    assert len(read) <= MOST_POINTS
    assert found[-1].at == 499
    assert cumulative([], tell, RELATIVE, until=1) == []


def test_of_snapshots_of_one_time_the_one_made_last_counts() -> None:
    taken = [Taken("new", "r", "e", 5, 9), Taken("old", "r", "e", 5, 2), Taken("first", "r", "e", 1, 1)]
    taken.append(Taken("other", "q", "e", 7, 7))
    assert [one.id for one in newest_of_each_time(taken, "r", "e")] == ["new", "first"]


def test_arrivals_are_read_from_what_a_snapshot_keeps() -> None:
    assert [tuple(one) for one in arrivals({"arrivals_by_arm": [["a", 7, 3], ["b", 8, 1]]})] == [
        ("a", 7, 3),
        ("b", 8, 1),
    ]
