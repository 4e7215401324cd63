"""Simulations through the stream into SQL: the tables are those of the tally, twice, and after kills."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armlift.lab import Lab, init_lab
from armlift.report import make_report
from armlift.runs import Run
from armlift.simulation import simulate as simulating
from armlift.simulation.course import unit_of
from armlift.simulation.laboratory import Size
from armlift.simulation.simulate import Simulation
from armlift.simulation.tally import Tally
from armlift.simulation.traffic import Traffic
from armlift.simulation.users import Users
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

SIZE = Size(users=40, days=3, k=5, seed=0)
EXPERIMENT = """\
name: small
arms: {random: 1, popularity: 1}
control: random
phases:
  - traffic: 0.4
  - {start: "2022-04-23T12:00:00", traffic: 1.0}
  - {start: "2022-04-24", traffic: 0.9, weights: {random: 1, popularity: 3}}
metrics:
  primary: [click_rate]
  secondary: [clicks, watch_time_per_unit, likers, active_days, early_clicks, short_plays]
  guardrails: [watch_time, day_1_retention, median_watch_time]
simulation:
  {videos: 60, taste_categories: 6, history_days: 2, sessions_per_day: 2.0, rows_per_session: 6.0}
"""
MORE_METRICS = """
early_clicks: {kind: mean, window: 1d, cuped: 1d, of: {event: click}}
short_plays: {kind: ratio, cuped: 36h, numerator: {event: play, aggregate: sum, maximum: 5},
  denominator: {event: play}}
"""


def lab_at(folder: Path) -> Lab:
    init_lab(folder)
    (folder / "experiments" / "demo.yaml").unlink()
    (folder / "experiments" / "small.yaml").write_text(EXPERIMENT)
    with (folder / "metrics.yaml").open("a") as metrics:
        metrics.write(MORE_METRICS)
    return Lab(folder)


def key(row: tuple[Any, ...]) -> tuple[str, ...]:
    """Name a row of `unit_days`: all but its numbers."""
    return tuple(map(str, row[:7]))


def simulate(lab: Lab, *, truth: bool = False) -> tuple[Simulation, Run]:
    engine = open_database(lab, create=True)
    with EmbeddedStream(lab.folder / "stream") as stream:
        simulation = Simulation(lab, lab.experiment("small"), SIZE, engine)
        run = simulation.run(stream, truth=truth)
    engine.dispose()
    return simulation, run


def tables(lab: Lab) -> dict[str, list[tuple[object, ...]]]:
    """Read every table whole, in a fixed order, but for the stream's id and arrival times."""
    with sqlite3.connect(lab.folder / "armlift.db") as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    connection.close()
    found["stream_offsets"] = [row[1:] for row in found["stream_offsets"]]
    found["arrivals"] = [row[1:-1] for row in found["arrivals"]]
    return found


