"""Randomly exposed rows: which count, what an arm is told, and that known values are found."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import polars as pl
import pytest

from armlift.arm import Arm, Request, Slate
from armlift.errors import InputError
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.offpolicy.assessment import assess
from armlift.offpolicy.policies import uniform
from armlift.offpolicy.random_exposure import Settings, random_rows, rows_and_slates

START = 1_649_347_200_000
HOUR = 3_600_000
HEADER = "user_id,video_id,time_ms,is_click,is_rand"
ROWS = (
    (1, 10, 0, 1, 1),
    (1, 11, 1, 0, 0),
    (2, 12, 2 * HOUR, 1, 1),
    (1, 12, 3 * HOUR, 1, 1),
    (1, 13, 3 * HOUR + 1, 0, 0),
    (1, 10, 3 * HOUR + 2, 0, 1),
    (2, 11, 4 * HOUR, 1, 0),
    (1, 12, 3 * HOUR, 1, 1),
)


class Fixed:
    """An arm that gives the same items to all, and remembers what it was asked."""

    version = "v1"
    config = SimpleNamespace(name="fixed")

    def __init__(self, items: Sequence[str]) -> None:
        self.items, self.asked = items, list[Request]()

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        self.asked += requests
        n = len(self.items)
        return [Slate(self.items, [0.0] * n, [0] * n, [1.0] * n) for _ in requests]


def write(path: Path, rows: Iterable[Sequence[int]]) -> Path:
    lines = [",".join(map(str, (u, v, START + ts, *rest))) for u, v, ts, *rest in rows]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a log with random rows of two users, one of them twice."""
    return write(tmp_path / "log.csv", ROWS)


def test_random_rows_count_with_the_pools_propensity(log: Path) -> None:
    rows = random_rows(open_log([log]), "click")
    assert (len(rows), rows.catalogue, rows.dropped) == (4, ("10", "12"), {"duplicate": 1})
    assert set(rows.logged.tolist()) == {0.5}
    assert sorted(rows.rewards.tolist()) == [0.0, 1.0, 1.0, 1.0]
    later = random_rows(open_log([log]), "click", start=START + HOUR, pool=5)
    assert (len(later), len(later.catalogue), set(later.logged.tolist())) == (3, 5, {0.2})
    assert assess(later, uniform(later), methods=["ips"]).support.never == pytest.approx(3 / 5)


def test_an_arm_is_asked_once_a_session_with_what_was_before(log: Path) -> None:
    arm = Fixed(["12", "99"])
    settings = Settings(k=3, start=START + HOUR)
    rows, policy = rows_and_slates(open_log([log]), "click", cast(Arm, arm), settings)
    assert [request.unit for request in arm.asked] == ["2", "1"]
    assert [behaviour.item for behaviour in arm.asked[1].history] == ["10"]
    assert all(request.candidates is None and request.k == 3 for request in arm.asked)
    assert rows.catalogue == ("10", "12", "99")
    assert rows.requests is None
    assert policy.name == "fixed v1"
    found = dict(zip(rows.items.tolist(), policy.target(rows).tolist(), strict=True))
    assert found == {0: 0.0, 1: 0.5}
    assert assess(rows, policy).support.never == pytest.approx(0.5)


def test_what_has_no_propensities_is_refused(log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--reward like: the log does not tell of it, must be one of click"):
        random_rows(open_log([log]), "like")
    with pytest.raises(InputError, match="--pool 1: the random rows show 2 videos, must be as many"):
        random_rows(open_log([log]), "click", pool=1)
    with pytest.raises(InputError, match="has no randomly exposed rows from the cut on"):
        random_rows(open_log([log]), "click", start=START + 9 * HOUR)
    plain = write(tmp_path / "plain.csv", [row for row in ROWS if not row[-1]])
    with pytest.raises(InputError, match=r"plain.csv: has no randomly exposed rows \(is_rand = 1\)"):
        random_rows(open_log([plain]), "click")


def test_a_known_arm_is_valued_rightly(tmp_path: Path) -> None:
    """The generator tells each row's chance of a click, and so the true value of five fixed videos."""
    settings = GeneratorSettings(
        users=300, videos=40, days=3, sessions_per_day=2, rows_per_session=5, random_share=1.0
    )
    path, truth_path = tmp_path / "log.csv", tmp_path / "truth.csv"
    generate(settings, path, truth=truth_path)
    chances = (
        pl.read_csv(path).hstack(pl.read_csv(truth_path)).group_by("video_id").agg(pl.col("p_click").mean())
    )
    best = chances.sort("p_click", descending=True).head(5)
    arm = cast(Arm, Fixed([str(video) for video in best["video_id"].to_list()]))
    rows, policy = rows_and_slates(open_log([path]), "click", arm, Settings(k=5))
    found = assess(rows, policy)
    truth = float(best["p_click"].to_numpy().mean())
    for one in found.values[1:]:
        assert one.low is not None
        assert one.high is not None
        assert one.low < truth < one.high
        assert one.high < 1.3 * truth
    assert found.logged.value is not None
    assert found.logged.value < 0.8 * truth
    assert any(note.startswith("SYNTHETIC DATA") for note in found.notes)
    assert np.isclose(found.weights.mean or 0.0, 1.0, atol=0.1)
