"""The demo: the whole loop by one command, and nothing anew when it is given again."""

from pathlib import Path

import httpx
import pytest
from demos import Demo
from serving_lab import serving

from armlift.cli import run
from armlift.client import Client
from armlift.lab import Lab


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


def test_demo_live_makes_a_lab_that_answers_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", "--live", "--lab", str(tmp_path / "demo")]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("experiment related: running, version 1, run live, phase 0 from ")
    assert f"armlift serve --all --lab {tmp_path / 'demo'}" in err
    assert run(words) == 0
    assert capsys.readouterr().out == out
    assert run([*words, "--log"]) == 2
    assert capsys.readouterr().err == "armlift: --log has no meaning with --live\n"
    lab = Lab(tmp_path / "demo")
    with serving(lab) as answering, Client(answering.url) as client:
        assert httpx.get(f"{answering.url}/readyz", trust_env=False).json() == {"status": "ok", "reasons": []}
        answers = [client.recommend(f"u{number}", experiment="related") for number in range(20)]
    assert {(one.arm, one.fallback, len(one.items)) for one in answers} == {
        ("popularity", None, 10),
        ("covisitation", None, 10),
    }