def test_the_rollup_of_the_events_is_the_tally(tmp_path: Path, uncalibrated: None) -> None:
    lab = lab_at(tmp_path / "lab")
    simulation, run = simulate(lab)
    metrics = lab.metrics_of(lab.experiment("small"))
    first_day, edges = simulation.laboratory.edges()
    tallies: dict[int, Tally] = {}
    expected: set[tuple[Any, ...]] = set()

    def page(users: Users, traffic: Traffic, one: Any) -> None:
        tally = tallies.setdefault(users.first, Tally(metrics, edges, first_day, len(users)))
        tally.add(one.rows, one.response, traffic)

    def block(users: Users, traffic: Traffic) -> None:
        units = [unit_of(users.first + row) for row in range(len(users))]
        expected.update(tallies[users.first].rows(run.run, "small", units, traffic, list(simulation.arms)))

    simulation.laboratory.run(simulation.arms, simulation._traffic, page=page, block=block)
    adjusted = {name for name, metric in metrics.items() if getattr(metric, "cuped", None)}
    stored = [row for row in tables(lab)["unit_days"] if row[5] == "post" or row[4] in adjusted]
    mine, theirs = sorted(expected, key=key), sorted(stored, key=key)
    assert [key(row) for row in mine] == [key(row) for row in theirs]
    numbers = [np.array([row[7:] for row in rows], dtype=float) for rows in (mine, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-12)
    assert {row[5] for row in mine} == {"pre", "post"}
    assert {row[4] for row in mine} == set(metrics)


def test_twice_adds_nothing_and_the_report_can_be_made(tmp_path: Path, uncalibrated: None) -> None:
    lab = lab_at(tmp_path / "lab")
    _, run = simulate(lab)
    before = tables(lab)
    _, again = simulate(lab)
    assert again.run == run.run
    assert tables(lab) == before
    report = make_report(open_database(lab), run, lab.calendar)
    assert report.as_dict()["synthetic"] is True
    assert run.dropped["request_outside"] > 0


def test_the_truth_comes_later_too_and_is_kept(tmp_path: Path, uncalibrated: None) -> None:
    lab = lab_at(tmp_path / "lab")
    _, without = simulate(lab)
    assert "truth" not in without.resolution
    _, run = simulate(lab, truth=True)
    assert run.run == without.run
    told = {one["metric"]: one for one in run.resolution["truth"]}
    assert set(told) == set(lab.experiment("small").metrics.roles)
    assert told["click_rate"]["lift"] is not None
    assert told["median_watch_time"]["lift"] is None
    exposed = {row[5] for row in tables(lab)["exposures"]}
    assert told["clicks"]["users"] == len(exposed)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from sqlalchemy import event
from armlift.ingest import Ingester
from armlift.lab import Lab
from armlift.logs import published
from armlift.simulation import laboratory, simulate
from armlift.simulation.laboratory import Size
from armlift.simulation.response import Levels, ResponseModel
from armlift.simulation.world import World
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

left = int(sys.argv[2])

def moment(name):
    global left
    left -= 1
    if left == 0:
        print(name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

def before_and_after(kind, name):
    method = getattr(kind, name)
    def wrapped(*given, **named):
        moment("before " + name)
        answer = method(*given, **named)
        moment("after " + name)
        return answer
    setattr(kind, name, wrapped)

levels = Levels(-1.5, -0.5, 1.0, 2.0, np.zeros(published.TABS))
laboratory.calibrate = lambda settings, origin=None: ResponseModel(World.of(settings), levels, settings)
simulate.BATCH = 50
lab = Lab(Path(sys.argv[1]))
engine = open_database(lab, create=True)
before_and_after(EmbeddedStream, "flush")
before_and_after(Ingester, "step")
before_and_after(Ingester, "_move_offsets")
event.listen(engine, "commit", lambda connection: moment("before commit"))
with EmbeddedStream(lab.folder / "stream") as stream:
    simulate.Simulation(lab, lab.experiment("small"), Size(40, 3, 5, 0), engine).run(stream)
print("done", flush=True)
"""


def run_killed(lab: Path, moment: int) -> str:
    """Simulate in a process that kills itself at a moment; gives where that was, or "done"."""
    command = [sys.executable, "-c", KILLED, str(lab), str(moment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.strip()


def test_killed_and_started_again_gives_the_tables_of_a_clean_run(
    tmp_path: Path, uncalibrated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulating, "BATCH", 50)
    clean, killed = lab_at(tmp_path / "clean"), lab_at(tmp_path / "killed")
    simulate(clean)
    rng, killed_at = random.Random(5), Counter[str]()
    for _ in range(5):
        killed_at[run_killed(killed.folder, rng.randrange(5, 60))] += 1
    assert killed_at.total() - killed_at["done"] >= 3
    assert run_killed(killed.folder, 0) == "done"
    found = tables(killed)
    for name, rows in tables(clean).items():
        assert found[name] == rows, name
