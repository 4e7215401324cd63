"""The page on data of one's own: what it shows runs, and says what it shows."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from armlift.cli import run
from armlift.imported_rows import REASON
from armlift.lab import init_lab
from armlift.mapping import Mapping
from armlift.rendering.tables import LEFT_OUT

UNITS = 400
START = 1_709_251_200
DAY = 86_400


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "own-data.md").read_text(encoding="utf-8")


def blocks(page: str, kind: str) -> list[str]:
    parts = re.split(r"^```", page, flags=re.M)
    return [part.removeprefix(f"{kind}\n") for part in parts[1::2] if part.startswith(f"{kind}\n")]


def units() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    arm = rng.choice(["A", "B"], UNITS)
    views = 1 + rng.poisson(5, UNITS)
    before = rng.exponential(5, UNITS)
    return pl.DataFrame(
        {
            "user": range(UNITS),
            "variant": arm,
            "country": rng.choice(["de", "fr"], UNITS),
            "revenue": before + rng.exponential(np.where(arm == "B", 7, 5)),
            "revenue_before": before,
            "bought": rng.random(UNITS) < 0.3,
            "clicks": rng.binomial(views, 0.3),
            "views": views,
            "load_seconds": rng.exponential(1, UNITS),
        }
    )


def test_the_frame_is_analysed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    units().write_parquet("units.parquet")
    (code,) = blocks(page, "python")
    known: dict[str, Any] = {}
    exec(compile(code, "own-data.md", "exec"), known)  # its lines are those a reader copies
    assert known["found"].report["verdict"]["status"] in {"ship", "do_not_ship", "cannot_tell", "broken"}
    assert known["found"].comparisons["segment"].n_unique() == 3


def test_the_tables_are_imported(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init_lab(tmp_path / "mylab")
    experiment, metrics, mapping = blocks(page, "yaml")
    (tmp_path / "mylab" / "experiments" / "checkout.yaml").write_text(
        experiment + "layer: {name: checkout}\n"
    )
    with (tmp_path / "mylab" / "metrics.yaml").open("a") as file:
        file.write(metrics)
    (tmp_path / "map.yaml").write_text(mapping)
    assert set(yaml.safe_load(mapping)) == set(type(Mapping().content).model_fields)
    frame = units()
    frame.select("user", "variant", first_seen=pl.lit(START)).write_parquet("exposures.parquet")
    done = frame.select("user", time=pl.lit(START) + pl.col("user") % 9 * DAY, amount="revenue")
    pl.concat([done.with_columns(action=pl.lit(kind)) for kind in ("buy", "visit")]).write_parquet(
        "events.parquet"
    )
    commands = [
        line for block in blocks(page, "") for line in block.splitlines() if line.startswith("armlift ")
    ]
    assert len(commands) == 2
    for command in commands:
        assert run(shlex.split(command)[1:]) == 0
    assert "imported" in (tmp_path / "report.html").read_text()


def test_every_reason_is_told(page: str, root: Path) -> None:
    source = (root / "platform" / "armlift" / "imported_rows.py").read_text()
    reasons = set(re.findall(r'\("((?:blank|bad|unknown|before|expired)[a-z_]*)", ', source)) | {
        "blank_value",
        "bad_value",
    }
    assert REASON == "reason"
    assert len(reasons) >= 14
    told = {f"exposure_{one}" for one in reasons} | {f"event_{one}" for one in reasons}
    assert {one.partition("_")[2] for one in told & LEFT_OUT.keys()} == reasons
    assert all(f"{one}`" in page for one in reasons)
