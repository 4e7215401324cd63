"""capacity: its table, its document, and one line for every bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run
from armlift.costs import FILE

Refused = Callable[..., str]
ASKED = ("capacity", "--users", "1000000", "--events-per-day", "24")


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run([*ASKED, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys)
    assert found.keys() == {
        "demand", "fits", "labs", "engine", "figures", "night", "limits", "assumptions", "costs",
    }  # fmt: skip
    assert found["demand"]["requests_per_day"] == 2
    assert found["demand"]["events"] == 24_000_000
    assert found["figures"].keys() == {
        "brokers", "topic_disk", "partitions", "ingest_processes", "ingest_cores", "api_processes",
        "api_cores", "postgresql_disk", "postgresql_cores", "archive_disk", "rollup_by_day",
        "spark_executors", "training_processes", "item_table.recgpt",
    }  # fmt: skip
    assert found["night"]["steps"].keys() == {
        "archive", "data_set", "shards", "fit.recgpt", "epochs.recgpt", "prompts.recgpt", "snapshot",
    }  # fmt: skip
    assert found["limits"].keys() == {"rollup", "following", "night", "postgresql", "item_table"}
    for one in (*found["figures"].values(), *found["night"]["steps"].values()):
        assert one["extrapolated"] == (one["beyond"] > 1)
        assert set(one["costs"]) <= found["costs"].keys()
    for cost in found["costs"].values():
        assert {"unit", "value", "measured", "benchmark", "machine", "date", "growth"} <= cost.keys()


def test_options_change_what_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(
        capsys, "--requests-per-day", "4", "--days-kept", "60", "--peak", "5", "--items", "1000",
        "--arms", "popularity, sasrec", "--night-hours", "4", "--window", "10", "--epochs", "2",
        "--memory-gb", "32",
    )  # fmt: skip
    demand = found["demand"]
    assert demand["arms"] == ["popularity", "sasrec"]
    asked: dict[str, float] = {
        "requests_per_day": 4,
        "days_kept": 60,
        "peak": 5,
        "items": 1000,
        "night_hours": 4,
    }
    asked |= {"window": 10, "epochs": 2, "memory": 32e9}
    assert {name: demand[name] for name in asked} == asked
    assert found["night"]["hours"] <= 4
    trained = {name for name in found["night"]["steps"] if name.startswith(("fit.", "epochs.", "prompts."))}
    assert trained == {"fit.popularity", "fit.sasrec", "epochs.sasrec"}


def test_the_table_names_sources_and_extrapolations(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASKED]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 110
    assert "24,000,000 events a day" in out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "archive_bytes" in rows["archive disk"]
    assert " x " in rows["archive disk"]
    assert "bench_scale" in rows["ingest_time"]


def test_costs_of_ones_own(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stock = (root / "platform" / "armlift" / "stock" / FILE).read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(stock.replace("bench_scale", "my own"))
    found = answer(capsys, "--costs", str(mine))
    assert {cost["benchmark"] for cost in found["costs"].values()} == {"my own"}


def test_bad_input_is_one_line(tmp_path: Path, refused: Refused) -> None:
    assert "--events-per-day 2.4e+07: must be above 0 and at most 10,000 (of one user)" in refused(
        "capacity", "--users", "1000000", "--events-per-day", "24000000"
    )
    assert "--arms 'recgtp': must be one of " in refused(*ASKED, "--arms", "recgtp")
    assert "--users" in refused("capacity", "--users", "many", "--events-per-day", "24")
    assert "there is no such file" in refused(*ASKED, "--costs", tmp_path / "none.yaml")
    empty = tmp_path / "empty.yaml"
    empty.write_text("arms: {}\n")
    assert refused(*ASKED, "--costs", empty).startswith(f"{empty}:1: ")
