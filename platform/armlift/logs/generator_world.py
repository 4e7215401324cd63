"""Videos and users of a generated log, and the tastes that join them.

How much user u is drawn to video v on a day is one number in log odds,

    affinity(u, v) = readiness(u) + strength * taste(u, category(v)) + quality(v),

which decides clicks and, through the logging policy, what is shown.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armlift.logs import published
from armlift.logs.generator_settings import GeneratorSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CATALOGUE_STREAM, USER_STREAM, DAY_STREAM, PILOT_STREAM = range(1, 5)
"""The second number of each seed, so that parts of a log draw independently."""

# Click rates per video in the published random log: median 0.161, 90 % below 0.303, over some 160 exposures
# each.
QUALITY_SPREAD = 0.6
# Durations of the published pool of 7,583 videos: log-normal, median 69 s.
DURATION_MEDIAN_MS, DURATION_SPREAD = 68_600, 1.03
DURATION_RANGE_MS = (2_000, 900_000)
# Sizes of the 46 categories of that pool fall roughly so; the largest holds a fifth.
CATEGORY_EXPONENT = 0.9
TASTE_WEIGHTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# Weibull shape and log-normal spread that give the published quantiles of sessions per user (mean 150, median
# 149, 90 % below 241) and of exposures per user (mean 11,812, median 8,594, 90 % below 24,587).
SESSION_SHAPE, ROW_SPREAD = 2.4, 0.59
# Users with long sessions click less: the published click rate is 0.38 over exposures, 0.47 for the median
# user.
READINESS_ROW_CORRELATION = -0.6


@dataclass(frozen=True)
class Catalogue:
    """The videos, arrays [V]; `duration_ms` is what the app knows, `logged_ms` what the log says."""

    popularity: Floats
    category: Ints
    quality: Floats
    duration_ms: Ints
    logged_ms: Ints
    planted: Bools


@dataclass(frozen=True)
class Population:
    """The users, arrays of one length U: readiness in log odds, mean sessions a day, mean rows a session."""

    readiness: Floats
    sessions: Floats
    rows: Floats


def catalogue_of(settings: GeneratorSettings) -> Catalogue:
    """Draw the videos; only the settings that describe videos matter."""
    rng = np.random.default_rng([settings.catalogue_seed, CATALOGUE_STREAM])
    videos = settings.videos
    popularity = rng.permutation(np.arange(1.0, videos + 1) ** -settings.popularity_exponent)
    category = rng.choice(settings.taste_categories, videos, p=category_shares(settings))
    quality = rng.normal(0, QUALITY_SPREAD, videos)
    seconds = DURATION_MEDIAN_MS * np.exp(rng.normal(0, DURATION_SPREAD, videos))
    duration = np.clip(seconds, *DURATION_RANGE_MS).astype(np.int64)
    missing = rng.random(videos) < published.DURATION_MISSING
    planted = rng.permutation(videos) < round(settings.planted_share * videos)
    logged = np.where(missing, 0, duration)
    return Catalogue(popularity / popularity.sum(), category, quality, duration, logged, planted)


def population_of(settings: GeneratorSettings) -> Population:
    """Draw the users: few are very active, and those who look at much click less of it."""
    rng = np.random.default_rng([settings.seed, USER_STREAM])
    users = settings.users
    sessions = rng.weibull(SESSION_SHAPE, users) / math.gamma(1 + 1 / SESSION_SHAPE)
    row_score = rng.standard_normal(users)
    rows = np.exp(ROW_SPREAD * row_score - ROW_SPREAD**2 / 2)
    own = math.sqrt(1 - READINESS_ROW_CORRELATION**2) * rng.standard_normal(users)
    return Population(
        readiness=settings.user_spread * (READINESS_ROW_CORRELATION * row_score + own),
        sessions=settings.sessions_per_day * sessions,
        rows=1 + (settings.rows_per_session - 1) * rows,
    )


def category_shares(settings: GeneratorSettings) -> Floats:
    """Give the share of each category among videos and among tastes, float64 [C]."""
    sizes = np.arange(1.0, settings.taste_categories + 1) ** -CATEGORY_EXPONENT
    shares: Floats = sizes / sizes.sum()
    return shares


class Tastes:
    """The categories each user likes, int64 [U, 6], best liked first; they drift in steps, day by day."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self._drift = settings.taste_drift
        self._strength = settings.taste_strength
        self._categories = settings.taste_categories
        self._cumulative = np.cumsum(category_shares(settings))
        rng = np.random.default_rng([settings.seed, USER_STREAM, 1])
        self._liked = self._draw(rng, settings.users * len(TASTE_WEIGHTS)).reshape(settings.users, -1)

    def _draw(self, rng: np.random.Generator, count: int) -> Ints:
        drawn = np.searchsorted(self._cumulative, rng.random(count), side="right")
        return np.minimum(drawn, self._categories - 1)

    def drift(self, rng: np.random.Generator) -> None:
        """Move on by one day: some tastes are replaced."""
        changed = rng.random(self._liked.shape) < self._drift
        self._liked[changed] = self._draw(rng, int(changed.sum()))

    def gains(self) -> Floats:
        """Give what each category adds to each user's log odds of a click today, float64 [U, C]."""
        users = len(self._liked)
        gains = np.zeros((users, self._categories))
        for place, weight in enumerate(TASTE_WEIGHTS):
            gains[np.arange(users), self._liked[:, place]] += self._strength * weight
        return gains
