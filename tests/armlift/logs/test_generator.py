from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.logs.generator import TRUTH_COLUMNS, GeneratedLog, GeneratorSettings, generate, planted_videos
from armlift.logs.generator_response import GRID_TABS
from armlift.logs.generator_world import Ints, catalogue_of
from armlift.logs.kuairand import COLUMNS
from armlift.logs.log import SYNTHETIC_USERS_FROM

SMALL = GeneratorSettings(users=80, days=3, rows_per_session=20, random_share=0.3, videos=1_000)
UNIFORM = GeneratorSettings(
    users=100, days=2, rows_per_session=8, random_share=1.0, videos=400, random_pool=60, sessions_per_day=6
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def small(folder: Path) -> GeneratedLog:
    return generate(SMALL, folder / "small.csv", truth=folder / "truth.csv")


@pytest.fixture(scope="module")
def log(small: GeneratedLog) -> pl.DataFrame:
    return pl.read_csv(small.path)


@pytest.fixture(scope="module")
def truth(small: GeneratedLog) -> pl.DataFrame:
    return pl.read_csv(small.path.with_name("truth.csv"))


def test_a_log_has_the_official_columns_in_time_order(small: GeneratedLog, log: pl.DataFrame) -> None:
    assert tuple(log.columns) == COLUMNS
    assert set(log.dtypes) == {pl.Int64()}
    assert log["time_ms"].is_sorted()
    assert log.null_count().sum_horizontal().item() == 0
    assert small == GeneratedLog(
        path=small.path,
        rows=len(log),
        users=log["user_id"].n_unique(),
        videos=log["video_id"].n_unique(),
        first_ts=log["time_ms"][0],
        last_ts=log["time_ms"][-1],
        settings=SMALL,
    )


def test_user_ids_tell_that_the_log_is_synthetic(log: pl.DataFrame) -> None:
    assert log["user_id"].is_between(SYNTHETIC_USERS_FROM, SYNTHETIC_USERS_FROM + SMALL.users - 1).all()


def test_date_and_hour_are_of_a_moment_some_minutes_later(log: pl.DataFrame) -> None:
    calendar = Calendar("Asia/Shanghai")
    start = calendar.parse(SMALL.first_day)
    hours = (log["time_ms"].to_numpy() - start) // 3_600_000
    slots = (log["date"].to_numpy() - 20_220_408) * 24 + log["hourmin"].to_numpy() // 100
    assert hours.min() >= 0
    assert hours.max() < 24 * SMALL.days
    assert set(np.unique(slots - hours)) == {0, 1}
    assert np.mean(slots > hours) == pytest.approx(0.18, abs=0.02)
    assert (log["hourmin"] % 100 == 0).all()


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(small: GeneratedLog, folder: Path) -> None:
    again = generate(SMALL, folder / "again.csv")
    other = generate(SMALL.model_copy(update={"seed": 1}), folder / "other.csv")
    assert again.path.read_bytes() == small.path.read_bytes()
    assert other.path.read_bytes() != small.path.read_bytes()


def test_a_log_of_more_days_begins_with_the_log_of_fewer(small: GeneratedLog, folder: Path) -> None:
    shorter = generate(SMALL.model_copy(update={"days": 2}), folder / "shorter.csv")
    assert small.path.read_bytes().startswith(shorter.path.read_bytes())


def test_videos_come_from_the_catalogue_seed_alone() -> None:
    def durations(**changes: int) -> Ints:
        return catalogue_of(SMALL.model_copy(update=changes)).duration_ms

    assert np.array_equal(durations(seed=9, users=3, days=1), durations())
    assert not np.array_equal(durations(catalogue_seed=1), durations())


@pytest.mark.parametrize(("chance", "outcome"), [("p_click", "is_click"), ("p_long_view", "long_view")])
def test_outcomes_happen_with_the_probabilities_of_the_truth(
    log: pl.DataFrame, truth: pl.DataFrame, chance: str, outcome: str
) -> None:
    assert tuple(truth.columns) == TRUTH_COLUMNS
    assert len(truth) == len(log)
    p, happened = truth[chance].to_numpy(), log[outcome].to_numpy()
    assert p.min() >= 0
    assert p.max() <= 1
    for part in np.array_split(np.argsort(p), 10):
        error = np.sqrt(np.sum(p[part] * (1 - p[part]))) / len(part)
        assert abs(happened[part].mean() - p[part].mean()) <= 4 * error + 1e-9


def test_clicks_and_long_views_keep_the_rules_of_watch_time(log: pl.DataFrame) -> None:
    known = log.filter(pl.col("duration_ms") > 0)
    play, duration = known["play_time_ms"].to_numpy(), known["duration_ms"].to_numpy()
    click, grid = known["is_click"].to_numpy() == 1, GRID_TABS[known["tab"].to_numpy()]
    by_rule = np.where(duration <= 7_000, play >= duration, play > 7_000)
    assert np.array_equal(click[~grid], by_rule[~grid])
    assert np.array_equal(click[grid], play[grid] > 0)
    long_by_rule = np.where(duration <= 18_000, play >= duration, play >= 18_000)
    assert np.array_equal(known["long_view"].to_numpy() == 1, long_by_rule)
    assert grid.any()
    assert (duration <= 18_000).any()


def test_some_durations_are_missing_and_stay_so_for_the_video(log: pl.DataFrame) -> None:
    missing = log.filter(pl.col("duration_ms") == 0)["video_id"].unique()
    assert 0 < len(missing) < 0.1 * SMALL.videos
    assert log.filter(pl.col("video_id").is_in(missing.to_list()))["duration_ms"].max() == 0


def test_actions_are_flags_and_times_follow_them(log: pl.DataFrame) -> None:
    flags = [name for name in COLUMNS if name.startswith("is_") or name == "long_view"]
    assert log.select(pl.col(flags).is_in([0, 1]).all()).row(0) == (True,) * len(flags)
    assert ((log["profile_stay_time"] > 0) == (log["is_profile_enter"] == 1)).all()
    assert log.filter(pl.col("is_comment") == 1)["comment_stay_time"].min() != 0
    assert log.select(pl.col("is_like", "is_hate", "is_profile_enter").sum()).row(0) > (0, 0, 0)


def test_the_policy_shows_what_is_popular_and_what_the_user_likes(
    log: pl.DataFrame, truth: pl.DataFrame
) -> None:
    popularity = catalogue_of(SMALL).popularity
    rows = log.with_columns(truth["p_click"], popularity=popularity[log["video_id"].to_numpy()])
    shown = rows.filter(pl.col("tab") == 1).group_by("is_rand").agg(pl.col("p_click", "popularity").mean())
    (_, standard_click, standard_popularity), (_, random_click, random_popularity) = shown.sort(
        "is_rand"
    ).rows()
    assert standard_popularity > 1.5 * random_popularity
    assert standard_click > 2 * random_click


@pytest.fixture(scope="module")
def uniform(folder: Path) -> pl.DataFrame:
    return pl.read_csv(generate(UNIFORM, folder / "uniform.csv").path)


def test_random_exposure_is_uniform_over_the_pool(uniform: pl.DataFrame) -> None:
    assert (uniform["is_rand"] == 1).all()
    counts = np.bincount(uniform["video_id"].to_numpy())
    assert len(counts) == UNIFORM.random_pool
    assert chisquare(counts).pvalue > 1e-3


def test_random_exposure_is_uniform_among_standard_exposure_too(log: pl.DataFrame) -> None:
    counts = np.bincount(log.filter(pl.col("is_rand") == 1)["video_id"].to_numpy(), minlength=SMALL.videos)
    tenths = np.argsort(catalogue_of(SMALL).popularity).reshape(10, -1)
    assert chisquare(counts[tenths].sum(axis=1)).pvalue > 1e-3


def test_a_planted_lift_is_seen_in_planted_videos_only(folder: Path) -> None:
    settings = UNIFORM.model_copy(update={"planted_lift": 0.5, "random_pool": None})
    rows = pl.read_csv(generate(settings, folder / "planted.csv", truth=folder / "planted_truth.csv").path)
    p = pl.read_csv(folder / "planted_truth.csv")["p_click"].to_numpy()
    planted = np.isin(rows["video_id"].to_numpy(), planted_videos(settings))
    assert len(planted_videos(settings)) == settings.videos / 2
    assert p[planted].mean() / p[~planted].mean() == pytest.approx(1.5, abs=0.15)
    assert p[~planted].mean() == pytest.approx(0.176, abs=0.02)
    catalogue = catalogue_of(settings)
    for other in (catalogue.popularity, catalogue.category):
        assert abs(np.corrcoef(catalogue.planted, other)[0, 1]) < 4 / np.sqrt(settings.videos)


def test_progress_counts_days(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(SMALL, folder / "progress.csv", progress=lambda done, days: seen.append((done, days)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_run_that_is_stopped_leaves_the_earlier_file_and_no_other(tmp_path: Path) -> None:
    def stop(done: int, days: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "log.csv"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt):
        generate(SMALL, path, truth=tmp_path / "truth.csv", progress=stop)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("log.csv", "earlier")]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent/log\.csv: cannot be written: No such file"):
        generate(SMALL, tmp_path / "absent" / "log.csv")


def test_settings_that_make_no_row_are_refused(tmp_path: Path) -> None:
    settings = GeneratorSettings(users=1, days=1, sessions_per_day=1e-9, rows_per_session=2)
    with pytest.raises(InputError, match="no session in 1 days of 1 users"):
        generate(settings, tmp_path / "log.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("day", ["2022-03-27", "2022-10-30"])
def test_days_of_23_and_25_hours_hold_their_rows(tmp_path: Path, day: str) -> None:
    settings = GeneratorSettings.model_validate(
        {"first_day": day, "timezone": "Europe/Berlin", "users": 20, "days": 1, "rows_per_session": 20}
    )
    written = generate(settings, tmp_path / "log.csv")
    calendar = Calendar("Europe/Berlin")
    assert calendar.day(written.first_ts) == calendar.day(written.last_ts)
    assert (pl.read_csv(written.path)["hourmin"] <= 2300).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random_pool": 3_001}, "random_pool is 3001, must be at most videos, 3000"),
        ({"timezone": "Moon"}, "'Moon' is not a time zone"),
        ({"colour": 1}, "Extra inputs are not permitted"),
        ({"random_share": 1.1}, "less than or equal to 1"),
    ],
)
def test_settings_say_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GeneratorSettings.model_validate(changes)
