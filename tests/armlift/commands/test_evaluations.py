"""train on sequences, and evaluate: their documents, and one line for every bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift import processes
from armlift.cli import run
from armlift.fitted import FittedArms

Refused = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sequences.txt"
    rows = [
        f"{unit} {' '.join(str((unit + 3 * at) % 30) for at in range(2 + unit % 5))}" for unit in range(60)
    ]
    path.write_text("\n".join([*rows, "60 7"]) + "\n")
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert run([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_arm_is_one_document(lab: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "evaluate", "covisitation", "--lab", lab, "--sequences", file)
    assert (found["arm"], found["seed"], found["split"]) == ("covisitation", 0, "test")
    assert (found["users"], found["skipped"], found["items"], found["recall"]) == (60, 1, 30, [20])
    names = {f"{name}@{k}" for name in ("HR", "NDCG") for k in (5, 10, 20)}
    assert set(found["intervals"]) == names
    assert set(found["metrics"]) == names | {"coverage@10", "novelty@10"}
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low <= found["metrics"][name] <= high <= 1
    assert (lab / "models" / "covisitation" / found["version"] / "manifest.json").is_file()


def test_several_arms_are_compared_with_the_first(
    lab: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "evaluate",
        "random",
        "popularity",
        "--lab",
        lab,
        "--sequences",
        file,
        "--seed",
        "1",
        "--seed",
        "2",
    )
    found = answer(capsys, *words)
    assert [(one["arm"], one["seed"]) for one in found["evaluations"]] == [
        ("random", 1),
        ("popularity", 1),
        ("random", 2),
        ("popularity", 2),
    ]
    first, second = found["differences"]
    assert (first["arm"], first["control"]) == ("popularity", "random")
    assert first["control_version"] == found["evaluations"][0]["version"] != second["control_version"]
    for difference, (control, arm) in zip(
        found["differences"], (found["evaluations"][:2], found["evaluations"][2:]), strict=True
    ):
        expected = arm["metrics"]["HR@5"] - control["metrics"]["HR@5"]
        assert difference["metrics"]["HR@5"] == pytest.approx(expected)


def test_an_arm_is_trained_once(
    lab: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = answer(capsys, "train", "covisitation", "--lab", lab, "--sequences", file)
    assert trained["data_until"] == 6
    assert Path(trained["artefact"]).is_dir()
    valid = answer(capsys, "evaluate", "covisitation", "--lab", lab, "--sequences", file, "--split", "valid")
    assert valid["version"] != trained["version"]
    monkeypatch.setattr(FittedArms, "fit", lambda *_: pytest.fail("the artefact should have been found"))
    words = ("evaluate", "covisitation", "--lab", lab, "--sequences", file)
    first = answer(capsys, *words)
    assert first["version"] == trained["version"]
    assert answer(capsys, *words) == first


def test_people_read_a_table(lab: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--lab", str(lab), "--sequences", str(file)]
    assert run(["evaluate", "popularity", "covisitation", *words]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("test: 60 users, 30 items, whole catalogue ranked; 1 skipped\n\npopularity ")
    assert "\ncovisitation " in out
    assert out.count("HR@10") == 3
    assert max(map(len, out.splitlines())) <= 80
    assert err == "training popularity, seed 0\ntraining covisitation, seed 0\n"
    assert run(["train", "popularity", *words]) == 0
    assert ": trained on all but the last item of 61 sequences, stored in " in capsys.readouterr().out


TINY = """\
name: tiny
model: sasrec
dim: 8
layers: 1
heads: 1
length: 6
batch_tokens: 64
negatives: 16
epochs: 3
"""


@pytest.fixture
def tiny(lab: Path) -> Path:
    """Give the file of an arm that learns fast."""
    path = lab / "arms" / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_training_goes_on_from_an_artefact(
    lab: Path, tiny: Path, file: Path, log_file: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    words = ("train", "tiny", "--lab", lab, "--sequences", file)
    assert run(list(map(str, words))) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"tiny train: 3/3 loss \d+\.\d{3} HR@10 [\d.]+ NDCG@10 .* best \d: .*\n", err)
    assert ": trained on all but the last item of " in out
    cold = answer(capsys, *words)
    warm = answer(capsys, *words, "--warm", cold["version"])
    assert (cold["parent"], warm["parent"]) == (None, cold["version"])
    assert warm["version"] != cold["version"]
    assert answer(capsys, *words) == cold
    assert run([*map(str, words), "--warm", warm["version"]]) == 0
    assert f": trained from {warm['version']} on, on all but the last item" in capsys.readouterr().out
    on_log = ("train", "tiny", "--lab", lab, "--log", log_file, "--until", "2022-04-10")
    assert answer(capsys, *on_log, "--warm", cold["version"])["parent"] == cold["version"]
    says = f"{lab}/models/tiny/none/manifest.json: there is no such artefact of 'tiny'"
    for command in (words, on_log):
        assert refused(*command, "--warm", "none") == says
    line = refused("train", "popularity", *words[2:], "--warm", cold["version"])
    assert line.startswith("arm popularity: model 'popularity' goes on from no artefact, must be one of ")


def armlift(words: tuple[str | Path, ...], **environment: str) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [Path(sys.executable).parent / "armlift", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_that_was_killed_goes_on(
    lab: Path, tiny: Path, file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tiny.write_text(TINY.replace("epochs: 3", "epochs: 60\npatience: 60"))
    words = ("train", "tiny", "--lab", lab, "--sequences", file)
    other = shutil.copytree(lab, tmp_path / "other")
    process = armlift(words)
    while process.poll() is None and not [*lab.glob("checkpoints/tiny/*/train.safetensors")]:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (path,) = lab.glob("checkpoints/tiny/*/train.safetensors")
    content = path.read_bytes()
    path.write_bytes(b"?")
    assert run(list(map(str, words))) == 2
    says = f"armlift: {path}: is no checkpoint, must be removed to train from the start\n"
    assert capsys.readouterr().err == says
    path.write_bytes(content)
    went_on = answer(capsys, *words)
    assert not (lab / "checkpoints").exists()
    whole = answer(capsys, "train", "tiny", "--lab", other, "--sequences", file)
    assert went_on["version"] == whole["version"]


def test_two_processes_train_together(lab: Path, tiny: Path, file: Path) -> None:
    words = ("train", "tiny", "--lab", lab, "--sequences", file, "--json")
    started = [armlift(words, **place) for place in processes.places(2)]
    try:
        (out, err), (other_out, other_err) = [process.communicate(timeout=900) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], (err, other_err)
    assert (other_out, other_err) == ("", "")
    assert err.startswith("tiny train: 3/3 loss ")
    assert err.count("\n") == 1
    assert (Path(json.loads(out)["artefact"]) / "manifest.json").is_file()
    assert not (lab / "checkpoints").exists()


def test_only_train_runs_in_several_processes(
    lab: Path, file: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = refused("evaluate", "popularity", "--lab", lab, "--sequences", file)
    assert line == "WORLD_SIZE: 2 processes run this, must be 1; train runs in more"


def test_what_to_train_on_is_said_once(lab: Path, file: Path, log_file: Path, refused: Refused) -> None:
    neither = "train must have either --log FILE with --until TIME, or --sequences FILE"
    train = ("train", "popularity", "--lab", lab)
    assert refused(*train) == neither
    assert refused(*train, "--log", log_file) == neither
    assert refused(*train, "--until", "2022-04-10") == neither
    both = f"--sequences {file}: must stand without --log and --until"
    assert refused(*train, "--sequences", file, "--until", "2022-04-10") == both
    assert refused(*train, "--sequences", file, "--log", log_file) == both
    words = ("--log", log_file, "--until", "2022-04-10", "--kind", "like")
    assert refused(*train, *words) == "--kind like: must stand with --sequences"


def test_bad_input_is_one_line(lab: Path, file: Path, refused: Refused, tmp_path: Path) -> None:
    for command in ("train", "evaluate"):
        words = (command, "popularity", "--lab", lab, "--sequences")
        assert refused(*words, tmp_path / "none") == f"{tmp_path / 'none'}: no such file"
        says = "--kind play: must be one of the history_kinds of arm popularity: click, like, "
        assert refused(*words, file, "--kind", "play").startswith(says)
    short = tmp_path / "short"
    short.write_text("1 2\n3 2\n1x\n")
    line = refused("evaluate", "popularity", "--lab", lab, "--sequences", short)
    assert line == f"{short}: line 3: has 1 field, must have a user and at least one item"
    line = refused("evaluate", "popular", "--lab", lab, "--sequences", file)
    assert line.startswith(f"{lab}: has no arm 'popular', must be one of ")
    line = refused("evaluate", "popularity", "--lab", lab, "--sequences", file, "--split", "tset")
    assert line.startswith("--split: 'tset' is not one of 'test', 'valid'")
    assert not (lab / "armlift.db").exists()
    short.write_text("1 2\n3 2\n")
    line = refused("evaluate", "popularity", "--lab", lab, "--sequences", short)
    assert line == f"{short}: no user has 2 items or more, must have for the test split"
