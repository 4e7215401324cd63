"""The demo: the whole loop by one command, and nothing anew when it is given again."""

from pathlib import Path

import pytest
from demos import Demo

from armlift.cli import run


def test_demo_ends_with_the_verdict_and_the_truth(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert "SYNTHETIC" in demo.out
    assert demo.err.splitlines()[0] == f"made the lab {demo.folder}"
    end = demo.out[demo.out.index("Verdict: ") :]
    assert "The truth: the same users, all of them under one arm after another" in end
    assert {line.split()[0] for line in end.splitlines() if "±" in line} == {"recgpt", "recgpt1"}
    assert run(demo.words) == 0
    again, err = capsys.readouterr()
    assert again == demo.out
    assert "made" not in err


def test_demo_has_nights_and_a_report_of_every_day(demo: Demo) -> None:
    nights = {one.subject.rpartition("/")[2] for one in demo.nights()}
    assert len(nights) == demo.days + 1  # one before the first day, and one after the last
    assert demo.reported() == {"baselines": len(nights), "demo": demo.days}


def test_demo_replays_a_generated_log_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--log", "--lab", str(tmp_path / "demo"), "--users", "12", "--days", "2"]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "SYNTHETIC" in out
    assert "Verdict" in out
    assert err.splitlines()[0] == f"made the lab {tmp_path / 'demo'}"
    (log,) = (tmp_path / "demo").glob("*.csv")
    written = log.stat().st_mtime_ns
    assert run(words) == 0
    again, err = capsys.readouterr()
    assert again == out
    assert "made" not in err
    assert log.stat().st_mtime_ns == written
