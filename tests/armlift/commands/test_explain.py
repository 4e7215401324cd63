"""explain: every rule's answer, of a draft by its file and of what runs by the database."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from armlift.cli import run
from armlift.lab import Lab
from armlift.segments import tell
from armlift.store.database import open_database, writing
from armlift.store.tables import exposures

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]
DEMO = "experiments/baselines.yaml"


def test_explain_asks_every_rule(lab: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(DEMO, "metrics:", "audience: country == 'de' and age >= 18\nmetrics:")
    told = ["--attribute", "country=de", "--attribute", "age=18.5", "--attribute", "vip=true"]
    assert run(["explain", "u1", "baselines", "--lab", str(lab), *told, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rules = {one["rule"]: one["answer"] for one in shown["rules"]}
    assert list(rules) == ["forced", "holdout", "audience", "layer", "stored", "range", "decision"]
    assert rules["audience"].endswith(": yes")
    assert run(["explain", "u1", "baselines", "--lab", str(lab), "--attribute", "age=17"]) == 0
    assert "popularity, does not take part (audience)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--phase", "1"], "--phase 1 is not a phase of baselines, must be 0 to 0"),
        (["--phase", "-1"], "--phase: '-1' must be greater than or equal to 0"),
        (["--attribute", "age"], "--attribute 'age' is not understood, must be NAME=VALUE"),
        (["--attribute", "=3"], "--attribute '=3' is not understood, must be NAME=VALUE"),
    ],
)
def test_explain_refuses(lab: Path, refused: Refused, words: list[str], says: str) -> None:
    assert refused("explain", "u1", "baselines", "--lab", lab, *words) == says


def explained(lab: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["explain", "u1", "baselines", "--lab", str(lab), "--json", *words]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {**shown, "rules": {one["rule"]: one["answer"] for one in shown["rules"]}}


def experiment(lab: Path, *words: str) -> None:
    assert run(["experiment", words[0], "baselines", "--lab", str(lab), *words[1:]]) == 0


def test_a_draft_is_explained_by_its_file(lab: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(DEMO, "  - traffic: 1.0", "  - traffic: 0.0\n  - {start: 2022-04-20, traffic: 1.0}")
    shown = explained(lab, capsys)
    assert (shown["state"], shown["run"], shown["phase"]) == ("draft", None, 1)
    assert run(["explain", "u1", "baselines", "--lab", str(lab)]) == 0
    assert capsys.readouterr().err == "experiment baselines: a draft, as its file says, phase 1\n"
    assert not (lab / "armlift.db").exists(), "looking makes no database"


def test_what_runs_is_explained_as_it_runs(
    lab: Path, edit: Edit, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    edit(DEMO, "metrics:", "audience: country == 'de'\nmetrics:")
    experiment(lab, "start", "--at", "2024-05-01T10:00")
    experiment(lab, "ramp", "--traffic", "0.0")
    (lab / DEMO).unlink()
    shown = explained(lab, capsys)
    assert (shown["state"], shown["version"], shown["run"], shown["phase"]) == ("running", 1, "live", 1)
    assert shown["rules"]["decision"] == "popularity, does not take part (audience)"
    assert explained(lab, capsys, "--phase", "0")["phase"] == 0
    assert refused("explain", "u1", "baselines", "--lab", lab, "--phase", "2").endswith("must be 0 to 1")

    met = {
        "request_day": 0, "event_id": bytes(16), "run": "live", "ts": 1, "day": 0, "unit_id": "u1",
        "experiment": "baselines", "generation": 0, "phase": 0, "arm": "random", "arm_version": "v",
        "forced": False, "fallback": False,
    }  # fmt: skip
    forced = met | {"event_id": bytes(15) + b"1", "ts": 0, "arm": "covisitation", "forced": True}
    engine = open_database(Lab(lab))
    with writing(engine) as connection:
        connection.execute(insert(exposures), [met, forced])
        tell(connection, "live", "country", [("u1", 1, "de")])
    engine.dispose()
    rules = explained(lab, capsys)["rules"]
    assert (rules["stored"], rules["decision"]) == ("random", "random, takes part (stored)")
    told = explained(lab, capsys, "--attribute", "country=fr")["rules"]
    assert told["decision"] == "popularity, does not take part (audience)"

    experiment(lab, "pause")
    capsys.readouterr()
    assert run(["explain", "u1", "baselines", "--lab", str(lab)]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("experiment baselines: paused, version 1, run live, phase 1 from ")
    assert "popularity, does not take part (paused)" in out


def test_one_that_has_not_begun_says_when_it_will(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(lab, "start", "--at", "2999-01-01")
    shown = explained(lab, capsys)
    assert (shown["phase"], next(iter(shown["rules"]))) == (None, "begins")
    assert shown["rules"]["begins"] == "2999-01-01T00:00:00+08:00, nobody meets the arms before"
    assert shown["rules"]["decision"] == "popularity, does not take part (before_first_phase)"
