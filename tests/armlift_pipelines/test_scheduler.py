"""The scheduler: nights and looks when they are due, by several at once, over downtime, ends and faults."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import guarded
import psutil
import pytest
from databases import Server
from sqlalchemy import Engine, func, select
from walkers import FIRST, NIGHTLY, define, fill

from armlift.lab import Lab
from armlift.store.database import connect, writing
from armlift.store.tables import alerts, job_runs, models
from armlift_pipelines.clocks import SetClock, SystemClock
from armlift_pipelines.job_runs import FAILED, RUNNING, SKIPPED, SUCCEEDED, JobRun, Key, Record
from armlift_pipelines.scheduler import Scheduler
from armlift_pipelines.timetable import Timetable, WallClock

sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
postgresql_only = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
DAY = FIRST + timedelta(days=6)
NO_ARMS = NIGHTLY + "arms: {popularity: {steps: []}, tiny: {steps: []}}\n"
ONE_ARM = NIGHTLY + "arms: {tiny: {steps: []}}\n"
COMMAND = "import sys; from armlift.cli import main; main(sys.argv[1:])"


def at(day: date, hour: int = 4) -> int:
    """Give an hour of a day in UTC, by default one when its night is due."""
    return round(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp() * 1000)


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def write(lab: Lab, text: str, file: str = "nightly.yaml") -> None:
    (lab.folder / file).write_text(text)


def scheduled(lab: Lab, engine: Engine, **given: Any) -> tuple[Scheduler, SetClock]:
    """Give a scheduler that began at noon before the first night, and its clock."""
    clock = SetClock(at(later(-1), 12))
    return Scheduler(lab.again, engine, clock=clock, **given), clock


def whole(engine: Engine, job: str = "nightly") -> list[tuple[str, str]]:
    """List what was done of a job, the oldest first."""
    return [(one.subject, one.status) for one in reversed(Record(engine).runs(job=job, steps=False))]


def newest(engine: Engine) -> JobRun:
    return Record(engine).runs(job="nightly", steps=False)[0]


def told(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(alerts).order_by(alerts.c.number)))


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def set_fault(lab: Lab, name: str, fault: str = "none", slow: float = 0.0) -> None:
    write(lab, f"name: {name}\nmodel: faulty\nfault: {fault}\nslow: {slow}\n", f"arms/{name}.yaml")


@sqlite_only
def test_a_night_is_done_when_it_is_due_and_told_of_where_it_goes_wrong(
    lab: Lab, engine: Engine, faulty: None, webhook: Any
) -> None:
    define(lab.folder, "popularity", "bad", "poor")
    write(lab, NIGHTLY + "arms: {popularity: {steps: []}}\n")
    for name in ("bad", "poor"):
        set_fault(lab, name)
    scheduler, clock = scheduled(lab, engine)
    scheduler.tick()
    assert whole(engine) == []
    clock.set(at(DAY))
    scheduler.tick()
    scheduler.tick()
    assert whole(engine) == [(f"live/{DAY}", SUCCEEDED)]
    assert newest(engine).inputs["now"] == at(DAY)
    assert told(engine) == []
    set_fault(lab, "bad", "crash")
    set_fault(lab, "poor", "worst")
    with webhook(200) as server:
        write(lab, (lab.folder / "nightly.yaml").read_text() + f"alerts: {{webhook: {server.url!r}}}\n")
        clock.set(at(later(1)))
        scheduler.tick()
        assert [one["kind"] for one in server.got] == ["failure", "refused"]
    assert whole(engine)[1:] == [(f"live/{later(1)}", FAILED)]
    failure, refusal = told(engine)
    assert failure.subject == f"nightly live/{later(1)} retrain bad"
    assert failure.text.endswith("retrain bad failed after 1 attempts: ZeroDivisionError: by nothing")
    assert (lab.folder / failure.details["log"]).is_file()
    assert (refusal.subject, refusal.at) == (f"nightly live/{later(1)} gate poor", at(later(1)))
    assert refusal.text.startswith("a new model of poor was refused: ")
    assert refusal.deliveries == {"webhook": "ok"}
    scheduler.timetable.shutdown()


def test_the_watch_is_kept_on_time_and_tells_of_breaches_and_stale_models(
    tmp_path: Path, engine: Engine
) -> None:
    lab = guarded.make_lab(tmp_path / "watched")
    guarded.start_all(lab, engine)
    clock = SetClock(guarded.START)
    scheduler = Scheduler(lab.again, engine, clock=clock)
    with guarded.crowd(lab, engine, seed=5, per_hour=400, failing=0.5) as users:
        users.hour()
    row = {"arm": "old", "scope": "*", "version": "v1", "state": "promoted", "data_until": guarded.START // 2}
    with writing(engine) as connection:
        connection.execute(models.insert().values(**row, data_hash="d", definition_hash="e"))
    for minutes in (57, 59):
        clock.set(guarded.START + minutes * 60_000)
        scheduler.tick()
    assert whole(engine, "monitor") == [("2023-11-14T23:55+00:00", SUCCEEDED)]
    breach, stale = told(engine)
    assert (breach.kind, breach.subject) == ("error_rate", "one")
    assert breach.details["arm"] == "new"
    assert (stale.kind, stale.subject) == ("stale_model", "old/*")
    clock.set(guarded.START + 60 * 60_000)
    scheduler.tick()
    look = Record(engine).runs(job="monitor")[0]
    assert look.outputs["experiments"] == {}, "it was paused"
    assert len(told(engine)) == 2, "what was told is not told again"
    scheduler.timetable.shutdown()


@sqlite_only
def test_after_downtime_the_newest_night_is_done_and_the_others_are_skipped(lab: Lab, engine: Engine) -> None:
    write(lab, NO_ARMS)
    before, _ = scheduled(lab, engine)
    before.timetable.shutdown()
    after = Scheduler(lab.again, engine, clock=SetClock(at(later(2), 9)))
    after.tick()
    after.resume()
    after.tick()
    assert sorted(whole(engine)) == [
        (f"live/{DAY}", SKIPPED),
        (f"live/{later(1)}", SKIPPED),
        (f"live/{later(2)}", SUCCEEDED),
    ]
    skipped = Record(engine).runs(subject=f"live/{DAY}")[0]
    assert skipped.error == (
        f"no scheduler was running at that time; the night of {later(2)} was done instead"
    )
    assert {one.attempt for one in Record(engine).runs(subject=f"live/{later(2)}")} == {1}
    after.timetable.shutdown()


@sqlite_only
def test_a_night_is_known_by_the_labs_day_whatever_zone_its_schedule_is_in(lab: Lab, engine: Engine) -> None:
    write(lab, NO_ARMS + 'schedule: {cron: "30 3 * * *", timezone: Asia/Shanghai}\n')
    scheduler, clock = scheduled(lab, engine)
    clock.set(at(later(-1), 20))  # 19:30 in UTC, of a day that is over in Shanghai
    scheduler.tick()
    assert whole(engine) == [(f"live/{later(-1)}", SUCCEEDED)]
    scheduler.timetable.shutdown()


@sqlite_only
def test_what_is_written_wrongly_ends_nothing_and_is_told_once(lab: Lab, engine: Engine) -> None:
    write(lab, ONE_ARM)
    said: list[str] = []
    scheduler, clock = scheduled(lab, engine, say=said.append)
    clock.set(at(DAY))
    write(lab, "schedule: [\n")
    scheduler.tick()
    wrong = f"night {DAY} could not be done: {lab.folder}/nightly.yaml:2: is not YAML: "
    night, watch = sorted(told(engine), key=lambda one: bool(one.subject == "monitor"))
    assert (night.kind, night.subject, night.text.startswith(wrong)) == ("failure", f"night {DAY}", True)
    assert watch.text.startswith("the watch over experiments failed: ")
    assert len([one for one in said if one.startswith(f"night {DAY}: ")]) == 1
    write(lab, ONE_ARM)
    sound = (lab.folder / "arms/popularity.yaml").read_text()
    write(lab, "name: popularity\nmodel: popularty\n", "arms/popularity.yaml")
    clock.set(at(later(1)))
    scheduler.tick()
    assert whole(engine) == [(f"live/{later(1)}", FAILED)]
    assert "popularity.yaml:2: model: 'popularty'" in str(newest(engine).error)
    assert told(engine)[-1].subject == f"night {later(1)}"
    write(lab, sound, "arms/popularity.yaml")
    clock.set(at(later(2)))
    scheduler.tick()
    assert whole(engine)[1:] == [(f"live/{later(2)}", SUCCEEDED)]
    assert [one.kind for one in told(engine)].count("failure") == 3
    scheduler.timetable.shutdown()


def broken_off(engine: Engine, run: str, day: date) -> None:
    """Record a night that was begun and has failed."""
    record, inputs = Record(engine), {"now": at(day), "parents": {}}
    record.end(record.begin(Key("nightly", f"{run}/{day}"), inputs), FAILED, {}, "stopped")


@sqlite_only
def test_nights_of_other_runs_are_not_gone_on_with(lab: Lab, engine: Engine) -> None:
    write(lab, NO_ARMS)
    broken_off(engine, "live", DAY)
    broken_off(engine, "0123456789abcdef", date(2022, 4, 25))
    scheduler, clock = scheduled(lab, engine)
    clock.set(at(later(3)))
    scheduler.resume()
    assert whole(engine)[2:] == [(f"live/{DAY}", SUCCEEDED)]
    scheduler.timetable.shutdown()


class Often(SystemClock):
    """Looks again ten times a second."""

    LOOK = 0.1


@contextmanager
def serving(lab: Lab, engine: Engine, **given: Any) -> Iterator[Scheduler]:
    """Let a scheduler serve in a thread."""
    scheduler = Scheduler(lab.again, engine, clock=Often(), **given)
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()
        thread.join(30)
    assert not thread.is_alive()


def today() -> date:
    return datetime.now(UTC).date()


def make_overdue(engine: Engine) -> None:
    """Let one night have been due within the last day, and not be done."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    timetable, trigger = Timetable(engine, SystemClock()), WallClock("30 3 * * *", "UTC")
    timetable.plan("nightly", trigger)
    timetable.modify_job("nightly", next_run_time=trigger.get_next_fire_time(None, yesterday))
    timetable.shutdown()


