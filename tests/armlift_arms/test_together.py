"""Training in several processes: what one does, up to what is drawn; and none is left when one fails."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from armlift import processes
from armlift.cli import run
from armlift.lab import init_lab

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAIN = ("-m", "armlift", "train", "tiny")
TINY = """
name: tiny
model: recgpt
history_kinds: [click]
dim: 16
heads: 1
length: 8
batch_tokens: 128
negatives: 32
prompts: 1
pretraining_epochs: 2
epochs: 12
patience: 12
"""
PATIENCE = 240.0
"""Seconds until a process must have ended."""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Make a lab with a small arm."""
    folder = tmp_path / "lab"
    init_lab(folder)
    (folder / "arms" / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write sequences that go round a circle of 40 items."""
    return sequences(tmp_path / "sequences.txt", 120)


def sequences(path: Path, units: int) -> Path:
    rows = [" ".join(str((unit + 3 * at) % 40) for at in range(9 + unit % 4)) for unit in range(units)]
    path.write_text("".join(f"{unit} {row}\n" for unit, row in enumerate(rows)))
    return path


def start(*words: str | Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(first: Path, second: Path, lab: Path) -> "list[subprocess.Popen[str]]":
    """Start two processes as on two machines, where nobody looks after both; each is given its own file."""
    return [
        start(sys.executable, *TRAIN, "--lab", lab, "--sequences", file, **place)
        for place, file in zip(processes.places(2), (first, second), strict=True)
    ]


@pytest.fixture
def ended() -> "Iterator[list[subprocess.Popen[str]]]":
    """Collect processes that are ended after the test, whatever became of them."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def until_it_learns(lab: Path, *team: "subprocess.Popen[str]") -> None:
    """Wait for the first checkpoint."""
    end = time.monotonic() + PATIENCE
    while not [*lab.glob("checkpoints/tiny/*/*.safetensors")]:
        for one in team:
            assert one.poll() is None, one.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def slow(lab: Path) -> None:
    (lab / "arms" / "tiny.yaml").write_text(TINY.replace("pretraining_epochs: 2", "pretraining_epochs: 9999"))


def test_torchrun_trains_an_arm_as_one_process_does(
    lab: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(lab, lab.with_name("other"))
    process = start(*TORCHRUN, *TRAIN, "--lab", lab, "--sequences", file, "--json")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    together = json.loads(out)
    assert run(["train", "tiny", "--lab", str(other), "--sequences", str(file), "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    figures = [figures_of(found) for found in (together, alone)]
    assert together["version"] != alone["version"]
    assert {*figures[0]} == {*figures[1]}
    # What is drawn differs as from seed to seed; what is learnt does not.
    assert figures[0]["tune_HR@10"] == pytest.approx(figures[1]["tune_HR@10"], abs=0.1)
    for name in ("loss_before", "loss_after"):
        assert figures[0][name] == pytest.approx(figures[1][name], rel=0.25)
    assert figures[0]["prompt_hits_train"] == pytest.approx(figures[1]["prompt_hits_train"], abs=0.2)
    assert not (lab / "checkpoints").exists()


def figures_of(found: dict[str, Any]) -> dict[str, float]:
    return dict(json.loads((Path(found["artefact"]) / "manifest.json").read_text())["figures"])


def test_where_a_process_is_killed_torchrun_ends_with_an_error(
    lab: Path, file: Path, ended: "list[subprocess.Popen[str]]"
) -> None:
    slow(lab)
    process = start(*TORCHRUN, *TRAIN, "--lab", lab, "--sequences", file)
    ended.append(process)
    until_it_learns(lab, process)
    team = psutil.Process(process.pid).children()
    assert len(team) == 2
    team[1].kill()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    _, left = psutil.wait_procs(team, timeout=10.0)
    assert left == []
    assert not [*lab.glob("models/tiny/*")]


@pytest.mark.parametrize("killed", [0, 1])
def test_the_other_process_ends_with_one_line(
    lab: Path, file: Path, killed: int, ended: "list[subprocess.Popen[str]]"
) -> None:
    slow(lab)
    team = start_two(file, file, lab)
    ended += team
    until_it_learns(lab, *team)
    team[killed].send_signal(signal.SIGKILL)
    other = team[1 - killed]
    _, err = other.communicate(timeout=PATIENCE)
    assert other.returncode == 2, err
    line = err.splitlines()[-1]
    assert line.startswith("armlift: training: another of its processes has failed or cannot be reached; ")
    assert "Traceback" not in err


def test_processes_that_see_other_data_are_told(
    lab: Path, file: Path, tmp_path: Path, ended: "list[subprocess.Popen[str]]"
) -> None:
    team = start_two(file, sequences(tmp_path / "fewer.txt", 60), lab)
    ended += team
    said = [process.communicate(timeout=PATIENCE)[1] for process in team]
    assert [process.returncode for process in team] == [2, 2], said
    for one in said:
        assert one.startswith("armlift: training: the number of batches is ")
        assert one.endswith("must be the same: all must see the same data and the same folder of the lab\n")


def test_processes_that_cannot_meet_are_told(
    lab: Path, file: Path, ended: "list[subprocess.Popen[str]]"
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        first, _ = processes.places(2)
        taken = first | {"MASTER_PORT": str(other.getsockname()[1])}
        unset = {name: value for name, value in first.items() if name != "MASTER_ADDR"}
        train = (sys.executable, *TRAIN, "--lab", lab, "--sequences", file)
        ended += [start(*train, **taken), start(*train, **unset)]
        said = [process.communicate(timeout=PATIENCE)[1] for process in ended]
    assert [process.returncode for process in ended] == [2, 2], said
    begins = "armlift: training: its processes cannot meet at "
    assert said[0].startswith(f"{begins}127.0.0.1:{taken['MASTER_PORT']} (The server socket has failed")
    assert said[1].startswith(f"{begins}(not set):{first['MASTER_PORT']} (")
    assert [one.count("\n") for one in said] == [1, 1]
