"""The scheduler: nights are done once, by whomever, whatever happened to those who were to do them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import psutil
import pytest
from databases import Server
from sqlalchemy import Engine, select
from walkers import FIRST, NIGHTLY, define

from armlift.lab import Lab
from armlift.store.database import writing
from armlift.store.tables import alerts, job_runs, models
from armlift_pipelines.clocks import SetClock, SystemClock, millis
from armlift_pipelines.job_runs import FAILED, SKIPPED, SUCCEEDED, JobRun, Record
from armlift_pipelines.night import Night
from armlift_pipelines.scheduler import Scheduler
from armlift_pipelines.timetable import Timetable, WallClock

sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
DAY = FIRST + timedelta(days=6)
COMMAND = "import sys; from armlift.cli import main; main(sys.argv[1:])"


@pytest.fixture
def cheap(lab: Lab) -> Lab:
    """Give the lab with an arm that is trained in no time."""
    define(lab.folder, "popularity")
    return lab


def at(day: date, hour: int, minute: int = 0) -> int:
    return millis(datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC))


@contextmanager
def scheduler_at(lab: Lab, engine: Engine, ts: int) -> Iterator[tuple[Scheduler, SetClock, list[str]]]:
    """Give a scheduler whose clock is moved by hand, and what it says."""
    clock, said = SetClock(ts), list[str]()
    made = Scheduler(lab.again, engine, clock=clock, say=said.append)
    try:
        yield made, clock, said
    finally:
        made.timetable.shutdown()


def nights(engine: Engine) -> list[JobRun]:
    """Give whole nights, the oldest day first."""
    found = Record(engine).runs(job="nightly", steps=False)
    return sorted(found, key=lambda one: (one.subject, one.attempt))


def told(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(select(alerts.c.kind, alerts.c.text).order_by(alerts.c.number))
    return [(row.kind, row.text) for row in rows]


def test_a_night_is_done_when_it_is_due(cheap: Lab, engine: Engine) -> None:
    with scheduler_at(cheap, engine, at(DAY, 1)) as (scheduler, clock, _):
        scheduler.tick()
        assert nights(engine) == []
        clock.set(at(DAY, 3, 30))
        scheduler.tick()
        (one,) = nights(engine)
        assert (one.subject, one.status) == (f"live/{DAY}", SUCCEEDED)
        scheduler.tick()
        assert len(nights(engine)) == 1
        (watched,) = [
            run for run in Record(engine).runs(job="monitor") if run.subject == f"{DAY}T03:30+00:00"
        ]
        assert watched.status == SUCCEEDED
        assert watched.outputs == {"experiments": {}, "breaches": [], "actions": []}
    assert told(engine) == []


def test_after_downtime_the_newest_night_is_done_and_the_others_are_told_as_skipped(
    cheap: Lab, engine: Engine
) -> None:
    with scheduler_at(cheap, engine, at(DAY - timedelta(days=3), 4)):
        pass  # it knows the timetable, and goes away
    with scheduler_at(cheap, engine, at(DAY, 9)) as (scheduler, _, _):
        scheduler.tick()
        scheduler.tick()
    found = [(one.subject, one.status) for one in nights(engine)]
    before = [f"live/{DAY - timedelta(days=days)}" for days in (2, 1)]
    assert found == [*((one, SKIPPED) for one in before), (f"live/{DAY}", SUCCEEDED)]
    assert f"the night of {DAY} was done instead" in str(nights(engine)[0].error)
    # A skipped night may still be done by hand.
    made = Night(cheap.again(), engine, DAY - timedelta(days=2), now=at(DAY, 9)).run()
    assert made.run.status == SUCCEEDED


@sqlite_only
def test_failures_and_refusals_are_told(cheap: Lab, engine: Engine, faulty: None) -> None:
    define(cheap.folder, "popularity", "bad")
    bad = cheap.folder / "arms" / "bad.yaml"
    bad.write_text("name: bad\nmodel: faulty\nfault: nan\n")
    with scheduler_at(cheap, engine, at(DAY, 1)) as (scheduler, clock, _):
        clock.set(at(DAY, 4))
        scheduler.tick()
        bad.write_text("name: bad\nmodel: faulty\nfault: crash\n")
        clock.set(at(DAY + timedelta(days=1), 4))
        scheduler.tick()
    (refused, failed) = told(engine)
    assert refused == (
        "refused",
        "a new model of bad was refused: some weights are no numbers (NaN or infinite)",
    )
    assert failed[0] == "failure"
    assert "retrain bad failed after 1 attempts: ZeroDivisionError: by nothing" in failed[1]


@sqlite_only
def test_a_stale_model_is_told_by_the_watch(cheap: Lab, engine: Engine) -> None:
    with scheduler_at(cheap, engine, at(DAY, 1)) as (scheduler, clock, _):
        clock.set(at(DAY, 3, 30))
        scheduler.tick()
        with writing(engine) as connection:
            connection.execute(models.update().values(data_until=at(DAY - timedelta(days=9), 0)))
        clock.set(at(DAY, 3, 40))
        scheduler.tick()
    ((kind, text),) = told(engine)
    assert kind == "stale_model"
    assert "popularity" in text


@sqlite_only
def test_a_definition_that_is_wrong_ends_nothing(cheap: Lab, engine: Engine) -> None:
    path = cheap.folder / "arms" / "popularity.yaml"
    right = path.read_text()
    with scheduler_at(cheap, engine, at(DAY, 1)) as (scheduler, clock, said):
        path.write_text("name: popularity\nmodel: popularity\nhalf_life_days: -1\n")
        clock.set(at(DAY, 4))
        scheduler.tick()
        assert any("half_life_days" in line for line in said)
        assert [kind for kind, _ in told(engine)] == ["failure"]
        path.write_text(right)
        clock.set(at(DAY + timedelta(days=1), 4))
        scheduler.tick()
    assert nights(engine)[-1].status == SUCCEEDED


def start(lab: Lab, engine: Engine) -> subprocess.Popen[str]:
    """Start `armlift schedule` as an operator does."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", COMMAND, "schedule", "--lab", str(lab.folder), "--database", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("scheduling" in line for line in iter(process.stderr.readline, ""))
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def make_due(engine: Engine) -> None:
    """Let the night of today be due: its next time has passed a minute ago."""
    timetable = Timetable(engine, SetClock(millis(SystemClock().now()) - 25 * 3_600_000))
    soon = SystemClock().now() - timedelta(minutes=1)
    timetable.plan("nightly", WallClock("30 3 * * *", "UTC"))
    timetable.modify_job("nightly", next_run_time=soon)
    timetable.shutdown()


