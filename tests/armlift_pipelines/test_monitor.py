"""Faults of live experiments are stopped within hours, and sound experiments are left alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from guarded import Crowd, crowd, make_lab, start_all
from sqlalchemy import Engine, select, update

from armlift import running
from armlift.lab import Lab
from armlift.store.database import connect, reading, upgrade
from armlift.store.tables import audit_log, runs
from armlift_pipelines.monitor import monitor

PER_HOUR = 200


def watch(lab: Lab, engine: Engine, users: Crowd, hours: int) -> list[dict[str, Any]]:
    """Let hours pass, with a look after each, until something is done; gives what the looks found."""
    looks = []
    for _ in range(hours):
        users.hour()
        looks.append(monitor(lab, engine, now_ms=users.now))
        assert [one["error"] for one in looks[-1]["experiments"].values() if one["error"]] == []
        if looks[-1]["actions"]:
            break
    json.dumps(looks)
    return looks


def check_nobody_is_exposed(lab: Lab, engine: Engine, users: Crowd) -> None:
    """See that the splitter, with the experiment as it is in SQL, lets nobody in, old units included."""
    before = dict(users.units)
    assert users.back, "some who met an arm come again"
    users.hour()
    assert (users.exposed, users.units) == ({}, before)
    assert monitor(lab, engine, now_ms=users.now) == {"experiments": {}, "breaches": [], "actions": []}


@pytest.mark.parametrize(
    ("wrong", "kind", "arm", "hours"),
    [
        ({"effect": -0.3}, "guardrail", "new", 6),
        ({"lost": 0.5}, "srm", None, 6),
        ({"failing": 0.3}, "error_rate", "new", 3),
    ],
)
def test_a_fault_is_stopped_within_hours(
    tmp_path: Path, engine: Engine, wrong: dict[str, float], kind: str, arm: str | None, hours: int
) -> None:
    lab = make_lab(tmp_path / "lab")
    start_all(lab, engine)
    with crowd(lab, engine, seed=3, per_hour=PER_HOUR, **wrong) as users:
        looks = watch(lab, engine, users, hours)
        last = looks[-1]
        assert [one["action"] for one in last["actions"]] == ["pause"]
        assert all(not look["breaches"] for look in looks[:-1])
        (breach,) = last["breaches"]
        assert (breach["kind"], breach["experiment"], breach["arm"]) == (kind, "one", arm)
        assert last["actions"][0]["text"] == breach["text"]
        exposed = sum(users.units.values())
        assert exposed <= hours * PER_HOUR
        print(f"{wrong}: stopped after {users.hours} hours, {exposed} units exposed: {breach['text']}")
        check_nobody_is_exposed(lab, engine, users)
    with reading(engine) as connection:
        told = connection.execute(select(audit_log).order_by(audit_log.c.number.desc())).first()
    assert told is not None
    assert (told.by, told.action, told.details["reason"]) == ("monitor", "pause", breach["text"])


def test_sound_experiments_are_left_alone(tmp_path: Path) -> None:
    """Twenty A/A experiments live at once are looked at six times each: 120 looks, none is stopped."""
    names = [f"aa{number}" for number in range(20)]
    lab = make_lab(tmp_path / "lab", names)
    engine = connect("sqlite:///live.db", lab.folder)
    upgrade(engine)
    start_all(lab, engine)
    with crowd(lab, engine, seed=4, per_hour=200) as users:
        looks = watch(lab, engine, users, 6)
    assert len(looks) == 6
    assert [*looks[-1]["experiments"]] == sorted(names)
    stopped = [one for look in looks for one in look["actions"]]
    assert stopped == [], f"{len(stopped)} of {len(names)} were stopped"
    assert min(users.units.values()) > 500
    engine.dispose()


def test_what_is_done_is_for_the_lab_to_say(tmp_path: Path, engine: Engine) -> None:
    lab = make_lab(tmp_path / "lab")
    (lab.folder / "nightly.yaml").write_text("monitor: {action: alert, error_rate: 0.1}\n")
    start_all(lab, engine)
    with crowd(lab, engine, seed=5, per_hour=PER_HOUR * 2, failing=0.5) as users:
        (look,) = watch(lab, engine, users, 1)
        assert ([one["kind"] for one in look["breaches"]], look["actions"]) == (["error_rate"], [])
        (lab.folder / "nightly.yaml").write_text("monitor: {action: ramp_down, error_rate: 0.1}\n")
        users.lab = other = Lab(lab.folder)
        again = monitor(other, engine, now_ms=users.now)
        assert [one["action"] for one in again["actions"]] == ["ramp_down"]
        met = dict(users.units)
        users.hour()
        assert users.units == met, "nobody new is let in"
        assert monitor(other, engine, now_ms=users.now)["actions"] == []


def test_one_that_cannot_be_looked_at_keeps_no_other_from_it(tmp_path: Path, engine: Engine) -> None:
    lab = make_lab(tmp_path / "lab", ["bad", "good"])
    start_all(lab, engine)
    with engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.experiment == "bad").values(log={}))
    with crowd(lab, engine, seed=6, per_hour=PER_HOUR * 3, failing=0.5) as users:
        users.hour()
        look = monitor(lab, engine, now_ms=users.now)
    assert look["experiments"]["bad"] == {"run": "live", "breaches": 0, "error": "KeyError: 'kinds'"}
    assert [one["experiment"] for one in look["actions"]] == ["good"]
    with reading(engine) as connection:
        assert [one.name for one in running.running(connection)] == ["bad"]
