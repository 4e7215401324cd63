"""serve: bad input is one line, what runs beside is begun and ended with it, and a signal loses nothing."""

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from serving_lab import NAME, make_lab, ready, serving, size_of, wait_for
from sqlalchemy import Select, func, select

from armlift.cli import run
from armlift.client import ApiError, Client
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift.store.tables import exposures, scheduled_jobs


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--host", "0.0.0.0"],
            "--host 0.0.0.0: answers other machines, so serve.require_keys must be true in ",
        ),
        (["--host", "nowhere.invalid"], "so serve.require_keys must be true"),
        (["--port", "70000"], "70000"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    lab = make_lab(tmp_path / "lab")
    assert run(["serve", "--lab", str(lab.folder), *options]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_and_a_broken_file_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = make_lab(tmp_path / "lab")
    with serving(lab) as answering:
        words = ["serve", "--lab", str(lab.folder), "--port", str(answering.port)]
        assert run(words) == 2
    assert f"--port {answering.port}: cannot be listened at (" in capsys.readouterr().err
    (lab.folder / "serving.yaml").write_text("filters: 3\n")
    assert run(["serve", "--lab", str(lab.folder), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "serving.yaml:1: filters: " in said
    assert said.count("\n") == 1


def commands_of(process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """Give the `armlift` commands that a process runs beside."""
    found: dict[str, psutil.Process] = {}
    for child in psutil.Process(process.pid).children():
        words = child.cmdline()
        for name in ("ingest", "schedule", "dashboard"):
            if name in words:
                found[name] = child
    return found


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_all_of_it_begins_and_ends_together(tmp_path: Path, sent: signal.Signals) -> None:
    lab = ready(tmp_path / "lab", size_of(50, 1), users=50)
    port = free_port()
    with serving(lab, "--all", "--dashboard-port", str(port)) as answering:
        beside = commands_of(answering.process)
        assert set(beside) == {"ingest", "schedule", "dashboard"}
        with Client(answering.url) as client:
            client.recommend("u1", experiment=NAME)
        wait_for(lambda: exposed(lab) == 1, 30)
        wait_for(lambda: scheduled(lab) > 0, 30)
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/"), 30)
        everybody = [
            answering.process.pid,
            *(one.pid for one in psutil.Process(answering.process.pid).children(True)),
        ]
        beside["ingest"].kill()
        wait_for(lambda: commands_of(answering.process).get("ingest") not in (None, beside["ingest"]), 15)
        everybody.append(commands_of(answering.process)["ingest"].pid)
        began = time.monotonic()
        answering.process.send_signal(sent)
        answering.process.wait(30)
        assert time.monotonic() - began < 20
        wait_for(lambda: not any(psutil.pid_exists(one) for one in everybody), 10)
    # A shell has what runs in its background ignore Ctrl-C; then the code is 0.
    assert answering.process.returncode in ((0,) if sent == signal.SIGTERM else (0, 130))
    with Client(answering.url) as client, pytest.raises(ApiError):
        client.experiments()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def exposed(lab: Lab) -> int:
    return counted(lab, select(func.count()).select_from(exposures))


def scheduled(lab: Lab) -> int:
    return counted(lab, select(func.count()).select_from(scheduled_jobs))


def counted(lab: Lab, query: Select[Any]) -> int:
    engine = open_database(lab)
    try:
        with engine.connect() as connection:
            return int(connection.scalar(query) or 0)
    finally:
        engine.dispose()
