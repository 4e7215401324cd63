"""The command import: a report in the end, or one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]
MAP = "exposures: {arm: group}\narms: {A: popularity, B: covisitation, C: random}\n"


@pytest.fixture
def sources(lab: Path) -> list[str]:
    met = [f"{unit},2024-03-01,{'ABC'[unit % 3]}" for unit in range(120)]
    done = [
        f"{unit},2024-03-0{1 + unit % 5}T10:00,impression\n{unit},2024-03-02,click" for unit in range(120)
    ]
    (lab / "met.csv").write_text("\n".join(["unit_id,ts,group", *met]))
    (lab / "done.csv").write_text("\n".join(["unit_id,ts,kind", *done]))
    (lab / "map.yaml").write_text(MAP)
    return [
        "baselines",
        "--lab",
        str(lab),
        "--exposures",
        str(lab / "met.csv"),
        "--events",
        str(lab / "done.csv"),
    ]


def read(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*words, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_it_reports_and_the_report_can_be_had_again(
    lab: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["import", *sources, "--map", str(lab / "map.yaml")]
    found = read([*given, "--html", str(lab / "out.html")], capsys)
    assert (found["mode"], found["resolution"]["matched"]) == ("imported", None)
    assert {one["units"] for one in found["comparisons"]} == {40}
    assert read(["report", "baselines", "--lab", str(lab)], capsys) == found
    assert read(given, capsys) == found
    page = (lab / "out.html").read_text()
    assert "the experiment was run elsewhere" in page
    assert "k (items in a slate)" not in page
    assert run(["report", "baselines", "--lab", str(lab)]) == 0
    out = capsys.readouterr().out
    assert "imported, split by unit" in out
    assert "matched impressions" not in out


def test_what_is_wrong_is_one_line(lab: Path, sources: list[str], refused: Refused, edit: Edit) -> None:
    given = ["import", *sources]
    assert "met.csv has no column 'arm', must be one of unit_id, ts, group" in refused(*given)
    assert "name the column of arm in --map FILE" in refused(*given)
    path = lab / "map.yaml"
    given += ["--map", str(path)]
    edit("map.yaml", "A: popularity", "A: popular")
    assert refused(*given).startswith(f"{path}:2: arms.A: 'popular' must be one of popularity, ")
    edit("map.yaml", "A: popular", "Q: popularity")
    edit("map.yaml", "B: covisitation", "R: covisitation")
    edit("map.yaml", "C: random", "S: random")
    assert "met.csv: none of 120 rows can be used: unknown_arm 120" in refused(*given)
    path.write_text("exposures: {arm: groop}\n")
    assert refused(*given).startswith(f"{path}:1: exposures.arm: {lab / 'met.csv'} has no column 'groop'")
    path.write_text("exposure: {arm: group}\n")
    assert refused(*given).startswith(f"{path}:1: exposure: unknown key")
    path.write_text("kinds: {buy: bought}\n")
    assert refused(*given).startswith(f"{path}:1: kinds.buy: 'bought' must be one of impression, click, ")
    path.write_text(MAP)
    (lab / "done.csv").write_text("unit_id,ts,kind\n")
    assert refused(*given) == f"{lab / 'done.csv'}: has no row, must have one or more"
    assert "there is no such file" in refused(*given, "--events", str(lab / "none.csv"))
    assert "has no experiment 'other'" in refused("import", "other", *given[2:])
