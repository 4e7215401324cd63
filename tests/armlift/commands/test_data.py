"""generate, ingest, dead letters."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from databases import free_port
from sqlalchemy import select

from armlift.cli import run
from armlift.events import KINDS, Codec, Feedback
from armlift.lab import Lab
from armlift.store import tables
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream

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
    assert run(["replay", "baselines", "--log", str(log_file), *words]) == 0
    capsys.readouterr()
    assert run(["ingest", "--status", *words]) == 0
    filled = json.loads(capsys.readouterr().out)
    (partition,) = filled["partitions"]
    assert (filled["stream"], filled["dead_letters"], filled["lag"]) == (empty["stream"], 0, 0)
    assert filled["ingesters"] == []
    assert partition["stored"] == partition["end"] > 0
    assert partition["lag"] == 0
    assert run(["ingest", "--status", "--lab", str(lab)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"partition 0: {partition['end']:,} of {partition['end']:,} records stored, lag 0 records",
        "no ingester is running",
        "0 marks wait for the rollup",
        "0 dead letters",
    ]


def test_ingest_once_stores_what_another_database_lacks(
    lab: Path, log_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", "baselines", "--log", str(log_file), "--lab", str(lab), "--json"]) == 0
    capsys.readouterr()
    words = ["--lab", str(lab), "--database", "sqlite:///other.db"]
    assert run(["ingest", "--once", *words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["records"] > 0
    assert done["events"] > done["records"]
    assert done["bad"] == 0
    assert run(["ingest", "--once", *words]) == 0
    assert capsys.readouterr().out == "0 records, 0 events, 0 dead letters\n"


def publish(lab: Path, *kinds: str) -> None:
    """Publish a message with one feedback of each kind."""
    identities = (f"01802ba9f47b{number:020x}" for number in range(len(kinds)))
    events = [
        Feedback(one, "r1", 1_650_000_000_123, one, "u1", "v1", kind, 1.0)
        for one, kind in zip(identities, kinds, strict=True)
    ]
    with EmbeddedStream(lab / "stream") as stream:
        stream.publish("u1", Codec(KINDS).encode(events))


def test_dead_letters_come_in_once_their_kind_is_declared(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--lab", str(lab)]
    publish(lab, "click", "wink", "nod", "wink")
    assert run(["ingest", "--once", *words]) == 0
    assert capsys.readouterr().out == "1 records, 1 events, 3 dead letters\n"
    assert run(["dead-letters", "list", *words, "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "3 dead letters",
        "  2 × kind 'wink' is not declared in armlift.toml [kinds]",
        "  1 with other reasons; --limit shows more",
    ]
    assert "partition 0, offset 0, event 1, " in lines[4]
    assert run(["dead-letters", "list", *words, "--json", "--reason", "nod"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["dead_letters"], len(document["reasons"]), document["letters"][0]["index"]) == (1, 1, 2)
    assert '"kind":"nod"' in document["letters"][0]["excerpt"]
    assert run(["dead-letters", "replay", *words]) == 1
    says = "3 dead letters read again: 0 settled, 0 events brought in, 3 remain as dead letters\n"
    assert capsys.readouterr().out == says
    monkeypatch.setenv("ARMLIFT_KINDS__NAMES", '["click", "wink"]')
    assert run(["dead-letters", "replay", *words, "--json", "--reason", "wink"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == {"letters": 2, "settled": 2, "events": 2, "bad": 0}
    assert run(["dead-letters", "replay", *words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"letters": 1, "settled": 0, "events": 0, "bad": 1}
    with open_database(Lab(lab)).connect() as connection:
        assert sorted(connection.execute(select(tables.feedback.c.kind)).scalars()) == [
            "click",
            "wink",
            "wink",
        ]


def test_a_running_ingester_is_seen_and_a_killed_one_too(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    command = [str(Path(sys.executable).parent / "armlift"), "ingest", "--lab", str(lab)]

    def ingesters() -> list[tuple[int, str]]:
        capsys.readouterr()
        assert run(["ingest", "--status", "--json", "--lab", str(lab)]) == 0
        return [(one["pid"], one["state"]) for one in json.loads(capsys.readouterr().out)["ingesters"]]

    def metrics() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return list(answer.read().decode().splitlines())

    for number in (signal.SIGTERM, signal.SIGKILL):
        publish(lab, "click")
        process = subprocess.Popen([*command, "--metrics-port", str(port)], stderr=subprocess.PIPE, text=True)
        assert process.stderr
        assert process.stderr.readline() == "ingesting; stop with Ctrl-C\n"
        for _ in range(200):
            if "armlift_ingest_records_total 1.0" in metrics():
                break
            time.sleep(0.02)
        assert 'armlift_ingest_events_total{table="feedback"} 1.0' in metrics()
        assert ingesters() == [(process.pid, "running")]
        process.send_signal(number)
        process.communicate(timeout=20)
        assert ingesters() == ([] if number == signal.SIGTERM else [(process.pid, "running")])
    with open_database(Lab(lab)).begin() as connection:
        connection.execute(tables.ingesters.update().values(seen=tables.ingesters.c.seen - 31_000))
    assert ingesters() == [(process.pid, "gone")]


def test_metrics_need_an_address_that_is_free(lab: Path, refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("ingest", "--once", "--lab", lab, "--metrics-port", str(port))
    where = f"--metrics-host 127.0.0.1 --metrics-port {port}"
    assert line == f"{where}: Address already in use, must be free"
    line = refused("ingest", "--once", "--lab", lab, "--metrics-port", "9", "--metrics-host", "no host")
    assert line.startswith("--metrics-host no host --metrics-port 9: ")
    assert refused("ingest", "--metrics-port", "70000").startswith("--metrics-port: '70000' must be")


def test_a_stream_that_is_not_known(
    lab: Path, edit: Edit, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edit("armlift.toml", "local://stream", "ftp://host:9092/events")
    says = "'ftp://' is no stream, must be local://FOLDER or kafka://HOST:PORT/TOPIC"
    assert refused("ingest", "--once", "--lab", lab) == f"{path}:6: stream_url: {says}"
    edit("armlift.toml", "ftp://host:9092/events", "local://stream")
    monkeypatch.setenv("ARMLIFT_STREAM_URL", "ftp://host/events")
    assert refused("ingest", "--once", "--lab", lab) == f"ARMLIFT_STREAM_URL: {says}"
