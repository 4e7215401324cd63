"""The commands of nights, as their users type them."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from walkers import FIRST, define, fill, make_lab

from armlift.cli import run
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift_pipelines.job_runs import Key, Record

DAY = FIRST + timedelta(days=6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Give a lab with one arm and a night that is done."""
    folder = tmp_path_factory.mktemp("commands") / "lab"
    make_lab(folder)
    define(folder, "popularity")
    lab = Lab(folder)
    engine = open_database(lab, create=True)
    fill(engine)
    engine.dispose()
    assert run(["nightly", "--date", str(DAY), "--lab", str(folder)]) == 0
    return lab


def armlift(lab: Lab, *words: str) -> int:
    return run([*words, "--lab", str(lab.folder)])


def test_a_night_tells_what_serves(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert armlift(made, "nightly", "--date", str(DAY)) == 0
    out, err = capsys.readouterr()
    assert f"night live/{DAY}: 10 of 10 steps done" in out
    assert "popularity" in out
    assert "promoted" in out
    assert "retrain popularity" in err


def test_a_night_as_a_document(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert armlift(made, "nightly", "--date", str(DAY), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["night"], found["status"]) == (str(DAY), "succeeded")
    assert [one["step"] for one in found["steps"]][:3] == ["roll_up", "build_dataset", "retrain"]
    assert all(
        {"inputs_hash", "versions", "log", "seconds", "outputs"} <= one.keys() for one in found["steps"]
    )


def test_a_refusal_is_exit_code_1(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    text = (made.folder / "nightly.yaml").read_text()
    (made.folder / "nightly.yaml").write_text(text.replace("minimum_units: 20", "minimum_units: 2000"))
    try:
        assert armlift(made, "nightly", "--date", str(DAY - timedelta(days=1))) == 1
    finally:
        (made.folder / "nightly.yaml").write_text(text)
    assert "refused: popularity: 60 units can be asked, must be at least 2000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--date", "yesterday"], "--date 'yesterday' is no day, must be YYYY-MM-DD"),
        (
            ["--date", "2999-01-01"],
            "night 2999-01-01: begins 2999-01-01T00:00:00+00:00, must not lie in the future",
        ),
    ],
)
def test_a_day_that_is_none_is_exit_code_2(
    made: Lab, capsys: pytest.CaptureFixture[str], given: list[str], complaint: str
) -> None:
    assert armlift(made, "nightly", *given) == 2
    assert capsys.readouterr().err == f"armlift: {complaint}\n"


def test_a_night_that_another_process_does_is_exit_code_2(
    made: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_database(made)
    busy = Record(engine).begin(Key("nightly", f"live/{DAY}"), {"parents": {}, "now": 0})
    assert armlift(made, "nightly", "--date", str(DAY)) == 2
    Record(engine).end(busy, "failed", {}, "made so")
    engine.dispose()
    assert "is doing it; wait for it, or end it first" in capsys.readouterr().err


def test_jobs_are_shown_in_80_columns(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert armlift(made, "jobs", "--steps") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"nightly live/{DAY}" in shown
    assert "  write_prompts popularity" in shown


def test_jobs_as_a_document(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert armlift(made, "jobs", "--date", str(DAY), "--json", "--limit", "1000") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"job", "status", "started", "seconds"} <= found["runs"][0].keys()
    assert {one["subject"] for one in found["runs"]} == {f"live/{DAY}"}
    assert found["next"] == {}


def test_the_log_of_a_step_is_printed(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    armlift(made, "jobs", "--date", str(DAY), "--json")
    (gate,) = [one for one in json.loads(capsys.readouterr().out)["runs"] if one["step"] == "gate"]
    assert armlift(made, "jobs", "--log", gate["id"][:8]) == 0
    assert "passes\tunits: 60 units can be asked, at least 20\n" in capsys.readouterr().out
    assert armlift(made, "jobs", "--log", "none") == 2
    assert "--log 'none' names no run; see `armlift jobs --steps`" in capsys.readouterr().err


def test_a_schedule_that_is_none_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lab(tmp_path / "lab")
    (tmp_path / "lab" / "nightly.yaml").write_text("run: live\nschedule: {cron: 30 3 * * 1}\n")
    assert run(["schedule", "--lab", str(tmp_path / "lab")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        f"armlift: {tmp_path / 'lab' / 'nightly.yaml'}:2: schedule: '30 3 * * 1' in UTC is no schedule"
    )
    assert "the day of week is '1', must be by name, like mon-fri" in told


def test_the_night_of_today_is_the_default(made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert armlift(made, "nightly", "--json") in (0, 1)
    assert json.loads(capsys.readouterr().out)["night"] >= str(date.today() - timedelta(days=1))
