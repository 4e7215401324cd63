"""Items on the command line: a file is stored whole or not at all, and listed again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.cli import run

Refused = Callable[..., str]


@pytest.fixture
def said(lab: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give the function that runs `armlift items ...` in the lab, and gives what it says."""

    def call(*words: str) -> str:
        capsys.readouterr()
        assert run(["items", *words, "--lab", str(lab)]) == 0
        return capsys.readouterr().out

    return call


def test_items_are_stored_and_listed(
    lab: Path, said: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["items", "list", "--lab", str(lab)]) == 0
    assert capsys.readouterr() == ("", f"{lab}: has no items; `armlift items set FILE` stores some\n")
    assert not (lab / "armlift.db").exists(), "looking makes no database"
    first = tmp_path / "items.csv"
    first.write_text("item_id,available,price,title\nb,true,2.5,Über\na,0,1,\n")
    assert said("set", str(first)) == "2 items stored, 1 of them unavailable\n"
    assert said("list") == 'a  unavailable  {"price": 1}\nb  available  {"price": 2.5, "title": "Über"}\n'
    second = tmp_path / "items.jsonl"
    second.write_text('{"item_id": "b", "available": false}\n{"item_id": "c", "available": true}\n')
    said("set", str(second))
    assert said("list", "--unavailable").splitlines() == [
        'a  unavailable  {"price": 1}',
        "b  unavailable  {}",
    ]
    listed = json.loads(said("list", "--json"))["items"]
    assert [(one["item_id"], one["available"], one["attributes"]) for one in listed] == [
        ("a", False, {"price": 1}),
        ("b", False, {}),
        ("c", True, {}),
    ]
    assert listed[0]["updated"] < listed[1]["updated"] == listed[2]["updated"]
    assert len(json.loads(said("list", "--json", "--unavailable"))["items"]) == 2


def test_a_file_with_a_bad_row_changes_nothing(lab: Path, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,available\na,true\nb,maybe\n")
    assert refused("items", "set", path, "--lab", lab) == (
        f"{path}: line 3: item 'b': available is 'maybe', must be true or false"
    )
    assert not (lab / "armlift.db").exists()
