"""Played: users who meet arms through the API give the report of the same users simulated in process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving_lab import NAME, begin, command, make_lab, ready, serving, size_of
from sqlalchemy import select

from armlift.client import Client
from armlift.errors import InputError
from armlift.lab import Lab
from armlift.replayer import NO_ARM
from armlift.simulation.played import Play
from armlift.store.database import open_database
from armlift.store.tables import exposures, feedback, impressions

USERS, DAYS = 120, 2
PATIENT = {"budget_ms": 20_000}
"""Where the machine is busy with other tests, an arm may take its time."""


def armlift(lab: Lab, *words: str) -> Any:
    program = [sys.executable, "-c", "from armlift.cli import main; main()", *words]
    done = subprocess.run(
        [*program, "--lab", str(lab.folder), "--json"],
        env=os.environ, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def simulated(lab: Lab) -> Any:
    return armlift(lab, "simulate", NAME, "--users", str(USERS), "--days", str(DAYS))


def played(lab: Lab, *options: str) -> Any:
    with command(lab, "ingest"), serving(lab, *options) as answering:
        users = ("--users", str(USERS), "--days", str(DAYS))
        found = armlift(lab, "simulate", NAME, *users, "--api", answering.url)
    armlift(lab, "ingest", "--once")
    return found


def shown(lab: Lab, run: str) -> list[tuple[Any, ...]]:
    """Give what everybody was shown by arms, slot by slot, and by which version."""
    i = impressions.c
    columns = (i.unit_id, i.ts, i.position, i.item_id, i.arm, i.arm_version, i.step, i.score, i.fallback)
    return rows(lab, select(*columns).where(i.run == run, i.arm != NO_ARM).order_by(*columns[:3]))


def did(lab: Lab, run: str, since: int) -> list[tuple[Any, ...]]:
    f = feedback.c
    columns = (f.unit_id, f.ts, f.item_id, f.kind, f.value, f.ordinal)
    return rows(lab, select(*columns).where(f.run == run, f.ts >= since).order_by(*columns))


def met(lab: Lab, run: str) -> list[tuple[Any, ...]]:
    e = exposures.c
    columns = (e.unit_id, e.ts, e.experiment, e.arm, e.arm_version, e.phase, e.generation, e.fallback)
    return rows(lab, select(*columns).where(e.run == run).order_by(*columns[:2]))


def rows(lab: Lab, query: Any) -> list[tuple[Any, ...]]:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(query)]
    engine.dispose()
    return found


def test_the_report_is_that_of_the_same_users_in_process(tmp_path: Path) -> None:
    inside = make_lab(tmp_path / "inside")
    expected = simulated(inside)
    lab = ready(tmp_path / "outside", size_of(USERS, DAYS), serve=PATIENT)
    found = played(lab)
    assert found["fallbacks"] == {}
    assert found["requests"] > 300
    assert {name: len(versions) for name, versions in found["versions"].items()} == dict.fromkeys(
        ("popularity", "covisitation"), 1
    )
    slots = shown(inside, expected["run"])
    assert len(slots) > 2_000
    assert shown(lab, "live") == slots
    assert met(lab, "live") == met(inside, expected["run"])
    first = min(row[1] for row in slots)
    assert did(lab, "live", first) == did(inside, expected["run"], first)
    report = armlift(lab, "report", NAME)
    assert report["comparisons"] == expected["comparisons"]
    assert report["mode"] == "live"


def test_forced_fallbacks_are_shown_and_counted(tmp_path: Path) -> None:
    lab = ready(tmp_path / "lab", size_of(USERS, DAYS), serve={**PATIENT, "rehearsed_fallbacks": 0.05})
    found = played(lab)
    share = found["fallbacks"]["rehearsed"] / found["requests"]
    assert set(found["fallbacks"]) == {"rehearsed"}
    assert 0.03 < share < 0.07
    slots = shown(lab, "live")
    of_fallbacks = sum(row[-1] for row in slots) / len(slots)
    assert of_fallbacks == pytest.approx(share, abs=0.015)
    # Each is an event, whether its unit was exposed before or not.
    assert sum(row[-1] for row in met(lab, "live")) == found["fallbacks"]["rehearsed"]


def test_what_does_not_run_cannot_be_played(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    with serving(lab) as answering, Client(answering.url) as client:
        with pytest.raises(
            InputError, match=f"experiment {NAME}: is not started at the API, must be running"
        ):
            Play(lab, lab.experiment(NAME), size_of(5, 1), client)
        begin(lab, open_database(lab), size_of(5, 1))
        client.pause(NAME, "not now")
        with pytest.raises(InputError, match="is paused at the API, must be running"):
            Play(lab, lab.experiment(NAME), size_of(5, 1), client)
