"""An oracle that knows what simulated users like: what following the steps of their tastes could gain."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from armlift.arm import ArmConfig, Capability, Request, Slate
from armlift.logs.generator_world import TASTE_WEIGHTS
from armlift.logs.log import SYNTHETIC_USERS_FROM
from armlift.simulation.response import ResponseModel
from armlift.simulation.users import Users
from armlift.slates import seen_items
from armlift_arms.recgpt import shares

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_WEIGHTS = np.array(TASTE_WEIGHTS)


class Oracle:
    """Recall, step by step, the new videos that a user is most drawn to, as its tastes will be by then.

    A step ranks by one state, as a model's does. From a step to the next a taste that was served has moved on
    with the chance that its video is clicked, times `evolution`.
    """

    capabilities: frozenset[Capability] = frozenset()
    version = "oracle"

    def __init__(self, model: ResponseModel, recall: tuple[int, ...]) -> None:
        self.config = ArmConfig(name="oracle", model="oracle")
        self._model, self._recall = model, recall
        self._users: Users | None = None

    def meet(self, users: Users) -> None:
        """Look at the users who will ask."""
        self._users = users

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order."""
        if not requests or self._users is None:
            return []
        users = self._users
        rows = np.array([int(one.unit) - SYNTHETIC_USERS_FROM - users.first for one in requests])
        world = self._model.world
        met = np.zeros((len(rows), world.videos), dtype=np.bool_)
        for row, one in enumerate(requests):
            met[row, [world.index_of[item] for item in seen_items(one)]] = True
        items, steps = self._slates(users, rows, met, requests[0].k)
        ids = world.ids
        k = items.shape[1]
        return [
            Slate([ids[video] for video in slate], [0.0] * k, steps, [1.0] * k) for slate in items.tolist()
        ]

    def _slates(self, users: Users, rows: Ints, met: npt.NDArray[np.bool_], k: int) -> tuple[Ints, list[int]]:
        """Choose slates [n, k] of videos not `met` [n, V], and the step of each slot."""
        world, settings = self._model.world, self._model.settings
        catalogue, at = world.catalogue, np.arange(len(rows))
        # The chance that each taste is of each category, [n, tastes, C].
        tastes = np.zeros((len(rows), len(_WEIGHTS), world.categories))
        tastes[at[:, None], np.arange(len(_WEIGHTS)), users.tastes[rows]] = 1.0
        level = self._model.levels.level + self._model.levels.offsets[users.tab[rows]] + users.readiness[rows]
        fixed = np.where(met, -np.inf, catalogue.quality)
        looks = self._model.looks(k)
        items = np.empty((len(rows), k), dtype=np.int64)
        steps: list[int] = []
        for step, share in enumerate(shares(k, self._recall)):
            if not share:
                continue
            gains = settings.taste_strength * np.einsum("p,npc->nc", _WEIGHTS, tastes)
            affinity = fixed + gains[:, catalogue.category]
            best = np.argsort(-affinity, axis=1, kind="stable")[:, :share]
            for place in range(share):
                slot, video = len(steps), best[:, place]
                items[:, slot], fixed[at, video] = video, -np.inf
                steps.append(step)
                clicks = looks[slot] * expit(level + affinity[at, video])
                self._move_on(tastes, catalogue.category[video], clicks)
        return items, steps

    def _move_on(self, tastes: Floats, category: Ints, clicks: Floats) -> None:
        """Move tastes [n, tastes, C] on by how likely [n] a video of a category [n] is clicked."""
        at = np.arange(len(category))
        after = self._model.world.follower[category]
        first = clicks * self._model.settings.evolution  # that no taste before has been served
        for place in range(tastes.shape[1]):
            there = tastes[at, place, category]
            moved = first * there
            tastes[at, place, category] -= moved
            tastes[at, place, after] += moved
            first = first * (1.0 - there)
