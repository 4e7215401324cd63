"""Versions on the command line: arm promote, rollback, versions, lineage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from armlift.arm import Behaviour, History, ItemTable
from armlift.cli import run
from armlift.fitted import FittedArms
from armlift.lab import Lab
from armlift.store.database import open_database, writing
from armlift.store.tables import audit_log, job_runs, models

Refused = Callable[..., str]
BY = ("--by", "ada", "--reason", "it is better")
UNTIL = 1_650_000_000_000  # 2022-04-15 05:20 in UTC


class Data:
    """Behaviours of one unit, on so many items."""

    def __init__(self, size: int) -> None:
        self.items = ItemTable([f"i{number}" for number in range(size)])
        self.until, self.data_hash = UNTIL + size * 1000, f"{size} items"

    def histories(self) -> list[History]:
        return [History("u", [Behaviour(item, "click", 1.0, UNTIL - 1) for item in self.items.ids])]


def fit(lab: Path, size: int, scope: str = "*") -> str:
    opened = Lab(lab)
    fitted = FittedArms(opened, database(lab), scope=scope)
    return fitted.arm(opened.arm("popularity"), Data(size)).version  # type: ignore[arg-type]


def database(lab: Path) -> Engine:
    return open_database(Lab(lab), create=True)


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert run(["arm", *map(str, words)]) == 0
    return capsys.readouterr().out


def rows(lab: Path) -> list[tuple[Any, ...]]:
    with database(lab).connect() as connection:
        return [tuple(row) for row in connection.execute(select(models).order_by(models.c.version))]


def test_versions_are_promoted_and_rolled_back(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = fit(lab, 3), fit(lab, 4)
    end = ("--lab", lab, *BY)
    told = said(capsys, "promote", "popularity", "--version", one, *end)
    assert told == f"arm popularity: {one} serves every experiment\n"
    told = said(capsys, "promote", "popularity", "--version", two, *end)
    assert told == f"arm popularity: {two} serves every experiment, before it {one}\n"
    told = said(capsys, "promote", "popularity", "--version", two, *end)
    assert told == f"arm popularity: {two} serves every experiment already\n"
    assert (
        said(capsys, "rollback", "popularity", *end)
        == f"arm popularity: {one} serves every experiment again\n"
    )
    lines = said(capsys, "versions", "popularity", "--lab", lab).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{two}  refused    *             data until 2022-04-15T")
    assert lines[0].endswith("rolled back: it is better")
    assert lines[1].startswith(f"{one}  promoted   *             data until 2022-04-15T")
    found = json.loads(said(capsys, "versions", "popularity", "--lab", lab, "--json"))
    assert found["arm"] == "popularity"
    assert [(row["version"], row["state"], row["figures"]) for row in found["versions"]] == [
        (two, "refused", {}),
        (one, "promoted", {}),
    ]
    assert found["versions"][0]["reasons"] == ["rolled back: it is better"]
    with database(lab).connect() as connection:
        log = [(row.by, row.action, row.subject) for row in connection.execute(select(audit_log))]
    assert log == [("ada", action, "arm/popularity") for action in ("promote", "promote", "rollback")]


def test_scopes_are_apart_and_overriding_is_said(
    lab: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = fit(lab, 3, "baselines"), fit(lab, 4, "baselines")
    end = ("--scope", "baselines", "--lab", lab, *BY)
    told = said(capsys, "promote", "popularity", "--version", one, *end)
    assert told == f"arm popularity: {one} serves experiment baselines\n"
    said(capsys, "promote", "popularity", "--version", two, *end)
    assert said(capsys, "rollback", "popularity", *end).startswith(
        f"arm popularity: {one} serves experiment ba"
    )
    line = refused("arm", "promote", "popularity", "--version", two, *end)
    assert line == (
        f"--version {two} of arm popularity was refused (rolled back: it is better), must be another, or be "
        "overridden by --override"
    )
    assert said(capsys, "promote", "popularity", "--version", two, "--override", *end)
    line = refused("arm", "rollback", "popularity", "--lab", lab)
    assert line == "arm popularity has no promoted version in scope '*', nothing can be rolled back"


def test_a_corrupt_artefact_is_not_promoted(
    lab: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = fit(lab, 3), fit(lab, 4), fit(lab, 5)
    for version in (one, two):
        said(capsys, "promote", "popularity", "--version", version, "--lab", lab, *BY)
    before = rows(lab)
    for version in (one, three):
        path = lab / "models" / "popularity" / version / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    line = refused("arm", "promote", "popularity", "--version", three, "--lab", lab, *BY)
    assert line.startswith(f"{lab}/models/popularity/{three}/model.safetensors: is corrupted: sha256 is ")
    line = refused("arm", "rollback", "popularity", "--lab", lab, *BY)
    assert line.startswith(f"{lab}/models/popularity/{one}/model.safetensors: is corrupted: sha256 is ")
    assert rows(lab) == before
    with database(lab).connect() as connection:
        assert len(connection.execute(select(audit_log)).all()) == 2


def test_bad_words_are_one_line(lab: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    database(lab)
    told = said(capsys, "versions", "popularity", "--lab", lab)
    assert told == "arm popularity: has no versions; `armlift train popularity` makes one\n"
    line = refused("arm", "lineage", "popularity", "--lab", lab)
    assert line == "arm popularity: has no promoted version in scope '*'; name one with --version"
    one = fit(lab, 3)
    line = refused("arm", "promote", "popularity", "--version", "z", "--lab", lab)
    assert line == f"--version 'z' is not one of arm popularity in scope '*', must be one of {one}"
    line = refused("arm", "promote", "popularity", "--version", one, "--reason", " ", "--lab", lab)
    assert line == "--reason ' ': must not be empty"
    line = refused("arm", "versions", "populrity", "--lab", lab)
    assert "has no arm 'populrity'" in line
    assert "did you mean popularity?" in line
    line = refused("arm", "lineage", "popularity", "--lab", lab)
    assert line.endswith(f"name one with --version, such as {one}")
    line = refused("arm", "lineage", "popularity", "--version", "z", "--lab", lab)
    assert line == f"--version 'z' is not one of arm popularity, must be one of {one}"


def test_lineage_tells_data_code_and_definition(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = fit(lab, 3)
    said(capsys, "promote", "popularity", "--version", one, "--lab", lab, *BY)
    job = {
        "id": "9f", "job": "nightly", "subject": "live 2022-04-14", "step": "retrain", "arm": "popularity",
        "scope": "*", "attempt": 1, "status": "succeeded", "started": UNTIL, "owner": "o", "seen": UNTIL,
        "inputs_hash": "i", "inputs": {}, "outputs": {"candidate": one}, "versions": {},
    }  # fmt: skip
    with writing(database(lab)) as connection:
        connection.execute(insert(job_runs).values(job))
    text = said(capsys, "lineage", "popularity", "--lab", lab)
    lines = text.splitlines()
    assert lines[0] == f"{one}, from nothing"
    assert lines[1].startswith("  data        3 items, until 2022-04-15T")
    assert lines[2].startswith("  code        python 3.")
    assert "torch 2." in lines[2]
    assert "half_life_days: " in lines[3]
    assert any(line.startswith("  promoted    in scope * on ") for line in lines)
    assert any(
        line.startswith("  job         nightly live 2022-04-14, run 9f, 2022-04-15T") for line in lines
    )
    found = json.loads(said(capsys, "lineage", "popularity", "--version", one, "--lab", lab, "--json"))
    assert (found["arm"], found["version"]) == ("popularity", one)
    (origin,) = found["lineage"]
    assert (origin["parent"], origin["lost"]) == (None, None)
    assert origin["manifest"]["data_hash"] == "3 items"
    assert origin["models"][0]["state"] == "promoted"
    assert origin["jobs"][0]["id"] == "9f"
    # What is left of an artefact that was removed.
    (lab / "models" / "popularity" / one / "manifest.json").unlink()
    assert "there is no such artefact" in said(capsys, "lineage", "popularity", "--lab", lab).splitlines()[1]
    assert said(capsys, "versions", "popularity", "--lab", lab).endswith("  its artefact is lost\n")
