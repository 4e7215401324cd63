"""ope: documents and text on every kind of log, and one line for every bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run

Refused = Callable[..., str]
Capture = pytest.CaptureFixture[str]
CSV = "unit,item,position,reward,propensity"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Write 400 rows of two items at one position."""
    lines = [f"u{n // 2},{'ab'[n % 2]},1,{int(n % 3 == 0)},0.5" for n in range(400)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([CSV, *lines, "u,,1,0,0.5"]) + "\n")
    return path


def document(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["ope", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_rows_give_a_document_and_a_text(rows: Path, capsys: Capture) -> None:
    found = document(capsys, rows, "--policy", "uniform", "--alpha", "0.1")
    assert (found["rows"], found["units"], found["dropped"]) == (400, 200, {"blank_item": 1})
    assert [one["method"] for one in found["values"]] == ["replay", "ips", "snips", "doubly_robust"]
    assert found["values"][1]["alpha"] == 0.1
    assert found["values"][1]["value"] == pytest.approx(134 / 400)
    assert found["slates"] == []
    assert run(["ope", str(rows), "--policy", "uniform", "--method", "snips", "--clip", "2"]) == 0
    text = capsys.readouterr().out
    assert "snips *" in text
    assert "doubly_robust" not in text
    assert "Rows left out: blank_item 1" in text


def test_another_file_tells_the_policy(rows: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other.csv"
    other.write_text("\n".join([CSV, "u,a,1,1,0.9", "v,b,1,0,0.1", "w,a,1,1,0.9"]) + "\n")
    found = document(capsys, rows, "--policy", other)
    assert found["policy"] == str(other)
    assert found["own"]["value"] == pytest.approx(2 / 3)
    assert found["weights"]["maximum"] == pytest.approx(1.8)


def test_arms_are_valued_on_random_rows(lab: Path, log_file: Path, capsys: Capture) -> None:
    found = document(capsys, log_file, "--policy", "popularity", "--lab", lab, "--k", "3")
    assert found["policy"].startswith("popularity ")
    assert (found["rows"], found["source"], found["notes"]) == (
        60,
        "random exposure",
        ["each propensity is 1 / 5"],
    )
    found = document(capsys, log_file, "--policy", "uniform", "--reward", "play", "--pool", "10")
    assert (found["rows"], found["logged"]["value"], found["items"]) == (120, pytest.approx(2.0), 10)
    found = document(capsys, log_file, "--policy", "uniform", "--until", "2022-04-11", "--lab", lab)
    assert found["rows"] == 30


def test_bad_input_is_one_line(
    rows: Path, lab: Path, log_file: Path, tmp_path: Path, refused: Refused
) -> None:
    assert "no such file" in refused("ope", tmp_path / "none.csv", "--policy", "uniform")
    line = refused("ope", rows, "--policy", "popularity")
    assert line == "--policy popularity: must be uniform or a file; an arm needs a KuaiRand log"
    line = refused("ope", log_file, "--policy", rows)
    assert line == f"--policy {rows}: on a KuaiRand log it must be uniform or an arm of the lab"
    assert "has no arm 'nobody'" in refused("ope", log_file, "--policy", "nobody", "--lab", lab)
    assert refused("ope", rows, "--policy", "uniform", "--clip", "0") == "--clip 0: must be above 0"
    assert "--alpha is 2.0" in refused("ope", rows, "--policy", "uniform", "--alpha", "2")
    assert "--method magic: must be one" in refused("ope", rows, "--policy", "uniform", "--method", "magic")
    line = refused("ope", rows, "--policy", "uniform", "--column", "unit")
    assert line == "--column unit: must be NAME=COLUMN, such as unit=user_id"
    line = refused("ope", log_file, "--policy", "uniform", "--column", "unit=a")
    assert line == "--column unit=a: a KuaiRand log has columns of its own"
    line = refused("ope", rows, "--policy", "uniform", "--pool", "3")
    assert line == "--pool and --until must stand with a KuaiRand log"
    until = ("--until", "2030-01-01", "--lab", lab)
    line = refused("ope", log_file, "--policy", "popularity", *until)
    assert line.startswith("--until 2030-01-01: is after the log's last row, 2022-04-11")
    assert "--until: 'soon' is not a time" in refused(
        "ope", log_file, "--policy", "popularity", "--until", "soon", "--lab", lab
    )
