"""The world simulated users live in: videos, what follows what, and how the app's own policy shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from armlift.logs import published
from armlift.logs.generator_settings import GeneratorSettings
from armlift.logs.generator_world import Catalogue, Floats, Ints, catalogue_of, category_shares
from armlift.simulation.settings import SimulationSettings

Names = list[str]

RATES = {
    "like": 0.042,
    "follow": 0.007,
    "comment": 0.013,
    "forward": 0.006,
    "profile_enter": 0.0625,
    "hate": 0.0012,
}
"""How often each action follows a long view, and hate any other impression: see `generator_day`."""


def followers(seed: int, categories: int) -> Ints:
    """Draw which category follows each one, all in one circle: int64 [C]."""
    circle = np.random.default_rng([seed, 9]).permutation(categories)
    follower = np.empty_like(circle)
    follower[circle] = np.roll(circle, -1)
    return follower


@dataclass(frozen=True)
class World:
    """The videos (arrays [V], see `Catalogue`) and their ids, and the category that follows each one, int64
    [C].

    `taste_shares`, float64 [C], says how often a taste is of each category, `hours`, float64 [24], when users
    come, and `rates` how often an action follows a long view, or for `hate` anything else.
    """

    ids: Names
    catalogue: Catalogue
    follower: Ints
    taste_shares: Floats
    hours: Floats
    rates: Mapping[str, float]

    @classmethod
    def of(cls, settings: SimulationSettings) -> "World":
        """Draw a world; only the settings that describe videos matter."""
        same = {"catalogue_seed", "videos", "taste_categories", "popularity_exponent"}
        generator = GeneratorSettings(**settings.model_dump(include=same), planted_share=0.0)
        width = len(str(settings.videos - 1))
        ids = [f"{video:0{width}d}" for video in range(settings.videos)]
        return cls(
            ids,
            catalogue_of(generator),
            followers(settings.catalogue_seed, settings.taste_categories),
            category_shares(generator),
            published.HOUR_SHARES,
            RATES,
        )

    @property
    def videos(self) -> int:
        """Count the videos."""
        return len(self.catalogue.category)

    @property
    def categories(self) -> int:
        """Count the categories."""
        return len(self.follower)

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Find a video by its name."""
        return {name: video for video, name in enumerate(self.ids)}


class AppPolicy:
    """The app's own policy: it favours popular videos of categories that the user likes now.

    It shows video v to user u with probability proportional to

        popularity(v) * exp(sharpness * (taste(u, category(v)) + quality(v))),

    the logging policy of generated logs; with replacement over pages, without within one as far as redraws
    reach. `sharpness` 0 and `uniform` give uniform draws.
    """

    def __init__(self, world: World, sharpness: float, *, uniform: bool = False) -> None:
        catalogue = world.catalogue
        self._sharpness = 0.0 if uniform else sharpness
        self._order = np.argsort(catalogue.category, kind="stable")
        weights = (
            np.ones(world.videos) if uniform else catalogue.popularity * np.exp(sharpness * catalogue.quality)
        )
        weights = weights[self._order]
        sizes = np.bincount(catalogue.category, minlength=world.categories)
        self._end = np.cumsum(sizes)
        self._first = self._end - sizes
        self._within = np.cumsum(weights)
        self._mass = np.bincount(catalogue.category[self._order], weights, minlength=world.categories).astype(
            np.float64
        )
        self._mass_end = np.cumsum(self._mass)
        self._log_mass = np.log(self._mass, out=np.full(world.categories, -np.inf), where=self._mass > 0)

    def choose(self, gains: Floats, category_chance: Floats, video_chance: Floats) -> Ints:
        """Choose k videos for each of n users, int64 [n, k].

        `gains` is what each category adds to a user's log odds, float64 [n, C]; the chances are uniform
        numbers, float64 [n, k].
        """
        weights = np.exp(self._sharpness * gains + self._log_mass)
        ends = np.cumsum(weights, axis=1)
        point = category_chance * ends[:, -1:]
        category = (ends[:, None, :] <= point[:, :, None]).sum(axis=2)
        category = np.minimum(category, ends.shape[1] - 1)
        place = np.searchsorted(
            self._within, self._mass_end[category] - video_chance * self._mass[category], side="right"
        )
        videos: npt.NDArray[np.int64] = self._order[
            np.clip(place, self._first[category], self._end[category] - 1)
        ]
        return videos
