"""The command: it shows what there is and asks, erases, and tells by its exit code if there was any."""

import json
from pathlib import Path

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from armlift.days import DAY_MS
from armlift.lab import Lab, init_lab
from armlift.store import tables
from armlift.store.database import open_database, writing
from armlift.store.sink import insert_new
from armlift_pipelines.commands import app

DAY = 20_000


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Make a lab in which two units did something."""
    init_lab(tmp_path / "lab")
    engine = open_database(Lab(tmp_path / "lab"), create=True)
    rows = [
        (DAY, DAY, f"{n:032x}", "live", DAY * DAY_MS, f"{n:032x}", f"u{n % 2}", "i", "click", 1.0, 0)
        for n in range(6)
    ]
    with writing(engine) as connection:
        insert_new(connection, tables.feedback, rows)
        row = {
            "experiment": "e",
            "version": 1,
            "definition": {"experiment": {"forced": {"u1": "a"}}},
            "at": 1,
        }
        row |= {"hash": "0", "run": "live", "state": "running", "by": "me"}
        connection.execute(insert(tables.experiments).values(row))
    engine.dispose()
    return tmp_path / "lab"


def run(lab: Path, *words: str, says: str | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["forget", *words, "--lab", str(lab)], input=says)
    told = str(done.exception) if done.exception and not isinstance(done.exception, SystemExit) else ""
    return done.exit_code, done.stdout, done.stderr + told


def test_it_shows_and_does_not_erase_unasked(lab: Path) -> None:
    code, out, err = run(lab, "u1")
    assert code == 1
    assert out == ""
    assert "unit 'u1', 1 id:\n             3  feedback\n" in err
    assert "experiment e: its `forced` names the unit" in err
    assert "nobody can be asked here, must be given --yes" in err
    assert "             3  feedback\n" in run(lab, "u1")[2]


def test_it_erases(lab: Path) -> None:
    code, out, err = run(lab, "u1", "--yes", "--by", "ann")
    assert (code, out) == (0, "")
    assert "             3  feedback\n" in err
    assert "erased, and recorded" in err
    code, _, err = run(lab, "u1")
    assert (code, err.splitlines()[0]) == (1, "nothing of unit 'u1' was found")
    code, out, _ = run(lab, "nobody", "--yes", "--json")
    assert (code, json.loads(out)) == (1, {"unit": "nobody", "ids": 1, "erased": {}, "named_by": []})
    code, out, _ = run(lab, "--again", "--json")
    assert (code, json.loads(out)) == (0, {"recorded": 2, "ids": 0, "erased": {}})
    code, out, _ = run(lab, "u0", "--yes", "--json")
    assert (code, json.loads(out)["erased"]) == (0, {"feedback": 3})
    assert run(lab, "--again")[1] == "3 erasures are recorded; 0 ids had come back: nothing\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "must be given a unit, or --again"),
        (["u1", "--again"], "must be given a unit, or --again"),
        (["u" * 201, "--yes"], "must have 1 to 200 characters"),
        (["u1", "--yes", "--by", " "], "--by ' ': must have 1 to 200 characters"),
    ],
)
def test_wrong_words_are_refused(lab: Path, words: list[str], says: str) -> None:
    code, _, err = run(lab, *words)
    assert code == 1, "an InputError, which the program turns into 2"
    assert says in err
