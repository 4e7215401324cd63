"""Keys on the command line: the secret is printed once and alone, and every change is told."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run
from armlift.keys import KeyRing
from armlift.lab import Lab
from armlift.store.database import open_database

Refused = Callable[..., str]
Said = Callable[..., tuple[str, str]]
BY = ("--by", "ada")
FOREVER = 10**15


@pytest.fixture
def said(lab: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Give the function that runs `armlift keys ...` in the lab, and gives its stdout and stderr."""

    def call(*words: str) -> tuple[str, str]:
        capsys.readouterr()
        assert run(["keys", *words, "--lab", str(lab)]) == 0
        out, err = capsys.readouterr()
        return out, err

    return call


def listed(said: Said) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said("list", "--json")[0])["keys"]
    return found


def finds(lab: Path, text: str, at: int) -> bool:
    """Tell whether a key opens anything at a time."""
    engine = open_database(Lab(lab))
    ring = KeyRing(engine)
    ring.refresh()
    engine.dispose()
    return ring.find(text, at) is not None


def test_a_key_lives_and_ends(lab: Path, said: Said) -> None:
    out, err = said("list")
    assert (out, err) == ("", f"{lab}: has no keys; `armlift keys create` makes one\n")
    assert not (lab / "armlift.db").exists(), "looking makes no database"
    out, err = said("create", "shop", "--scopes", "recommend, events", "--expires", "90d", *BY)
    text = out.removesuffix("\n")
    assert len(text) == 64, "the key alone is on stdout"
    assert text.split("_", 2)[2] not in err
    (row,) = listed(said)
    assert err.startswith(f"key shop  {row['id']}  valid, ends ")
    assert err.endswith(", opens recommend, events; it is shown this once:\n")
    assert row["expires"] - row["created"] == 90 * 86_400_000
    assert (row["by"], row["scopes"], row["state"]) == ("ada", ["recommend", "events"], "valid")
    assert set(row) == {"id", "name", "scopes", "created", "by", "expires", "revoked", "state"}
    assert finds(lab, text, row["created"])

    out, err = said("rotate", "shop", "--grace", "2h")
    newer = out.removesuffix("\n")
    assert err.endswith("the key before ends in 2h\n")
    old, new = listed(said)
    assert (old["state"], new["state"], new["scopes"]) == ("replaced", "valid", row["scopes"])
    assert old["revoked"] - new["created"] == 2 * 3_600_000
    assert finds(lab, text, new["created"])

    assert said("rotate", "shop", "--grace", "0")[1].endswith("the key before has ended\n")
    assert not any(finds(lab, one, listed(said)[-1]["created"]) for one in (text, newer))
    out, err = said("revoke", listed(said)[-1]["id"], *BY)
    assert out.startswith("key shop  ")
    assert " revoked, ended " in out
    assert {one["state"] for one in listed(said)} == {"revoked"}
    lines = said("list")[0].splitlines()
    assert len(lines) == 3
    assert all(line.startswith("key shop  ") for line in lines)


def test_the_document_of_a_new_key_has_it_once(lab: Path, said: Said) -> None:
    out, err = said("create", "shop", "--scopes", "items", "--json")
    made = json.loads(out)
    assert (made["expires"], made["scopes"], err) == (None, ["items"], "")
    assert finds(lab, made["key"], FOREVER)
    again = json.loads(said("rotate", "shop", "--grace", "0", "--json")[0])
    assert again["key"] != made["key"]
    assert finds(lab, again["key"], FOREVER)
    secrets = [one["key"].split("_", 2)[2] for one in (made, again)]
    shown = "".join("".join(said("list", *words)) for words in ((), ("--json",)))
    with closing(sqlite3.connect(lab / "armlift.db")) as database:
        held = "\n".join(database.iterdump())
    assert "key/shop" in held
    assert "never ends, opens items" in shown
    assert not any(secret in text for secret in secrets for text in (held, shown))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "shop"], "Missing option '--scopes'"),
        (["create", "shop", "--scopes", ","], "scopes: are none, must be at least one of recommend, assign"),
        (["create", "shop", "--scopes", "all"], "scope 'all': must be one of recommend, assignments, events"),
        (["create", "Shop!", "--scopes", "items"], "key name 'Shop!': must be 1 to 63 lower-case letters"),
        (["create", "old", "--scopes", "items"], "key old: is there already, must be another name; `armlift"),
        (["create", "shop", "--scopes", "items", "--expires", "soon"], "--expires: 'soon' is not a duration"),
        (["create", "shop", "--scopes", "items", "--by", ""], "--by '': must have 1 to 200 characters"),
        (["rotate", "shop"], "key 'shop' is not known, must be one of old"),
        (["rotate", "old", "--grace", "-1h"], "--grace: '-1h' is not a duration"),
        (["revoke", "' OR 1=1 --"], "is not known, must be one of old"),
    ],
)
def test_bad_words_are_one_line(lab: Path, said: Said, refused: Refused, words: list[str], says: str) -> None:
    said("create", "old", "--scopes", "items")
    assert says in refused("keys", *words, "--lab", lab)
    assert [one["state"] for one in listed(said)] == ["valid"]
