"""Steps in processes of their own: what they give, and how they are ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from armlift.errors import InputError, OthersError
from armlift.nightly import StepSettings
from armlift_pipelines.worker import StepError, StoppedError, run

LIMITS = StepSettings(timeout="60s")


def add(given: Mapping[str, Any]) -> Mapping[str, Any]:
    print("adding", given["a"], "and", given["b"])
    return {"sum": given["a"] + given["b"], "pid": os.getpid()}


def refuse(given: Mapping[str, Any]) -> Mapping[str, Any]:
    raise InputError("arms/x.yaml:3: dim: 0 must be more")


def crash(given: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ZeroDivisionError("by nothing")


def die(given: Mapping[str, Any]) -> Mapping[str, Any]:
    os.kill(os.getpid(), given["signal"])
    time.sleep(60)
    return {}


def grow(given: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = []
    for _ in range(given["megabytes"]):
        kept.append(bytearray(os.urandom(1024)) * 1024)
        time.sleep(0.002)
    return {"kept": len(kept)}


def sleep(given: Mapping[str, Any]) -> Mapping[str, Any]:
    Path(given["pid"]).write_text(str(os.getpid()))
    time.sleep(given["seconds"])
    return {}


def stand(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say where this process stands among others."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    return {name: os.environ.get(name) for name in names}


def fail_in_second(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write this process down, and fail in the second of two as `how` says; the first one may follow."""
    rank = os.environ["RANK"]
    (Path(given["folder"]) / rank).write_text(str(os.getpid()))
    if rank == "0" and given["how"] == "refused":
        raise OthersError("another one has failed")
    while len([*Path(given["folder"]).iterdir()]) < 2:
        time.sleep(0.01)
    if rank == "1" and given["how"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == "1" and given["how"] == "refused":
        time.sleep(0.5)
        raise InputError("arms/x.yaml:3: dim: 0 must be more")
    time.sleep(60)
    return {}


def done(target: Any, given: Mapping[str, Any], tmp_path: Path, limits: StepSettings = LIMITS) -> Any:
    return run(target, given, limits, tmp_path / "step.log", threading.Event())


def test_a_step_gives_its_outputs_and_writes_a_log(tmp_path: Path) -> None:
    work = done(add, {"a": 1, "b": 2}, tmp_path)
    assert work.outputs["sum"] == 3
    assert work.outputs["pid"] != os.getpid()
    assert 0 < work.seconds < 60
    assert 10 < work.megabytes < 4000
    assert (tmp_path / "step.log").read_text() == "adding 1 and 2\n"


def test_wrong_input_is_not_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^arms/x.yaml:3: dim: 0 must be more$") as caught:
        done(refuse, {}, tmp_path)
    assert caught.value.lasting


def test_a_crash_is_told_in_a_line_and_in_full_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^ZeroDivisionError: by nothing$") as caught:
        done(crash, {}, tmp_path)
    assert not caught.value.lasting
    assert "Traceback" in (tmp_path / "step.log").read_text()


@pytest.mark.parametrize(
    ("number", "text"),
    [(signal.SIGKILL, "ended by SIGKILL, as by the system when memory"), (signal.SIGSEGV, "SIGSEGV")],
)
def test_a_process_that_is_ended_is_told(number: signal.Signals, text: str, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=text) as caught:
        done(die, {"signal": int(number)}, tmp_path)
    assert not caught.value.lasting


def test_too_much_memory_ends_a_step(tmp_path: Path) -> None:
    used = done(add, {"a": 1, "b": 2}, tmp_path).megabytes
    limit = max(64, round(used) + 200)
    with pytest.raises(StepError, match=rf"MB of memory, must use at most {limit:,}") as caught:
        done(grow, {"megabytes": 2000}, tmp_path, StepSettings(timeout="60s", megabytes=limit))
    assert caught.value.megabytes > limit


def test_too_much_time_ends_a_step(tmp_path: Path) -> None:
    pid, began = tmp_path / "pid", time.monotonic()
    with pytest.raises(StepError, match=r"^took longer than 1s$"):
        done(sleep, {"seconds": 60, "pid": str(pid)}, tmp_path, StepSettings(timeout="1s"))
    assert time.monotonic() - began < 30
    assert not psutil.pid_exists(int(pid.read_text()))


def test_a_step_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    pid, stop = tmp_path / "pid", threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    with pytest.raises(StoppedError):
        run(sleep, {"seconds": 60, "pid": str(pid)}, LIMITS, tmp_path / "log", stop)
    assert not pid.exists() or not psutil.pid_exists(int(pid.read_text()))


def test_several_processes_know_their_places_and_the_first_one_answers(tmp_path: Path) -> None:
    work = run(stand, {}, LIMITS, tmp_path / "log", threading.Event(), number=2)
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    assert work.outputs == place | {"MASTER_ADDR": "127.0.0.1"}
    alone = run(stand, {}, LIMITS, tmp_path / "log", threading.Event())
    assert {*alone.outputs.values()} == {None}
    assert work.megabytes > 1.5 * alone.megabytes


@pytest.mark.parametrize(
    ("how", "text", "lasting"),
    [
        ("refused", "^arms/x.yaml:3: dim: 0 must be more$", True),
        ("killed", "^its process was ended by SIGKILL", False),
    ],
)
def test_where_one_of_several_fails_the_others_are_ended(
    how: str, text: str, lasting: bool, tmp_path: Path
) -> None:
    folder, began = tmp_path / "pids", time.monotonic()
    folder.mkdir()
    given = {"folder": str(folder), "how": how}
    with pytest.raises(StepError, match=text) as caught:
        run(fail_in_second, given, LIMITS, tmp_path / "log", threading.Event(), number=2)
    assert caught.value.lasting is lasting
    assert time.monotonic() - began < 50
    assert_two_ended(folder)


def test_several_processes_that_nobody_wants_any_more_are_ended(tmp_path: Path) -> None:
    folder, stop = tmp_path / "pids", threading.Event()
    folder.mkdir()

    def stop_both() -> None:
        while len([*folder.iterdir()]) < 2:
            time.sleep(0.05)
        time.sleep(0.5)
        stop.set()

    threading.Thread(target=stop_both, daemon=True).start()
    with pytest.raises(StoppedError):
        run(fail_in_second, {"folder": str(folder), "how": "not"}, LIMITS, tmp_path / "log", stop, number=2)
    assert_two_ended(folder)


def assert_two_ended(folder: Path) -> None:
    pids = [int(path.read_text()) for path in folder.iterdir()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


PARENT = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_worker import LIMITS, run, sleep
if __name__ == "__main__":
    folder = Path(sys.argv[2])
    run(sleep, {"seconds": 60, "pid": str(folder / "pid")}, LIMITS, folder / "log", threading.Event())
"""


def test_a_step_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    here = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, str(script), here, str(tmp_path)]) as parent:
        until = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
