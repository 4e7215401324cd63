"""Outlooks of experiments that begin anew, from the figures of a run."""

from math import sqrt

import pytest

from armlift.experiment import Experiment
from armlift.forecasts import units_after, wait
from armlift.outlooks import Outlook, traffic_of
from armlift.planning import Plan

STEADY = [100] * 8


def outlook(*, traffic: float = 1.0, lag: int = 0, all_units: int | None = 2000) -> Outlook:
    plan = Plan(
        "clicks", "primary", "new", "ok", 1, 800, 2.0, 1.0, 0.02,
        smallest_lift=0.1, units_needed=all_units, all_units_needed=all_units,
    )  # fmt: skip
    return Outlook(plan, {"old": 300, "new": 500}, STEADY, lag, traffic)


def test_units_by_arm_have_the_shares_of_the_run() -> None:
    assert outlook().units_by_arm == {"old": 750, "new": 1250}
    assert outlook(all_units=None).units_by_arm is None
    assert outlook(all_units=None).lasts is None


@pytest.mark.parametrize("lag", [0, 2])
def test_days_count_from_the_first_one_and_grow_as_traffic_shrinks(lag: int) -> None:
    whole, half = outlook(lag=lag).lasts, outlook(lag=lag, traffic=0.5).lasts
    assert whole is not None
    assert half is not None
    left = wait(STEADY, 2000, lag=lag).days
    assert left is not None
    assert whole.days == left + len(STEADY)
    assert whole.days == pytest.approx(20 + lag, abs=2)
    assert half.days == pytest.approx(40 + lag, abs=4)
    assert outlook(lag=lag, all_units=400).lasts == ("reached", 4 + lag, 4 + lag, 4 + lag)


def test_the_smallest_lift_falls_with_the_root_of_the_units() -> None:
    found = outlook()
    assert found.detects(8) == pytest.approx(0.1)
    assert found.detects(2) == pytest.approx(0.1 * sqrt(8 / 2))
    later = units_after(STEADY, 24)
    assert later is not None
    assert found.detects(32) == pytest.approx(0.1 * sqrt(800 / later))
    assert outlook(traffic=0.25).detects(8) == pytest.approx(0.2)
    assert outlook(lag=3).detects(3) is None or outlook(lag=3).detects(3) > 0.1  # type: ignore[operator]


def test_traffic_is_that_of_the_last_phase_that_had_any() -> None:
    plain = {
        "name": "x", "arms": {"old": 1, "new": 1}, "control": "old", "metrics": {"primary": ["clicks"]},
        "layer": {"slice": [0.25, 0.75]},
    }  # fmt: skip
    phases = [{"traffic": 0.5}, {"start": "2026-01-02", "traffic": 0.0}]
    assert traffic_of(Experiment.model_validate(plain)) == 0.5
    assert traffic_of(Experiment.model_validate(plain | {"phases": phases})) == 0.25
