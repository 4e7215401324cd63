from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.rendering.forest_axis import AXIS_ROOM, Axis, make_axis, tick_label, tick_values
from armlift.report import Report


@given(st.floats(-50, 50), st.floats(1e-4, 50), st.integers(2, 9))
def test_ticks_are_few_round_and_on_the_axis(low: float, length: float, most: int) -> None:
    high = low + length
    ticks = tick_values(low, high, most)
    assert most / 2.5 - 2 < len(ticks) <= most + 1
    room = 1e-9 * (abs(low) + length)
    assert all(low - room <= tick <= high + room for tick in ticks)
    if len(ticks) > 1:
        step = f"{ticks[1] - ticks[0]:.3e}"
        assert step.partition("e")[0] in ("1.000", "2.000", "2.500", "5.000")


@pytest.mark.parametrize(
    ("low", "high", "most", "labels"),
    [
        (-0.12, 0.31, 5, ["-10%", "0%", "+10%", "+20%", "+30%"]),
        (-0.013, 0.052, 7, ["-1%", "0%", "+1%", "+2%", "+3%", "+4%", "+5%"]),
        (-0.004, 0.004, 4, ["-0.4%", "-0.2%", "0%", "+0.2%", "+0.4%"]),
        (-0.05, 0.11, 7, ["-5%", "-2.5%", "0%", "+2.5%", "+5%", "+7.5%", "+10%"]),
    ],
)
def test_tick_labels(low: float, high: float, most: int, labels: list[str]) -> None:
    assert [tick_label(tick) for tick in tick_values(low, high, most)] == labels


def test_the_axis_holds_what_decides_and_clips_what_dwarfs_it(report: Report) -> None:
    axis = make_axis(report, 7)
    assert axis.low == pytest.approx(-AXIS_ROOM * 0.05)
    assert axis.high == pytest.approx(AXIS_ROOM * 0.05)
    for inside in (0.0, 0.012, 0.05, -0.05, 0.08, 0.12):
        assert axis.holds(inside)
    assert not axis.holds(-0.4)
    assert not axis.holds(0.9)


def test_the_axis_is_no_longer_than_its_intervals(report: Report) -> None:
    axis = make_axis(replace(report, comparisons=report.comparisons[:1]), 7)
    assert axis.low == pytest.approx(-0.04 * 0.05)
    assert axis.high == pytest.approx(1.04 * 0.05)


def test_a_guardrail_makes_room_for_its_point_and_margin(report: Report) -> None:
    first, *_, guardrail = report.comparisons
    narrow = replace(first, lift=0.001, lift_low=-0.001, lift_high=0.002)
    near = replace(guardrail, lift=0.012, lift_low=0.01, lift_high=0.014)
    metrics = {
        **report.metrics,
        "hate_rate": report.metrics["hate_rate"].model_copy(update={"margin": 0.015}),
    }
    axis = make_axis(replace(report, comparisons=[narrow, near], metrics=metrics), 7)
    assert axis.holds(0.015)
    far = make_axis(replace(report, comparisons=[narrow, guardrail]), 7)
    assert far.high == pytest.approx(0.02)


def test_the_axis_without_intervals_has_only_0(report: Report) -> None:
    axis = make_axis(replace(report, comparisons=report.comparisons[3:6]), 7)
    assert list(axis.ticks) == [0.0]
    assert axis.share(0.0) == 0.5


def test_an_axis_without_primary_intervals_is_made_of_the_others(report: Report) -> None:
    axis = make_axis(replace(report, comparisons=report.comparisons[2:3]), 7)
    assert axis.holds(-0.4)
    assert axis.holds(0.9)


def test_shares_run_along_the_axis_and_stop_at_its_ends() -> None:
    axis = Axis(-0.1, 0.3, [])
    assert [axis.share(lift) for lift in (-5, -0.1, 0.1, 0.3, 5)] == pytest.approx([0, 0, 0.5, 1, 1])
