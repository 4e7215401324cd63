"""The response model and the logging policy, fitted to the published rates on seeded pilots.

One mechanism explains the clicks of both published logs: the random level of the main tab is set so that
uniform draws give its published click rate, then the logging policy's sharpness so that its choices, at that
same level, give the main tab's published standard rate. Levels of the standard tabs are set last, on a larger
pilot; that of the main tab differs little from the random one, unless users are too alike for any policy to
reach the published rate. Long views have a level for each kind, because their published rates are those of
another extract, in which clicks are more frequent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from armlift.logs import published
from armlift.logs.generator_policy import Policy, show
from armlift.logs.generator_response import GRID_TABS, RANDOM, SHORT_MS, STANDARD, Response, affinity_of
from armlift.logs.generator_settings import GeneratorSettings
from armlift.logs.generator_world import (
    PILOT_STREAM,
    Bools,
    Catalogue,
    Floats,
    Ints,
    Population,
    Tastes,
    catalogue_of,
    population_of,
)

_LEVELS = (-40.0, 40.0)
_SHARPNESS = (0.0, 6.0)
# Impressions of the pilots: random, standard while the sharpness is sought, standard for the levels.
_ROWS_RANDOM, _ROWS_SEARCH, _ROWS_LEVELS = 20_000, 50_000, 300_000
_SESSIONS_MIN, _SESSIONS_MAX = 100, 3_000
# Seen by rows, sessions are longer than by sessions: twice for exponential lengths, and again between users.
_SIZE_BIAS = 2.84


@dataclass(frozen=True)
class _Pilot:
    """A weighted sample of impressions of one kind, arrays [n]; weights sum to 1."""

    affinity: Floats
    short: Bools
    weight: Floats

    def mean(self, values: Floats) -> float:
        return float(self.weight @ values)


@dataclass(frozen=True)
class _Scene:
    """What pilots are drawn from: videos, users and their tastes of the first day."""

    settings: GeneratorSettings
    catalogue: Catalogue
    population: Population
    gains: Floats


def calibrate(settings: GeneratorSettings) -> Response:
    """Fit the response model to the published rates; the last few settings are remembered.

    The rates hold before planting: with `planted_lift`, only planted videos differ, by just that factor.
    Where all exposure is random there is no standard exposure to fit, which saves most of the time.
    """
    same = {"days": 1, "first_day": GeneratorSettings().first_day, "random_share": settings.random_share // 1}
    return _calibrate(settings.model_copy(update=same))


@lru_cache(maxsize=16)
def _calibrate(settings: GeneratorSettings) -> Response:
    scene = _Scene(settings, catalogue_of(settings), population_of(settings), Tastes(settings).gains())
    ceiling = min(1.0, 1 / (1 + settings.planted_lift))
    rates = np.minimum(published.TAB_CLICK_RATES, 0.98 * ceiling)
    levels, long_levels, sharpness = np.full(rates.shape, _LEVELS[0]), np.zeros(2), 0.0
    random = _random_pilot(scene)
    levels[RANDOM] = [_level(random, ceiling, rate) for rate in rates[RANDOM]]
    long_levels[RANDOM] = _long_level(random, RANDOM, levels, ceiling, published.LONG_VIEW_RANDOM)
    if settings.random_share < 1:
        main = levels[RANDOM, published.TAB_MAIN]
        sharpness = _sharpness(
            scene, lambda affinity: ceiling * expit(main + affinity), rates[STANDARD, published.TAB_MAIN]
        )
        standard = _standard_pilot(scene, sharpness, _ROWS_LEVELS)
        levels[STANDARD] = [_level(standard, ceiling, rate) for rate in rates[STANDARD]]
        long_levels[STANDARD] = _long_level(standard, STANDARD, levels, ceiling, published.LONG_VIEW_STANDARD)
    return Response(sharpness, levels, long_levels, ceiling, settings.planted_lift)


def _solve(miss: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Find where an increasing function is 0, or the bound that comes nearest."""
    if miss(low) >= 0:
        return low
    if miss(high) <= 0:
        return high
    return float(brentq(miss, low, high, xtol=tolerance))


