"""`armlift archive` on the command line: what it writes and says, and what it refuses."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from event_rows import FIRST, store_events

from armlift.cli import run
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift.store.partitions import expire

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]


@pytest.fixture
def events(lab: Path) -> Path:
    """Give the lab with two days of events, long ago."""
    engine = open_database(Lab(lab), create=True)
    for day in (FIRST, FIRST + 1):
        store_events(engine, "live", day, shown=30, answered=20, exposed=5)
    engine.dispose()
    return lab


def add(lab: Path, **rows: int) -> None:
    """Store events that come late."""
    engine = open_database(Lab(lab))
    store_events(engine, "live", FIRST, **{"shown": 0, "answered": 0, "exposed": 0, "seed": 9, **rows})
    engine.dispose()


def test_days_are_archived_once(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["archive", "--lab", str(events)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == ("run live: 2 days, 2024-10-04 to 2024-10-05: 10 exposures, 60 impressions, 40 feedback")
    assert last.startswith("2 days archived: 110 rows, 0.0 MB, ")
    assert (events / "archive" / "manifests" / "run=live" / "day=2024-10-04.json").is_file()
    add(events, answered=2)
    assert run(["archive", "--lab", str(events)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "run live: 1 day, 2024-10-04: 22 feedback\n  2024-10-04 again: late events\n1 day arch"
    )
    assert "; 1 day before " in out
    assert run(["archive", "--lab", str(events), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.pop("seconds") > 0
    assert document.pop("before") > "2026"
    assert document == {
        "archive": str(events / "archive"), "days": 0, "rows": 0, "bytes": 0, "skipped": 2, "removed": 0,
        "lost": [], "short": [], "written": [],
    }  # fmt: skip


def test_some_days_of_a_run(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "archive",
        "--lab",
        str(events),
        "--run",
        "live",
        "--until",
        "2024-10-05",
        "--after",
        "1d",
        "--json",
    ]
    assert run(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["days"], document["before"], document["rows"]) == (1, "2024-10-05", 55)
    (written,) = document["written"]
    assert written.pop("bytes") == document["bytes"] > 0
    assert written == {
        "run": "live", "day": "2024-10-04", "reason": "new",
        "rows": {"exposures": 5, "impressions": 30, "feedback": 20},
    }  # fmt: skip


def test_what_is_lost_is_said_and_is_a_no(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["archive", "--lab", str(events)]) == 0
    engine = open_database(Lab(events))
    expire(engine, FIRST + 1)
    engine.dispose()
    (file,) = (events / "archive" / "impressions" / "run=live" / "day=2024-10-04").iterdir()
    file.write_bytes(file.read_bytes().replace(b"u1", b"u2"))
    assert run(["archive", "--lab", str(events)]) == 0, "its size is right"
    capsys.readouterr()
    assert run(["archive", "--lab", str(events), "--verify"]) == 1
    assert f"{file}: damaged, and the database no longer has its rows\n" in capsys.readouterr().err


def test_events_expire_once_they_are_archived(
    events: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("nightly.yaml", "archive: null", "archive: {after: 3d}")
    words = ["db", "expire", "--lab", str(events), "--before", "2024-10-06"]
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert out == "0 impressions, 0 feedback deleted\n"
    assert err == "2 days stay: not all of their events are archived; run `armlift archive` first\n"
    assert run(["archive", "--lab", str(events)]) == 0
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "before": "2024-10-06", "deleted": {"impressions": 60, "feedback": 40}, "waiting_days": 0,
    }  # fmt: skip


def test_bad_input_is_one_line(events: Path, refused: Refused, edit: Edit) -> None:
    assert run(["archive", "--lab", str(events)]) == 0
    assert "--after: 'soon' is not a duration" in refused("archive", "--lab", events, "--after", "soon")
    assert "must be like 2022-04-15" in refused("archive", "--lab", events, "--until", "soon")
    assert refused("archive", "--lab", events, "--run", "lif") == (
        "--run 'lif': has no day that is closed, must be one of live"
    )
    edit("armlift.toml", 'archive_url = "archive"', 'archive_url = "nowhere://x"')
    assert refused("archive", "--lab", events).startswith("archive_url: 'nowhere://x' cannot be opened: ")


def test_a_store_that_does_not_answer_is_one_line(
    events: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARMLIFT_ARCHIVE_URL", "ftp://127.0.0.1:1/archive")
    assert refused("archive", "--lab", events) == (
        "archive_url: 'ftp://127.0.0.1:1/archive' cannot be opened: [Errno 111] Connection refused"
    )


def test_a_folder_that_cannot_be_written_is_one_line(events: Path, refused: Refused) -> None:
    (events / "archive").write_text("a file")
    line = refused("archive", "--lab", events)
    assert line.startswith(f"{events}/archive/")
    assert line.endswith(": cannot be written: Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_of_somebody_else_is_one_line(events: Path, refused: Refused) -> None:
    (events / "archive").mkdir(mode=0o500)
    assert refused("archive", "--lab", events).endswith(": cannot be written: Permission denied")


def test_a_lab_without_a_database_is_refused(lab: Path, refused: Refused) -> None:
    assert "run `armlift db upgrade`" in refused("archive", "--lab", lab)
