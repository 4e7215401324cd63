"""How users of a generated log respond to what they are shown.

With affinity a (log odds, see generator_world), exposure kind e (0 standard, 1 random) and tab t:

    p_click     = ceiling * sigmoid(level[e, t] + a) * (1 + planted_lift * planted(v))
    p_long_view = p_click * sigmoid(long_level[e] + a), or p_click where the video is so short that a click
                  is a long view

The ceiling, 1 / (1 + planted_lift) where the lift is positive, keeps every probability at most 1, so that the
planted lift is exact for each video. `generator_fit` finds the levels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from armlift.logs import published
from armlift.logs.generator_world import Bools, Catalogue, Floats, Ints, Population

STANDARD, RANDOM = 0, 1
"""Kinds of exposure, as `is_rand` has them."""

# Up to 7 s a click needs the whole video, which is a long view; one more millisecond leaves no room between.
SHORT_MS = 7_001
# Tabs whose published click rate is under a quarter show a grid in which a click is a tap (our reading: the
# logs do not say which tabs do).
GRID_TABS = published.TAB_CLICK_RATES[STANDARD] < 0.25


@dataclass(frozen=True)
class Response:
    """The fitted model: `levels` float64 [2, 15] by kind and tab, `long_levels` float64 [2] by kind."""

    sharpness: float
    levels: Floats
    long_levels: Floats
    ceiling: float
    lift: float

    def click(self, affinity: Floats, kind: Ints, tab: Ints, planted: Bools) -> Floats:
        """Give each impression's probability of a click, float64 [n]."""
        chance: Floats = self.ceiling * expit(self.levels[kind, tab] + affinity)
        chance[planted] *= 1 + self.lift
        return chance

    def long_view(self, affinity: Floats, kind: Ints, tab: Ints, duration_ms: Ints) -> Floats:
        """Give each impression's probability of a long view given a click, float64 [n]."""
        chance: Floats = expit(self.long_levels[kind] + affinity)
        chance[(duration_ms <= SHORT_MS) & ~GRID_TABS[tab]] = 1.0
        return chance


def affinity_of(
    users: Ints, videos: Ints, population: Population, catalogue: Catalogue, gains: Floats
) -> Floats:
    """Give the affinity of user and video pairs in log odds, float64 [n]; `gains` is float64 [U, C]."""
    taste = np.take(gains, users * gains.shape[1] + catalogue.category[videos])
    affinity: Floats = population.readiness[users] + taste + catalogue.quality[videos]
    return affinity
