"""Fixtures of nights: a lab with some days of events, and an arm that fails as it is told to."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from walkers import fill, make_lab

from armlift.lab import Lab

FAULTY = '''
import os, time
import numpy as np
from armlift_arms.popularity import Popularity, PopularityConfig

class FaultyConfig(PopularityConfig):
    fault: str = "none"
    slow: float = 0.0

class Faulty(Popularity):
    """Popularity that fails while it is fitted, as its definition says."""
    config_class = FaultyConfig

    def fit(self, histories, items, *, until, warm=None):
        if until and self.config.slow:
            time.sleep(self.config.slow)
        if until and self.config.fault == "crash":
            raise ZeroDivisionError("by nothing")
        if until and self.config.fault == "abort":
            os.abort()
        if until and self.config.fault == "memory":
            kept = [bytearray(os.urandom(1024)) * 1024 for _ in range(4000)]
        super().fit(histories, items, until=until, warm=warm)
        if until and self.config.fault == "nan":
            self._learn(items, until, {"scores": np.full(len(items), np.nan)})
        if until and self.config.fault == "worst":
            self._learn(items, until, {"scores": -self._tensors["scores"]})
'''


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with the model `faulty`, for this process and those it starts."""
    site = tmp_path / "site"
    (site / "faulty-1.0.dist-info").mkdir(parents=True)
    (site / "faulty-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n"
    )
    (site / "faulty-1.0.dist-info" / "entry_points.txt").write_text(
        "[armlift.arms]\nfaulty = faulty_arm:Faulty\n"
    )
    (site / "faulty_arm.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    yield
    sys.modules.pop("faulty_arm", None)


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Lab:
    """Give a lab, its database that of the engine, with seven days of events and two arms."""
    folder = tmp_path / "lab"
    make_lab(folder)
    fill(engine)
    return Lab(folder, database=engine.url.render_as_string(hide_password=False))