@sqlite_only
def test_a_night_that_is_due_waits_for_one_that_is_gone_on_with(lab: Lab, engine: Engine) -> None:
    write(lab, NO_ARMS)
    broken_off(engine, "live", today() - timedelta(days=3))
    make_overdue(engine)
    with serving(lab, engine):
        until(lambda: [one[1] for one in whole(engine)] == [FAILED, SUCCEEDED, SUCCEEDED])
    assert len({subject for subject, _ in whole(engine)}) == 2


@postgresql_only
def test_a_database_that_is_away_for_a_while_ends_nothing(
    lab: Lab, engine: Engine, postgresql_server: Server
) -> None:
    write(lab, NO_ARMS)
    said: list[str] = []
    with serving(lab, engine, say=said.append):
        postgresql_server.stop(signal.SIGQUIT)
        until(lambda: sum("the timetable cannot be read" in one for one in said) >= 2)
        postgresql_server.start()
        make_overdue(engine)
        until(lambda: [one[1] for one in whole(engine)] == [SUCCEEDED])


@contextmanager
def running(lab: Lab, engine: Engine, count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `armlift schedule` in processes of their own, and end those that are left at the end."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", COMMAND, "schedule", "--lab", str(lab.folder), "--database", url]
    with ExitStack() as stack:
        found = []
        for number in range(count):
            log = stack.enter_context((lab.folder / f"schedule{number}.txt").open("ab"))
            found.append(stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log)))
        try:
            yield found
        finally:
            for one in found:
                one.terminate()


