"""Plans from stored snapshots and from numbers say what `armlift power` says."""

import json
from typing import Any

import pytest
from demos import Demo
from sqlalchemy import Engine, insert

from armlift.cli import run
from armlift.errors import InputError, StoreError
from armlift.lab import Lab
from armlift.planning import Baseline
from armlift.snapshots import Snapshot, find
from armlift.store.database import open_database, reading, writing
from armlift.store.tables import snapshots
from armlift_dashboards.plans import DAYS, LIFTS, Asked, choices, experiment_of, from_numbers, from_snapshot

ASKED = Asked(lift=0.05, power=0.9, alpha=0.05, days=14)


@pytest.fixture(scope="module")
def snapshot(filled: Lab) -> Snapshot:
    engine = open_database(filled, read_only=True)
    with reading(engine) as connection:
        (choice,) = (one for one in choices(connection) if one.experiment == "baselines")
        found = find(connection, choice.snapshot)
    engine.dispose()
    assert found is not None
    return found


def power(capsys: pytest.CaptureFixture[str], lab: Lab, *words: str) -> Any:
    capsys.readouterr()
    assert run(["power", "baselines", "--lab", str(lab.folder), *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_from_a_snapshot_is_that_of_the_command(
    demo: Demo, filled: Lab, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    told = power(capsys, filled, "--lift", "0.05", "--power", "0.9", "--days", str(ASKED.days - demo.days))
    metrics = dict.fromkeys(one["metric"] for one in told["plans"])
    known = 0
    for metric in metrics:
        answer = from_snapshot(snapshot, metric, ASKED)
        plans = [one for one in told["plans"] if one["metric"] == metric]
        assert list(answer.arrivals) == told["arrivals"]
        for need, plan in zip(answer.needs, plans, strict=True):
            assert (need.arm, need.status, need.lift) == (plan["arm"], plan["status"], plan["lift"])
            assert need.units == plan["all_units_needed"]
            if plan["wait"] is not None and plan["wait"]["days"] and need.lasts is not None:
                assert need.lasts.days == plan["wait"]["days"] + len(answer.arrivals)
            if plan["smallest_later"] is not None and len(answer.arrivals) == demo.days:
                assert need.detects == pytest.approx(plan["smallest_later"])
                known += 1
    assert known > 4


def test_a_plan_scales_with_traffic_and_shows_every_day_and_lift(snapshot: Snapshot) -> None:
    whole = from_snapshot(snapshot, "click_rate", ASKED)
    half = from_snapshot(snapshot, "click_rate", ASKED._replace(share=0.5))
    assert (whole.share, half.share) == (1.0, 0.5)
    assert half.units == whole.units
    assert half.by_day[0].lift == pytest.approx(whole.by_day[0].lift * 2**0.5)  # type: ignore[operator]
    assert {one.days for one in whole.by_day} == set(DAYS)
    assert [one.lift for one in whole.by_lift if one.arm == "popularity"] == list(LIFTS)
    at = next(one for one in whole.by_lift if one.arm == "popularity" and one.lift == 0.05)
    assert at.units == next(one.units for one in whole.needs if one.arm == "popularity")
    strict = from_snapshot(snapshot, "click_rate", ASKED._replace(alpha=0.01))
    assert strict.units is not None
    assert whole.units is not None
    assert strict.units > whole.units


def test_a_guardrail_is_planned_for_its_margin_but_its_curve_is_of_lifts(snapshot: Snapshot) -> None:
    answer = from_snapshot(snapshot, "watch_time", ASKED._replace(lift=0.2))
    assert answer.margin
    assert {one.lift for one in answer.needs} == {0.05}
    units = [one.units for one in answer.by_lift if one.arm == "popularity" and one.units is not None]
    assert units == sorted(units, reverse=True)
    assert units[0] > units[-1]


def test_an_older_snapshot_that_lacks_answers_says_so(snapshot: Snapshot) -> None:
    answers = {k: v for k, v in snapshot.aggregates["answers"].items() if not k.startswith("units/")}
    old = snapshot._replace(aggregates={**snapshot.aggregates, "answers": answers})
    with pytest.raises(StoreError, match="another version made it"):
        from_snapshot(old, "click_rate", ASKED)


def test_an_interleaved_run_tells_no_lift_to_plan_for(snapshot: Snapshot) -> None:
    mixed = {**snapshot.aggregates, "run": {**snapshot.aggregates["run"], "mode": "interleaved"}}
    with pytest.raises(InputError, match="tells a preference, no lift"):
        experiment_of(snapshot._replace(aggregates=mixed))
    assert experiment_of(snapshot).name == "baselines"


def test_a_plan_from_numbers_is_that_of_the_command(filled: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--rate", "0.1", "--units-per-day", "1000", "--days", "14", "--lift", "0.05", "--power", "0.9")
    told = power(capsys, filled, *words)
    answer = from_numbers(filled.experiment("baselines"), Baseline.of_rate(0.1, 1000), ASKED)
    for need, plan in zip(answer.needs, told["plans"], strict=True):
        assert need.lasts is not None
        assert (need.arm, need.units) == (plan["arm"], plan["all_units_needed"])
        assert (need.lasts.days, need.detects) == (plan["wait"]["days"], plan["smallest_later"])
        assert need.by_arm is not None
        assert sum(need.by_arm.values()) - plan["all_units_needed"] in range(3)
    half = from_numbers(
        filled.experiment("baselines"), Baseline.of_rate(0.1, 1000), ASKED._replace(share=0.5)
    )
    assert half.units == answer.units
    days = [one.needs[0].lasts.days for one in (answer, half) if one.needs[0].lasts is not None]
    assert days[1] == pytest.approx(2 * (days[0] or 0), abs=1)
    unknown = from_numbers(filled.experiment("baselines"), Baseline(2.0, 3.0), ASKED)
    assert (unknown.by_day, unknown.needs[0].lasts) == ([], None)


def test_experiments_come_by_their_newest_snapshot(engine: Engine) -> None:
    rows = [
        {"id": f"s{n}", "run": "r", "experiment": name, "as_of": as_of, "created": created, "version": "0",
         "definition_hash": "h", "sql": "", "aggregates": {}, "report": {}}
        for n, (name, as_of, created) in enumerate(
            [("old", 5, 10), ("new", 5, 20), ("new", 6, 20), ("new", 9, 15)]
        )
    ]  # fmt: skip
    with writing(engine) as connection:
        assert choices(connection) == []
        connection.execute(insert(snapshots), rows)
    with reading(engine) as connection:
        assert choices(connection) == [("new", "s2", 6), ("old", "s0", 5)]
