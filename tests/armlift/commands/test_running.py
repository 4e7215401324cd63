"""Experiments on the command line: start, ramp, pause, resume, stop, and show what runs."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]
BY = ("--by", "ada")


@pytest.fixture
def said(lab: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give the function that runs `armlift experiment ...` in the lab, and gives what it says."""

    def call(*words: str) -> str:
        capsys.readouterr()
        assert run(["experiment", *words, "--lab", str(lab)]) == 0
        return capsys.readouterr().out

    return call


def test_an_experiment_lives_and_ends(lab: Path, said: Callable[..., str], refused: Refused) -> None:
    assert said("list").startswith("baselines  draft  ")
    assert not (lab / "armlift.db").exists(), "looking makes no database"
    begun = said("start", "baselines", "--reason", "to see", "--at", "2024-05-01T10:00", *BY)
    assert begun == (
        "experiment baselines: running, version 1, run live, phase 0 from 2024-05-01T10:00:00+08:00, "
        "traffic 1\n"
    )
    assert said("start", "baselines") == begun
    weights = "popularity=2, covisitation=1,random=1"
    ramped = said("ramp", "baselines", "--traffic", "0.5", "--weights", weights)
    assert "running, version 1, run live, phase 1 from" in ramped
    assert ramped.endswith("traffic 0.5\n")
    assert "paused" in said("pause", "baselines", "--reason", "a doubt")
    assert said("list").startswith("baselines  paused  ")
    at = ("experiment", "pause", "baselines", "--lab", lab)
    assert refused(*at) == "experiment baselines: is paused, must be running"
    assert "running" in said("resume", "baselines")
    assert said("stop", "baselines", "--reason", "harm").startswith("experiment baselines: stopped, ")
    listed = json.loads(said("list", "--json"))["experiments"]
    assert [one["state"] for one in listed] == ["stopped"]
    line = refused("experiment", "stop", "baselines", "--reason", "harm", "--lab", lab)
    assert line.startswith("--snapshot: is missing and experiment baselines is stopped; only one that runs")


def test_what_runs_is_shown_as_it_is_in_the_database(
    lab: Path, said: Callable[..., str], edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = json.loads(said("show", "baselines", "--json"))
    assert (draft["state"], draft["version"], draft["run"]) == ("draft", None, None)
    said("start", "baselines", "--run", "spring", "--at", "2024-05-01")
    said("ramp", "baselines", "--traffic", "0.25")
    edit("experiments/baselines.yaml", "click_rate", "like_rate")
    shown: dict[str, Any] = json.loads(said("show", "baselines", "--json"))
    assert (shown["state"], shown["version"], shown["run"]) == ("running", 1, "spring")
    assert shown["hash"] == draft["hash"]
    assert shown["experiment"]["metrics"] == draft["experiment"]["metrics"]
    assert [phase["traffic"] for phase in shown["phases"]] == [1.0, 0.25]
    assert "state       running, version 1, run spring" in said("show", "baselines")

    text = said("show", "baselines", "--yaml")
    (lab / "experiments" / "baselines.yaml").write_text(text)
    assert said("check", "baselines").startswith("experiment baselines: fine (popularity, covisitation, ")
    assert said("show", "baselines", "--yaml") == text
    again = said("start", "baselines")
    assert again.splitlines()[0].startswith('  phases: was [{"start": null, "traffic": 1.0, ')
    assert "running, version 2, run spring" in again
    assert run(["report", "baselines", "--lab", str(lab)]) == 0
    assert "run spring: live, split by unit" in capsys.readouterr().out


def test_decisions_end_what_runs(
    lab: Path, said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    said("start", "baselines", "--at", "2024-05-01")
    capsys.readouterr()
    assert run(["report", "baselines", "--lab", str(lab), "--json"]) == 0
    snapshot = ("--snapshot", json.loads(capsys.readouterr().out)["snapshot"])
    said("ramp", "baselines", "--traffic", "0.5")
    verified = ["report", *snapshot, "--verify", "--lab", str(lab)]
    assert run(verified) == 0, "a ramp changes nothing of a report from before it"
    capsys.readouterr()
    shipping = ("ship", "baselines", "--arm", "random", "--override", "--reason", "it is fun", *BY, *snapshot)
    assert run(["experiment", *shipping, "--lab", str(lab)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ship random, against the verdict")
    assert err == "everybody now gets default_arm, popularity; set it to random in armlift.toml\n"
    assert said("list").startswith("baselines  stopped  ")
    with closing(sqlite3.connect(lab / "armlift.db")) as database:
        rows = database.execute("SELECT action, details FROM audit_log ORDER BY number").fetchall()
    assert [action for action, _ in rows] == ["start", "ramp", "ship"], (
        "one row has the decision and what it did"
    )
    details = json.loads(rows[-1][1])
    assert details["arm"] == "random"
    assert (details["before"]["state"], details["after"]["state"]) == ("running", "stopped")
    assert run(verified) == 0
    assert said("stop", "baselines", "--reason", "and noted", *snapshot).startswith("stop, by ")


def test_a_draft_is_written_as_a_file_too(lab: Path, said: Callable[..., str]) -> None:
    before = json.loads(said("show", "baselines", "--json"))
    (lab / "experiments" / "baselines.yaml").write_text(said("show", "baselines", "--yaml"))
    assert json.loads(said("show", "baselines", "--json")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["start", "baselines", "--at", "noon"], "--at: 'noon' is not a time, must be like 2022-04-15 or"),
        (
            ["start", "baselines", "--run", "A B"],
            "--run 'A B': must be 1 to 63 lower-case letters, digits, _",
        ),
        (["start", "bselines"], "has no experiment 'bselines'"),
        (["start", "baselines", "--by", ""], "--by '': must have 1 to 200 characters"),
        (["ramp", "baselines", "--traffic", "0.5"], "experiment baselines: was not started; `armlift experi"),
        (["ramp", "baselines"], "Missing option '--traffic'"),
        (["ramp", "baselines", "--traffic", "1", "--weights", "random"], "--weights 'random' is not underst"),
        (["ramp", "baselines", "--traffic", "1", "--weights", "a=1,a=2"], "--weights 'a=1,a=2' is not under"),
        (["stop", "baselines", "--reason", "x"], "--snapshot: is missing and experiment baselines was not"),
    ],
)
def test_bad_words_are_one_line(
    lab: Path, said: Callable[..., str], refused: Refused, words: list[str], says: str
) -> None:
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    assert says in refused("experiment", *words, "--lab", lab)
    assert said("list").startswith("baselines  draft  ")
