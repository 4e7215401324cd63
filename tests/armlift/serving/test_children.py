"""Commands beside the API: begun anew when they end, and gone with it, whatever way it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from serving_lab import wait_for

from armlift.lab import Lab, init_lab
from armlift.serving import children
from armlift.serving.children import Children


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


def running(lab: Lab) -> list[psutil.Process]:
    """Give the processes that ingest for a lab."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or []
        if "ingest" in words and str(lab.folder) in words:
            found.append(one)
    return found


def test_a_command_that_ends_is_begun_anew_and_ended_at_last(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "PAUSES", (0.1, 0.2))
    said: list[str] = []
    commands = {"ingest": ["ingest", "--lab", str(lab.folder)]}
    with Children(commands, {"ARMLIFT_STREAM_URL": "local://elsewhere"}, say=said.append):
        wait_for(lambda: (lab.folder / "elsewhere").is_dir())
        (first,) = running(lab)
        first.kill()
        wait_for(lambda: [one.pid for one in running(lab)] not in ([], [first.pid]))
        assert said == ["ingest ended with code -9, begins anew in 0.1 s"]
        wait_for(lambda: (lab.folder / "armlift.db").is_file())
        (second,) = running(lab)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert (running(lab), second.is_running()) == ([], False)
    assert len(said) == 1, "what is told to end does not begin anew"


def test_pauses_grow_while_a_command_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PAUSES", (0.05, 0.1))
    said: list[str] = []
    with Children({"nothing": ["nothing"]}, {}, say=said.append):
        wait_for(lambda: len(said) == 3)
    line = "nothing ended with code 2, begins anew in {} s"
    assert said[:3] == [line.format(pause) for pause in ("0.05", "0.1", "0.1")]


def test_a_command_that_does_not_end_is_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "END_SECONDS", 0.3)
    with Children({"ingest": ["ingest", "--lab", str(lab.folder)]}, {}, say=print):
        wait_for(lambda: (lab.folder / "armlift.db").is_file())
        (one,) = running(lab)
        one.suspend()
    assert not one.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_commands_end_with_a_process_that_is_killed(lab: Lab) -> None:
    code = f"""
import time
from armlift.serving.children import Children
with Children({{"ingest": ["ingest", "--lab", {str(lab.folder)!r}]}}, {{}}, say=print):
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: (lab.folder / "armlift.db").is_file())
        assert len(running(lab)) == 1
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: running(lab) == [])