def wait_until(engine: Engine, *conditions: object, seconds: float = 60) -> None:
    """Wait until there is such a run."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with engine.connect() as connection:
            if connection.execute(select(job_runs.c.id).where(*conditions)).first() is not None:  # type: ignore[arg-type]
                return
        time.sleep(0.02)
    raise TimeoutError(nights(engine))


NIGHT_DONE = (job_runs.c.job == "nightly", job_runs.c.step == "", job_runs.c.status == SUCCEEDED)


def test_two_schedulers_do_a_night_once(cheap: Lab, engine: Engine) -> None:
    make_due(engine)
    processes = [start(cheap, engine) for _ in range(2)]
    wait_until(engine, *NIGHT_DONE)
    time.sleep(1.0)
    for process in processes:
        stop(process)
    (one,) = nights(engine)
    assert (one.status, one.attempt) == (SUCCEEDED, 1)
    steps = [run for run in Record(engine).runs(job="nightly") if run.step]
    assert len(steps) == len({run.key for run in steps})
    assert {run.attempt for run in steps} == {1}


@pytest.fixture
def slow(cheap: Lab, faulty: None) -> Lab:
    """Give the lab with an arm that takes long to train."""
    define(cheap.folder, "popularity", "bad")
    pace(cheap, 60)
    return cheap


def pace(lab: Lab, seconds: float) -> None:
    text = f"name: bad\nmodel: faulty\nslow: {seconds}\n"
    (lab.folder / "arms" / "bad.yaml").write_text(text)


TRAINING = (job_runs.c.step == "retrain", job_runs.c.arm == "bad", job_runs.c.status == "running")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@sqlite_only
def test_a_night_that_is_broken_off_is_gone_on_with(
    slow: Lab, engine: Engine, number: signal.Signals
) -> None:
    make_due(engine)
    process = start(slow, engine)
    wait_until(engine, *TRAINING)
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone
    assert alive == []
    pace(slow, 0)
    again = start(slow, engine)
    wait_until(engine, *NIGHT_DONE)
    stop(again)
    first, second = nights(engine)
    assert (first.status, second.status) == (FAILED, SUCCEEDED)
    assert first.error is not None
    assert first.error == "stopped" if number == signal.SIGTERM else "its process ended" in first.error
    trained = Record(engine).done(second.key._replace(step="retrain", arm="bad", scope="*"))
    assert trained is not None
    assert trained.attempt == 2


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_database_that_is_away_ends_no_scheduler(
    cheap: Lab, engine: Engine, postgresql_server: Server
) -> None:
    process = start(cheap, engine)
    postgresql_server.stop(signal.SIGQUIT)
    time.sleep(2.0)
    postgresql_server.start()
    engine.dispose()
    assert process.poll() is None
    make_due(engine)
    # It looks again within a minute: a signal of ours would end it.
    wait_until(engine, *NIGHT_DONE, seconds=90)
    stop(process)


@sqlite_only
def test_a_night_is_of_the_run_that_the_definition_names(cheap: Lab, engine: Engine) -> None:
    (cheap.folder / "nightly.yaml").write_text(NIGHTLY + "run: other\n")
    with scheduler_at(cheap, engine, at(DAY, 1)) as (scheduler, clock, _):
        clock.set(at(DAY, 4))
        scheduler.tick()
    (one,) = nights(engine)
    assert one.subject == f"other/{DAY}"