def live(lab: Lab, engine: Engine) -> None:
    """Store events of the last days, and let a night be overdue."""
    fill(engine, days=9, first=today() - timedelta(days=9))
    make_overdue(engine)


def test_two_schedulers_do_each_night_once(lab: Lab, engine: Engine) -> None:
    write(lab, ONE_ARM)
    live(lab, engine)
    with running(lab, engine, 2) as processes:
        until(lambda: [one[1] for one in whole(engine)] == [SUCCEEDED])
        # Both have begun, and look at the timetable.
        said = [lab.folder / f"schedule{number}.txt" for number in range(2)]
        until(lambda: all("scheduling" in one.read_text() for one in said))
        time.sleep(0.5)
    assert [one.returncode for one in processes] == [0, 0]
    j = job_runs.c
    with engine.connect() as connection:
        asked = select(j.step, j.arm, func.count()).where(j.job == "nightly").group_by(j.step, j.arm)
        counts = {row[:2]: row[2] for row in connection.execute(asked)}
    assert len(counts) == 11
    assert set(counts.values()) == {1}


@sqlite_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_night_that_is_broken_off_is_gone_on_with_by_itself(
    lab: Lab, engine: Engine, faulty: None, number: signal.Signals
) -> None:
    define(lab.folder, "popularity", "bad")
    set_fault(lab, "bad", slow=20.0)
    live(lab, engine)
    with running(lab, engine) as (process,):
        until(lambda: is_running(engine, "retrain", "bad"))
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        began = time.monotonic()
        process.send_signal(number)
        code = process.wait(20)
        assert time.monotonic() - began < 5
    until(lambda: not any(map(lives, children)), 5)
    stopped = number == signal.SIGTERM
    assert code == (0 if stopped else -number)
    assert (newest(engine).status, newest(engine).error) == (
        (FAILED, "stopped") if stopped else (RUNNING, None)
    )
    set_fault(lab, "bad")
    with running(lab, engine):
        until(lambda: newest(engine).status == SUCCEEDED)
    runs = Record(engine).runs(job="nightly")
    assert [one.attempt for one in runs if not one.step] == [2, 1]
    assert {one.step for one in runs if one.step and one.attempt > 1} == {"retrain"}
    assert sum(one.status == SUCCEEDED for one in runs if one.step == "retrain") == 2


def is_running(engine: Engine, step: str, arm: str) -> bool:
    found = Record(engine).runs(job="nightly")
    return any((one.step, one.arm, one.status) == (step, arm, RUNNING) for one in found)


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_one_database_serves_schedulers_that_begin_together(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "shared.db"
    path.write_bytes(sqlite_template.read_bytes())
    lab = guarded.make_lab(tmp_path / "lab")
    engine = connect(f"sqlite:///{path}", tmp_path)
    together = threading.Barrier(4)
    made: list[Scheduler] = []

    def begin() -> None:
        together.wait()
        made.append(Scheduler(lab.again, engine))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(one.timetable.next_times()) for one in made] == [["monitor", "nightly"]] * 4
    for one in made:
        one.timetable.shutdown()
