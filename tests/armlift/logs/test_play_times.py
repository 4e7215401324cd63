"""Play times: drawn as the log has them, in agreement with what makes a long view."""

from pathlib import Path

import numpy as np
import pytest

from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.play_times import CLICKED, LONG, NEITHER, play_times
from armlift.logs.reader import open_log
from armlift.logs.response_model import outcome_of
from armlift.logs.rows import Rows, read_rows

SETTINGS = GeneratorSettings(
    users=150, videos=100, days=3, sessions_per_day=3, rows_per_session=10, random_share=0.5
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    path = tmp_path_factory.mktemp("play") / "log.csv"
    generate(SETTINGS, path)
    return read_rows(open_log([path]))


def test_they_are_distributed_as_in_the_log_and_agree_with_the_outcome(rows: Rows) -> None:
    outcome = outcome_of(rows.feedback["click"] != 0, rows.feedback["long_view"] != 0)
    times = play_times(rows, outcome)
    assert times is not None
    drawn = times.seconds(rows.item.astype(np.int64), outcome, np.random.default_rng(0).random(len(rows)))
    for what in (NEITHER, CLICKED, LONG):
        own = outcome == what
        points = np.linspace(0.05, 0.95, 19)
        told, seen = (np.quantile(values[own], points) for values in (drawn, rows.feedback["play"]))
        assert told == pytest.approx(seen, rel=0.1, abs=0.3)
    duration = times.durations[rows.item]
    needed = np.where(duration <= 18, duration, 18.0)
    known = ~np.isnan(duration)
    assert ((drawn >= needed) == (outcome == LONG))[known].all()
    assert np.isnan(times.durations).sum() > 0
    assert (drawn[~known & (outcome == LONG)] > 0).all()


def test_unknown_lengths_and_outcomes_nobody_had(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,video_id,time_ms,is_click,play_time_ms\n"
        + "".join(f"1,{n},{n},0,{n * 100}\n" for n in range(11))
    )
    rows = read_rows(open_log([path]))
    times = play_times(rows, outcome_of(rows.feedback["click"] != 0, None))
    assert times is not None
    at = np.array([0.0, 0.5, 0.999999])
    assert times.seconds(np.array([0, 3, -1]), np.full(3, NEITHER), at) == pytest.approx(
        [0, 0.5, 1.0], abs=0.002
    )
    assert times.seconds(np.array([0, 3, -1]), np.full(3, CLICKED), at).tolist() == [0, 0, 0]


def test_a_log_without_play_times(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,video_id,time_ms,is_click\n1,2,3,1\n")
    rows = read_rows(open_log([path]))
    assert play_times(rows, np.zeros(1, dtype=np.int64)) is None
