"""replay, report and train: their documents, and one line for every bad input."""

import gc
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.cli import run
from armlift.store import database
from armlift.store.tables import SCHEMA_REVISION

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]

HEADER = "user_id,video_id,time_ms,is_click"
LOGS = {
    "missing": (None, "no such file"),
    "empty": (b"", "the file is empty, must be a CSV file with a header"),
    "header only": (f"{HEADER}\n".encode(), "has a header but no rows"),
    "wrong header": (b"a,b,c\n1,2,3\n", "line 1: 'a,b,c' is not the header of a log, must have (KuaiRand)"),
    "column missing": (
        b"user_id,time_ms,is_click\n1,2,3\n",
        "line 1: column video_id is missing, a KuaiRand",
    ),
    "text in a number": (
        f"{HEADER}\n1,2,1649400000000,1\n1,2,soon,1\n".encode(),
        "line 3: time_ms is 'soon', must be a whole number",
    ),
    "cells missing": (f"{HEADER}\n1,2\n".encode(), "line 2: has 2 columns, must have 4 as in the header"),
    "not UTF-8": (f"{HEADER}\n1,2,1649400000000,\xe9\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "line 1: byte 0x89 is not UTF-8"),
}


@pytest.mark.parametrize(("content", "says"), LOGS.values(), ids=LOGS)
def test_a_bad_log_is_one_line(
    lab: Path, refused: Refused, tmp_path: Path, content: bytes | None, says: str
) -> None:
    log = tmp_path / "log.csv"
    if content is not None:
        log.write_bytes(content)
    line = refused("replay", "baselines", "--lab", lab, "--log", log)
    assert line.startswith(f"{log}: {says}")
    until = ("--until", "2022-04-10")
    assert refused("train", "popularity", "--lab", lab, "--log", log, *until) == line
    assert not (lab / "armlift.db").exists()


def test_a_folder_is_no_log(lab: Path, refused: Refused) -> None:
    line = refused("replay", "baselines", "--lab", lab, "--log", lab)
    assert line == f"{lab}: is a folder, must be a CSV file"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--mode", "reranc"],
            "--mode: 'reranc' is not one of 'rerank', 'match', 'interleaved', 'dense', 'simulate'",
        ),
        (["--k", "0"], "--k: '0' must be greater than or equal to 1"),
        (["--k", "ten"], "--k: 'ten' must be a whole number"),
        (["--seed", "-1"], "--seed: '-1' must be greater than or equal to 0"),
        (["--seed", str(2**63)], f"--seed: '{2**63}' must be less than or equal to {2**63 - 1}"),
        (["--pared"], "No such option: --pared"),
        (["other"], "Got unexpected extra argument(s) (other)"),
        (
            ["--html", "/no/such/folder/x.html"],
            "--html /no/such/folder/x.html: there is no folder /no/such/fo",
        ),
        (["--html", "/"], "--html /: is a folder, must be a file"),
        (
            ["--stream", "stream"],
            "--stream: 'stream' is no stream, must be local://FOLDER or kafka://HOST:PORT",
        ),
        (
            ["--stream", "kafka://host/x"],
            "--stream: 'kafka://host/x' names no topic, must be like kafka://HOST:PORT[,HOST:PORT]/TOPIC",
        ),
        (["--database", "x"], "--database: 'x' is no database, must be sqlite:///FILE or"),
    ],
)
def test_bad_words_are_one_line(
    lab: Path, log_file: Path, refused: Refused, words: list[str], says: str
) -> None:
    assert refused("replay", "baselines", "--lab", lab, "--log", log_file, *words).startswith(says)
    assert not list(lab.glob("models/*"))


def test_missing_words_are_one_line(lab: Path, log_file: Path, refused: Refused) -> None:
    assert (
        refused("replay", "baselines", "--lab", lab) == "Missing option '--log'; see `armlift replay --help`"
    )
    line = refused("replay", "--lab", lab, "--log", log_file)
    assert line == "Missing argument 'experiment'; see `armlift replay --help`"


def test_an_unknown_experiment_lists_the_known_ones(lab: Path, log_file: Path, refused: Refused) -> None:
    says = f"{lab}: has no experiment 'bselines', must be one of baselines (did you mean baselines?)"
    assert refused("replay", "bselines", "--lab", lab, "--log", log_file) == says
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0


