"""The record of jobs: one process does a job at a time, and what a dead one left is taken up."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from databases import Server
from sqlalchemy import Engine, update

from armlift.store.database import connect, upgrade, writing
from armlift.store.tables import job_runs
from armlift_pipelines.job_runs import (
    FAILED,
    SILENT,
    SUCCEEDED,
    BusyError,
    Heartbeat,
    JobRun,
    Key,
    Record,
    owner,
)

KEY = Key("nightly", "live/2026-01-02")


def test_a_run_begins_and_ends(engine: Engine) -> None:
    record = Record(engine)
    begun = record.begin(KEY, {"a": 1}, log="logs/x.log")
    assert (begun.attempt, begun.status, begun.seconds) == (1, "running", None)
    assert {"armlift", "python", "torch"} <= begun.versions.keys()
    done = record.end(begun, SUCCEEDED, {"b": 2})
    stored = record.newest(KEY)
    assert stored is not None
    assert stored._replace(seen=0) == done
    assert stored.seconds is not None
    assert stored.outputs == {"b": 2}
    assert record.done(KEY) == stored
    assert record.done(KEY, stored.inputs_hash) == stored
    assert record.done(KEY, "other") is None
    assert record.done(KEY._replace(step="retrain")) is None


def test_who_comes_second_is_told_who_does_it(engine: Engine) -> None:
    record = Record(engine)
    record.begin(KEY, {})
    with pytest.raises(BusyError, match=rf"nightly live/2026-01-02: {socket.gethostname()}:{os.getpid()}:"):
        record.begin(KEY, {})
    record.begin(KEY._replace(step="retrain", arm="recgpt", scope="*"), {})  # another job


def test_attempts_are_counted(engine: Engine) -> None:
    record = Record(engine)
    for number in (1, 2, 3):
        run = record.begin(KEY, {"n": number})
        assert run.attempt == number
        record.end(run, FAILED, {}, "no")
    first = record.first(KEY)
    assert first is not None
    assert first.inputs == {"n": 1}
    assert [one.attempt for one in record.runs(job="nightly")] == [3, 2, 1]
    assert record.runs(job="monitor") == []


def of_another_host(engine: Engine, run: JobRun, silent: float) -> None:
    with writing(engine) as connection:
        values = {"owner": "elsewhere:1:1.00", "seen": job_runs.c.seen - round(silent * 1000)}
        connection.execute(update(job_runs).where(job_runs.c.id == run.id).values(values))


def test_a_process_of_another_host_is_gone_once_it_is_silent(engine: Engine) -> None:
    record = Record(engine)
    of_another_host(engine, record.begin(KEY, {}), SILENT - 10)
    with pytest.raises(BusyError, match="elsewhere:1"):
        record.begin(KEY, {})
    (first,) = record.runs()
    of_another_host(engine, first, 20)
    assert record.begin(KEY, {}).attempt == 2
    buried = record.first(KEY)
    assert buried is not None
    assert (buried.status, buried.error) == (FAILED, "its process ended: elsewhere:1:1.00")


def test_signs_of_life_keep_a_run(engine: Engine) -> None:
    record = Record(engine)
    mine = record.begin(KEY, {})
    of_another_host(engine, mine, SILENT + 10)
    with Heartbeat(record, mine, interval=0.02):
        time.sleep(0.3)
        with pytest.raises(BusyError):
            record.begin(KEY, {})


HOLD = """
import sys, time
from pathlib import Path
from armlift.store.database import connect
from armlift_pipelines.job_runs import Key, Record
record = Record(connect(sys.argv[1], Path()))
record.begin(Key("nightly", "live/2026-01-02"), {})
print("begun", flush=True)
time.sleep(60)
"""


def test_a_killed_process_of_this_host_is_known_to_be_gone_at_once(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    with subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        record = Record(engine)
        with pytest.raises(BusyError, match=f":{process.pid}:"):
            record.begin(KEY, {})
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert record.begin(KEY, {}).attempt == 2


def race(url: str, folder: str, go: str) -> None:
    record = Record(connect(url, Path(folder)))
    while not Path(go).exists():
        time.sleep(0.001)
    try:
        run = record.begin(KEY, {"who": os.getpid()})
    except BusyError:
        return
    time.sleep(1.0)
    record.end(run, SUCCEEDED, {})


def test_of_many_processes_one_does_the_job(engine: Engine, tmp_path: Path) -> None:
    url, go = engine.url.render_as_string(hide_password=False), tmp_path / "go"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=race, args=(url, str(tmp_path), str(go))) for _ in range(4)]
    for process in processes:
        process.start()
    time.sleep(2.0)
    go.touch()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    (one,) = Record(engine).runs()
    assert one.status == SUCCEEDED


def test_a_database_that_comes_back_is_waited_for(postgresql_server: Server, tmp_path: Path) -> None:
    engine = connect(postgresql_server.url, tmp_path)
    upgrade(engine)
    record = Record(engine, patience=30.0)
    key = Key("nightly", f"live/{time.monotonic_ns()}")
    run = record.begin(key, {})
    postgresql_server.stop()
    record.beat(run)  # nobody hears it
    back = threading.Timer(1.0, postgresql_server.start)
    back.start()
    assert record.end(run, SUCCEEDED, {}).status == SUCCEEDED
    back.join()
    found = record.newest(key)
    assert found is not None
    assert found.status == SUCCEEDED
    engine.dispose()


def test_a_process_names_itself_so_that_no_later_one_has_its_name() -> None:
    assert owner() == owner()
    code = "from armlift_pipelines.job_runs import owner; print(owner())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() != owner()


def test_runs_are_found_by_job_status_and_id(engine: Engine) -> None:
    record = Record(engine)
    assert record.jobs() == []
    assert record.gone() == frozenset()
    night, look, other = (Key(job, "x") for job in ("nightly", "monitor", "export"))
    made = [record.begin(key, {}) for key in (night, look, other)]
    record.end(made[0], SUCCEEDED, {})
    record.end(made[1], FAILED, {}, "no")
    assert record.jobs() == ["export", "monitor", "nightly"]
    assert {one.job for one in record.runs(job=["nightly", "export"])} == {"nightly", "export"}
    assert record.runs(job=[]) == []
    assert [one.job for one in record.runs(status=FAILED)] == ["monitor"]
    assert [one.id for one in record.named(made[0].id[:8])] == [made[0].id]
    assert record.named(made[0].id[:8] + "%") == []
    assert len(record.named("")) == 2, "which is enough to know that it names several"


def test_a_run_whose_process_is_gone_is_told_and_stays_as_it_is(engine: Engine) -> None:
    record = Record(engine)
    mine, far = record.begin(KEY, {}), record.begin(KEY._replace(subject="far"), {})
    here = record.begin(KEY._replace(subject="here"), {})
    with writing(engine) as connection:
        gone = {far.id: "elsewhere:1:2.00", here.id: f"{socket.gethostname()[:150]}:1:2.00"}
        for identity, owner_name in gone.items():
            same = job_runs.c.id == identity
            connection.execute(update(job_runs).where(same).values(owner=owner_name))
        silent = {"seen": job_runs.c.seen - 1000 * SILENT - 1000}
        connection.execute(update(job_runs).where(job_runs.c.id == far.id).values(silent))
    assert record.gone() == {far.id, here.id}
    assert {one.status for one in record.runs()} == {"running"}
    assert mine.id not in record.gone()