def _level(pilot: _Pilot, ceiling: float, rate: float) -> float:
    """Find the level at which a pilot's mean click probability is `rate`, by a histogram of affinity."""
    mass, edges = np.histogram(pilot.affinity, bins=400, weights=pilot.weight)
    middles = (edges[:-1] + edges[1:]) / 2
    return _solve(lambda level: ceiling * float(mass @ expit(level + middles)) - rate, *_LEVELS, 1e-6)


def _sharpness(scene: _Scene, click: Callable[[Floats], Floats], rate: float) -> float:
    """Find the sharpness at which the policy's choices have the click rate `rate`."""

    def miss(sharpness: float) -> float:
        pilot = _standard_pilot(scene, sharpness, _ROWS_SEARCH)
        return pilot.mean(click(pilot.affinity)) - rate

    return _solve(miss, *_SHARPNESS, 1e-2)


def _long_level(pilot: _Pilot, kind: int, levels: Floats, ceiling: float, rate: float) -> float:
    """Find the level of long views at which a pilot's mean probability of one, over all tabs, is `rate`."""
    sure, unsure = np.zeros(len(pilot.affinity)), np.zeros(len(pilot.affinity))
    for tab in np.flatnonzero(published.TAB_SHARES[kind]):
        click = published.TAB_SHARES[kind, tab] * ceiling * expit(levels[kind, tab] + pilot.affinity)
        is_sure = pilot.short & ~GRID_TABS[tab]
        sure += np.where(is_sure, click, 0.0)
        unsure += np.where(is_sure, 0.0, click)

    def miss(level: float) -> float:
        return pilot.mean(sure + unsure * expit(level + pilot.affinity)) - rate

    return _solve(miss, *_LEVELS, 1e-4)


def _random_pilot(scene: _Scene) -> _Pilot:
    rng = np.random.default_rng([scene.settings.seed, PILOT_STREAM, RANDOM])
    users = _spread_users(scene.population, scene.population.readiness, _ROWS_RANDOM)
    videos = rng.integers(0, scene.settings.pool, _ROWS_RANDOM)
    return _pilot(scene, users, videos, np.full(_ROWS_RANDOM, 1 / _ROWS_RANDOM))


def _standard_pilot(scene: _Scene, sharpness: float, rows: int) -> _Pilot:
    """Show sessions of some `rows` impressions in all, drawn with the same seed at every sharpness.

    Sessions are shown whole, because a session repeats no video and so runs out of the best ones.
    """
    settings, population = scene.settings, scene.population
    rng = np.random.default_rng([settings.seed, PILOT_STREAM, STANDARD])
    sessions = int(rows / (_SIZE_BIAS * settings.rows_per_session))
    sessions = min(max(sessions, _SESSIONS_MIN), _SESSIONS_MAX)
    policy = Policy(scene.catalogue, scene.gains, sharpness)
    users = _spread_users(population, population.readiness + policy.mean_gains(), sessions)
    # Lengths as rows see them: an exponential factor becomes a gamma one of shape 2.
    lengths = 1 + rng.poisson((population.rows[users] - 1) * rng.gamma(2.0, size=sessions))
    nothing = np.zeros(int(lengths.sum()), dtype=np.bool_)
    videos = show(rng, policy, users, lengths, nothing, settings.pool)
    return _pilot(scene, np.repeat(users, lengths), videos, np.repeat(1 / lengths / sessions, lengths))


def _pilot(scene: _Scene, users: Ints, videos: Ints, weight: Floats) -> _Pilot:
    affinity = affinity_of(users, videos, scene.population, scene.catalogue, scene.gains)
    return _Pilot(affinity, scene.catalogue.duration_ms[videos] <= SHORT_MS, weight)


def _spread_users(population: Population, score: Floats, count: int) -> Ints:
    """Pick users in proportion to their impressions, evenly over a score of theirs, int64 [count]."""
    order = np.argsort(score, kind="stable")
    rows = np.cumsum((population.sessions * population.rows)[order])
    points = (np.arange(count) + 0.5) / count * rows[-1]
    users: Ints = order[np.minimum(np.searchsorted(rows, points), len(order) - 1)]
    return users
