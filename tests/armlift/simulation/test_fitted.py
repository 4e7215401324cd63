"""A world made after a log."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.simulation.calibration import APP, UNIFORM, calibrate, show
from armlift.simulation.fitted import Fitted, fit_world
from armlift.simulation.settings import SimulationSettings

CALENDAR = Calendar("Asia/Shanghai")
SETTINGS = SimulationSettings(videos=300, taste_categories=8)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    world = GeneratorSettings(
        users=150, days=4, videos=400, random_share=0.3, sessions_per_day=1.5, rows_per_session=8
    )
    generate(world, path)
    return path


@pytest.fixture(scope="module")
def fitted(log: Path) -> Fitted:
    return fit_world(SETTINGS, open_log([log]), CALENDAR)


def test_videos_and_users_are_the_logs(fitted: Fitted, log: Path) -> None:
    world, settings = fitted.origin.world, fitted.settings
    columns = pl.read_csv(log)
    counts = {
        str(video): int(n)
        for video, n in zip(*np.unique(columns["video_id"], return_counts=True), strict=True)
    }
    assert (world.videos, settings.videos) == (300, 300)
    assert fitted.left_out == len(counts) - 300
    # The most shown ones are kept, and shown as often by the app.
    least = min(counts[video] for video in world.ids)
    assert sum(n > least for n in counts.values()) < 300
    shown = np.array([counts[video] for video in world.ids])
    assert world.catalogue.popularity == pytest.approx(shown / shown.sum())
    assert list(world.ids) == sorted(world.ids)
    assert settings.sessions_per_day == pytest.approx(1.5, rel=0.3)
    assert settings.rows_per_session == pytest.approx(8, rel=0.3)
    assert sum(settings.weekdays) == pytest.approx(7)


def test_the_rates_are_the_logs(fitted: Fitted, log: Path) -> None:
    columns = pl.read_csv(log)
    for policy, random in ((APP, 0), (UNIFORM, 1)):
        rows = columns.filter(pl.col("is_rand") == random)
        rates = fitted.origin.targets[policy]
        assert rates.click == pytest.approx(rows["is_click"].mean())
        assert rates.long_view == pytest.approx(rows["long_view"].mean())
    model = calibrate(fitted.settings, fitted.origin)
    assert show(model, UNIFORM).rates(model.levels).click == pytest.approx(
        fitted.origin.targets[UNIFORM].click, abs=0.005
    )


def test_a_table_of_videos_gives_categories_and_lengths(log: Path, fitted: Fitted, tmp_path: Path) -> None:
    table = tmp_path / "videos.csv"
    known = fitted.origin.world.ids[:200]
    lines = [f'{video},"{int(video) % 5},7",{1_000 + int(video)}' for video in known]
    table.write_text("video_id,tag,video_duration\n" + "\n".join(lines) + "\n")
    world = fit_world(SETTINGS, open_log([log]), CALENDAR, table).origin.world
    assert world.categories == 5
    assert world.catalogue.category[:200].tolist() == [int(video) % 5 for video in known]
    assert world.catalogue.duration_ms[:200].tolist() == [1_000 + int(video) for video in known]
    table.write_text("video,tag\n1,2\n")
    with pytest.raises(InputError, match=r"videos\.csv:1: has no column 'video_id', has video, tag"):
        fit_world(SETTINGS, open_log([log]), CALENDAR, table)


def test_a_log_without_clicks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,video_id,time_ms,long_view\n1,2,1649347200000,1\n")
    with pytest.raises(InputError, match=r"log\.csv: knows long_view, must know clicks"):
        fit_world(SETTINGS, open_log([path]), CALENDAR)
