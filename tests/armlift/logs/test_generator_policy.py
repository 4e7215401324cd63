import numpy as np
import pytest
from scipy.stats import chisquare

from armlift.logs.generator_policy import Policy, show
from armlift.logs.generator_settings import GeneratorSettings
from armlift.logs.generator_world import Catalogue, Floats, Tastes, catalogue_of

SETTINGS = GeneratorSettings(users=5, videos=60, taste_categories=7)


@pytest.fixture
def catalogue() -> Catalogue:
    return catalogue_of(SETTINGS)


@pytest.fixture
def gains() -> Floats:
    return Tastes(SETTINGS).gains()


@pytest.mark.parametrize("sharpness", [0.0, 1.3])
def test_draws_follow_popularity_and_affinity(catalogue: Catalogue, gains: Floats, sharpness: float) -> None:
    user = 3
    utility = gains[user, catalogue.category] + catalogue.quality
    expected = catalogue.popularity * np.exp(sharpness * utility)
    drawn = Policy(catalogue, gains, sharpness).draw(np.random.default_rng(0), np.full(100_000, user))
    counts = np.bincount(drawn, minlength=SETTINGS.videos)
    order = np.argsort(expected)
    groups = np.array_split(order, 12)
    chances = np.array([expected[group].sum() for group in groups]) / expected.sum()
    assert chisquare([counts[group].sum() for group in groups], chances * len(drawn)).pvalue > 1e-3


def test_categories_without_videos_are_never_drawn(catalogue: Catalogue) -> None:
    # 20 categories, of which the catalogue's 7 are the first: gains for the others must not matter.
    gains = np.zeros((2, 20))
    gains[:, 7:] = 50.0
    users = np.repeat([0, 1], 5_000)
    drawn = Policy(catalogue, gains, 1.0).draw(np.random.default_rng(0), users)
    assert drawn.min() >= 0
    assert len(np.unique(drawn)) > 30


def test_mean_gains_are_those_of_draws(catalogue: Catalogue, gains: Floats) -> None:
    policy = Policy(catalogue, gains, 1.0)
    users = np.repeat(np.arange(SETTINGS.users), 20_000)
    drawn = gains[users, catalogue.category[policy.draw(np.random.default_rng(1), users)]]
    assert drawn.reshape(SETTINGS.users, -1).mean(axis=1) == pytest.approx(policy.mean_gains(), abs=0.05)


def test_sessions_repeat_no_video_where_there_are_enough() -> None:
    settings = GeneratorSettings(users=50, videos=2_000)
    policy = Policy(catalogue_of(settings), Tastes(settings).gains(), 0.5)
    rng = np.random.default_rng(0)
    lengths = np.full(50, 40)
    random = rng.random(int(lengths.sum())) < 0.5
    videos = show(rng, policy, np.arange(50), lengths, random, 2_000).reshape(50, 40)
    assert [len(np.unique(shown)) for shown in videos] == [40] * 50


def test_a_session_longer_than_the_catalogue_ends_all_the_same(catalogue: Catalogue, gains: Floats) -> None:
    policy = Policy(catalogue, gains, 1.0)
    nothing = np.zeros(200, dtype=np.bool_)
    videos = show(np.random.default_rng(0), policy, np.array([0]), np.array([200]), nothing, 60)
    assert len(videos) == 200
    assert videos.max() < 60


def test_no_session_shows_nothing(catalogue: Catalogue, gains: Floats) -> None:
    empty = np.empty(0, dtype=np.int64)
    rng = np.random.default_rng(0)
    assert len(show(rng, Policy(catalogue, gains, 1.0), empty, empty, empty.astype(np.bool_), 60)) == 0
