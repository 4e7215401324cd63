"""train on sequences, and evaluate: their documents, and one line for every bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
