"""generate and ingest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.cli import run

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]


def test_generate_writes_a_log_marked_synthetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    words = ["--users", "5", "--videos", "50", "--days", "2", "--no-calibration"]
    assert run(["generate", str(log), *words]) == 0
    out, err = capsys.readouterr()
    rows = log.read_text().splitlines()
    assert out == ""
    assert err.startswith(f"wrote {log}: {len(rows) - 1:,} rows, 5 users, ")
    assert err.endswith("(synthetic)\n")
    assert run(["generate", str(tmp_path / "again.csv"), *words, "--seed", "0"]) == 0
    assert (tmp_path / "again.csv").read_bytes() == log.read_bytes()


def test_generate_refuses(tmp_path: Path, refused: Refused) -> None:
    log = tmp_path / "log.csv"
    assert refused("generate", log, "--users", "0") == "--users: '0' must be greater than or equal to 1"
    line = refused("generate", log, "--random-share", "1.5")
    assert line == "--random-share: '1.5' must be less than or equal to 1"
    small = ("--users", "1", "--videos", "10", "--days", "1")
    assert refused("generate", tmp_path, *small).startswith(f"{tmp_path}: ")
    assert refused("generate", tmp_path / "no" / "log.csv", *small).startswith(f"{tmp_path}/no/log.csv: ")
    assert not log.exists()


def test_ingest_tells_offsets_and_lag(lab: Path, log_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--lab", str(lab), "--json"]
    assert run(["ingest", "--status", *words]) == 0
    empty = json.loads(capsys.readouterr().out)
    assert empty["partitions"] == [{"partition": 0, "stored": 0, "end": 0, "lag": 0}]
    assert run(["replay", "demo", "--log", str(log_file), *words]) == 0
    capsys.readouterr()
    assert run(["ingest", "--status", *words]) == 0
    filled = json.loads(capsys.readouterr().out)
    (partition,) = filled["partitions"]
    assert (filled["stream"], filled["dead_letters"]) == (empty["stream"], 0)
    assert partition["stored"] == partition["end"] > 0
    assert partition["lag"] == 0
    assert run(["ingest", "--status", "--lab", str(lab)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"partition 0: {partition['end']:,} stored of {partition['end']:,}, lag 0",
        "0 dead letters",
    ]


def test_ingest_once_stores_what_another_database_lacks(
    lab: Path, log_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", "demo", "--log", str(log_file), "--lab", str(lab), "--json"]) == 0
    capsys.readouterr()
    words = ["--lab", str(lab), "--database", "sqlite:///other.db"]
    assert run(["ingest", "--once", *words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["records"] > 0
    assert done["events"] > done["records"]
    assert done["bad"] == 0
    assert run(["ingest", "--once", *words]) == 0
    assert capsys.readouterr().out == "0 records, 0 events, 0 dead letters\n"


def test_a_stream_that_is_not_known(
    lab: Path, edit: Edit, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edit("armlift.toml", "local://stream", "kafka://host:9092/events")
    says = "'kafka://' is no stream here, must be local://FOLDER"
    assert refused("ingest", "--once", "--lab", lab) == f"{path}:6: stream_url: {says}"
    monkeypatch.setenv("ARMLIFT_STREAM_URL", "kafka://host/events")
    assert refused("ingest", "--once", "--lab", lab) == f"ARMLIFT_STREAM_URL: {says}"