def test_a_report_without_runs(lab: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused("report", "baselines", "--lab", lab)
    assert line.endswith("/armlift.db has no armlift tables; run `armlift db upgrade`")
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    capsys.readouterr()
    says = "experiment 'baselines' has no run yet; make one with `armlift replay baselines`"
    assert refused("report", "baselines", "--lab", lab) == says
    says = f"{lab}: has no experiment 'bselines', must be one of baselines (did you mean baselines?)"
    assert refused("report", "bselines", "--lab", lab) == says
    line = refused("report", "baselines", "--lab", lab, "--as-of", "nonsense")
    assert line == "--as-of: 'nonsense' is not a time, must be like 2022-04-15 or 2022-04-15T06:30+08:00"
    line = refused("report", "baselines", "--lab", lab, "--as-of", "9999-12-31")
    assert line == "--as-of: 9999-12-31 is out of range, must be in the years 1970 to 9998"


def test_a_file_that_is_no_database(lab: Path, log_file: Path, refused: Refused) -> None:
    path = lab / "armlift.db"
    path.write_bytes(b"this is no database " * 100)
    says = f"database sqlite:///{path} cannot be read: file is not a database"
    assert refused("report", "baselines", "--lab", lab) == says
    assert refused("replay", "baselines", "--lab", lab, "--log", log_file) == says


def test_a_damaged_database(lab: Path, log_file: Path, refused: Refused) -> None:
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    gc.collect()  # closes the connections of the command
    path = lab / "armlift.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)
    line = refused("replay", "baselines", "--lab", lab, "--log", log_file)
    assert line == "database: database disk image is malformed"


def test_an_older_schema_names_the_command(
    lab: Path, log_file: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    monkeypatch.setattr(database, "SCHEMA_REVISION", "next")
    for words in (
        ["report", "baselines"],
        ["replay", "baselines", "--log", log_file],
        ["ingest", "--status"],
    ):
        line = refused(*words, "--lab", lab)
        assert line.endswith(
            f"/armlift.db has schema {SCHEMA_REVISION}, must be next; run `armlift db upgrade`"
        )


@pytest.fixture
def upgraded(lab: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Give a lab whose database is at the current schema and empty."""
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    capsys.readouterr()
    return lab


def test_a_locked_database(
    upgraded: Path, log_file: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    other = sqlite3.connect(upgraded / "armlift.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    line = refused("replay", "baselines", "--lab", upgraded, "--log", log_file)
    other.close()
    assert line == "database: database is locked; nothing was lost, start the same command again"


@pytest.mark.parametrize(
    ("blocked", "says"),
    [
        ("stream", "stream: cannot open the stream: File exists"),
        ("models", "cannot be written: Not a directory"),
    ],
)
def test_a_lab_that_cannot_be_written(
    lab: Path, log_file: Path, refused: Refused, blocked: str, says: str
) -> None:
    (lab / blocked).write_text("")
    line = refused("replay", "baselines", "--lab", lab, "--log", log_file)
    assert line.startswith(str(lab / blocked))
    assert line.endswith(says)


def test_replay_and_report_give_one_document(
    lab: Path, log_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--lab", str(lab), "--json"]
    html = tmp_path / "report.html"
    assert run(["replay", "baselines", "--log", str(log_file), "--k", "2", "--html", str(html), *words]) == 0
    out, err = capsys.readouterr()
    replayed = json.loads(out)
    assert (replayed["experiment"], replayed["mode"], replayed["k"]) == ("baselines", "rerank", 2)
    assert err.splitlines() == [f"wrote {html}"]
    assert replayed["run"] in html.read_text()
    assert run(["report", "baselines", "--run", replayed["run"], *words]) == 0
    assert json.loads(capsys.readouterr().out) == replayed
    assert run(["report", "baselines", "--as-of", "2022-04-10", *words]) == 0
    assert json.loads(capsys.readouterr().out)["as_of"] == "2022-04-10T23:59:59+08:00"


def test_a_report_of_a_run_that_is_not(lab: Path, log_file: Path, refused: Refused) -> None:
    assert run(["replay", "baselines", "--log", str(log_file), "--lab", str(lab)]) == 0
    line = refused("report", "baselines", "--run", "feed", "--lab", lab)
    assert line.startswith("--run 'feed' is not a run of 'baselines', must be one of ")


def test_the_option_wins_over_the_variable_and_that_over_the_file(
    lab: Path, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARMLIFT_DATABASE_URL", "sqlite:///of-variable.db")
    assert run(["db", "upgrade", "--lab", str(lab), "--database", "sqlite:///of-option.db"]) == 0
    assert {path.name for path in lab.glob("*.db")} == {"of-option.db"}
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    assert {path.name for path in lab.glob("*.db")} == {"of-option.db", "of-variable.db"}
    monkeypatch.delenv("ARMLIFT_DATABASE_URL")
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    assert {path.name for path in lab.glob("*.db")} == {"of-option.db", "of-variable.db", "armlift.db"}


def test_train_stores_an_artefact(lab: Path, log_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "popularity", "--lab", str(lab), "--log", str(log_file), "--until", "2022-04-10"]
    assert run([*words, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["arm"] == "popularity"
    assert trained["data_until"] == 1_649_520_000_000
    folder = Path(trained["artefact"])
    assert folder == lab / "models" / "popularity" / trained["version"]
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "manifest.json"}
    assert run(words) == 0
    assert f"popularity {trained['version']}: trained until 2022-04-10T00:00:00+08:00" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["popularty", "--until", "2022-04-10"], "has no arm 'popularty', must be one of comirec,"),
        (["popularity", "--until", "soon"], "--until: 'soon' is not a time, must be like 2022-04-15"),
        (
            ["popularity", "--until", "2022-04-08"],
            "--until 2022-04-08: no row of the log is earlier, must be",
        ),
    ],
)
def test_train_refuses(lab: Path, log_file: Path, refused: Refused, words: list[str], says: str) -> None:
    assert says in refused("train", *words, "--lab", lab, "--log", log_file)
