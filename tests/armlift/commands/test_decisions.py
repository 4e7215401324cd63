"""Snapshots and decisions on the command line: report --snapshot, --verify, experiment ship and stop."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run
from armlift.commands import reports

Refused = Callable[..., str]
REASON = ("--reason", "it is well liked", "--by", "ada")


@pytest.fixture
def report(lab: Path, log_file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Replay a log, and give the report."""
    assert run(["replay", "baselines", "--log", str(log_file), "--k", "2", "--lab", str(lab), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["verdict"]["status"] != "ship"
    return found


def said(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> str:
    capsys.readouterr()
    assert run(list(map(str, words))) == code
    return capsys.readouterr().out


def test_a_snapshot_is_shown_as_it_was(
    lab: Path, report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ("--snapshot", report["snapshot"], "--lab", lab)
    now = said(capsys, "report", "baselines", "--lab", lab)
    assert f"snapshot {report['snapshot']}" in now
    said(capsys, "experiment", "stop", "baselines", *known, *REASON)
    assert json.loads(said(capsys, "report", *known, "--json")) == report
    assert said(capsys, "report", "baselines", *known) == now
    html = tmp_path / "report.html"
    assert json.loads(said(capsys, "report", *known, "--json", "--html", html)) == report
    assert report["snapshot"] in html.read_text()


def test_a_snapshot_is_verified(
    lab: Path,
    report: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "MOST_SHOWN", 2)
    words = ("report", "--snapshot", report["snapshot"], "--verify", "--lab", lab)
    assert said(capsys, *words).splitlines() == [
        "report from the stored aggregates: equal, bit for bit",
        "aggregates from the database: equal, bit for bit",
    ]
    connection = sqlite3.connect(lab / "armlift.db")
    connection.execute("UPDATE unit_days SET num = num + 1")
    connection.commit()
    connection.close()
    told = said(capsys, *words, code=1).splitlines()
    assert told[0] == "report from the stored aggregates: equal, bit for bit"
    assert told[1].startswith("aggregates from the database: ")
    assert told[2].startswith("  answers/by_stratum/")
    assert told[4].endswith(" more; --json has all")
    assert len(told) == 5
    document = json.loads(said(capsys, *words, "--json", code=1))
    assert (document["equal"], document["report"], document["causes"]) == (False, [], [])
    assert f"{len(document['aggregates'])} differ" in told[1]


def test_an_arm_ships_by_override_and_the_report_says_so(
    lab: Path, report: dict[str, Any], refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--snapshot", report["snapshot"], "--lab", lab, *REASON)
    words = ("experiment", "ship", "baselines", "--arm", "covisitation", *given)
    status = report["verdict"]["status"]
    line = refused(*words)
    assert line == (
        f"--arm covisitation: the verdict of snapshot {report['snapshot']} is {status}, must be ship "
        "for this arm, or be overridden by --override"
    )
    told = said(capsys, "experiment", "decisions", "baselines", "--lab", lab)
    assert told == "experiment baselines: nothing was decided\n"
    shipped = said(capsys, *words, "--override")
    assert shipped.startswith(f"ship covisitation, against the verdict {status}, by ada, ")
    stopped = said(capsys, "experiment", "stop", "baselines", *given)
    assert stopped.startswith("stop, by ada, ")
    assert said(capsys, "experiment", "decisions", "baselines", "--lab", lab) == shipped + stopped
    told = said(capsys, "experiment", "decisions", "baselines", "--lab", lab, "--json")
    listed = json.loads(told)["decisions"]
    assert [(one["action"], one["arm"], one["overridden"]) for one in listed] == [
        ("ship", "covisitation", True),
        ("stop", None, False),
    ]
    again = json.loads(said(capsys, "report", "baselines", "--lab", lab, "--json"))
    assert again == {**report, "decisions": listed}
    shown = " ".join(said(capsys, "report", "baselines", "--lab", lab).split())
    assert f"Decided: {' '.join(shipped.split())}" in shown


def test_bad_words_are_one_line(lab: Path, report: dict[str, Any], refused: Refused) -> None:
    known = report["snapshot"]
    says = f"{lab}: has no experiment 'bselines', must be one of baselines (did you mean baselines?)"
    assert refused("experiment", "decisions", "bselines", "--lab", lab) == says
    line = refused("experiment", "stop", "bselines", "--snapshot", known, "--lab", lab, *REASON)
    assert line == f"--snapshot {known} is of experiment 'baselines', must be of 'bselines'"
    line = refused("report", "--snapshot", "feed", "--lab", lab)
    assert line == "--snapshot 'feed' is not known; `armlift report EXPERIMENT` makes one"
    line = refused("report", "baselines", "--verify", "--lab", lab)
    assert line == "--verify needs --snapshot, and cannot be with --html"
    line = refused("report", "--snapshot", known, "--as-of", "2022-04-10", "--lab", lab)
    assert line == f"--snapshot {known} cannot be with --run, --as-of or --daily; it has its own"
    line = refused("report", "--lab", lab)
    assert line == "Missing argument 'experiment', or --snapshot; see `armlift report --help`"


def test_whoever_is_logged_in_decides(
    lab: Path, report: dict[str, Any], refused: Refused, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = (
        "experiment",
        "stop",
        "baselines",
        "--snapshot",
        report["snapshot"],
        "--lab",
        lab,
        "--reason",
        "no",
    )
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    assert said(capsys, *words).startswith("stop, by grace, ")

    def nobody() -> str:
        raise OSError("no user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert refused(*words) == "--by: nobody is logged in, must name who decides"
