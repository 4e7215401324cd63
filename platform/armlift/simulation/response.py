"""How a simulated user responds to a slate, item after item.

With affinity a (log odds: readiness + taste + quality, less fatigue, plus what the arm adds), tab t and slot
j:

    P(click)            = (1 + j)^-position_bias * sigmoid(level + offset[t] + a)
    P(long view | click) = sigmoid(long_level + long_slope * a), or 1 where a click needs the whole of a short
    video P(leave after it)    = (1 / rows) * exp(-stay * (long view - its published rate))

A click moves the taste that it served on to the category that follows, with the chance `evolution`, so that
what comes later in the slate may already be wanted. `calibration` finds the levels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from armlift.logs import published
from armlift.logs.generator_day import LONG_PLAY_MS, VALID_PLAY_MS
from armlift.logs.generator_response import GRID_TABS, SHORT_MS
from armlift.logs.generator_world import TASTE_WEIGHTS
from armlift.simulation.draws import Floats, Ints, Purpose, draw_slots, occasion
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.users import Users
from armlift.simulation.world import World

Bools = npt.NDArray[np.bool_]

ACTIONS = ("like", "follow", "comment", "forward", "profile_enter", "hate")
KINDS = ("click", "long_view", "play", *ACTIONS)
"""What simulated users do, as feedback kinds."""
_PAUSE_MS, _PAUSE_MEAN_MS = 300, 1_200
_SATISFIED = 0.05  # what an item weighs in a user's satisfaction
_LONGEST_PLAY_MS = 1_500_000
_PLAY_STEP_MS = 1


@dataclass(frozen=True)
class Levels:
    """What calibration finds: see the formulas of this module; `sharpness` is the app policy's.

    `offsets`, float64 [tabs], are what a tab adds, 0 for the main one.
    """

    level: float
    long_level: float
    long_slope: float
    sharpness: float
    offsets: Floats


class Response(NamedTuple):
    """What n users did with slates of k: arrays [n, k]; rows are as the slates were.

    `shown` tells which items a user came to; nothing else is True where it is not. `play` is in seconds, `ts`
    (UTC milliseconds) when an item was shown. `action` numbers ACTIONS from 0; -1 is none. `affinity` is in
    log odds; `sure` tells where a click is a long view. `stays` [n] tells who asks for more, `end` [n] when
    the last item was left.
    """

    shown: Bools
    click: Bools
    long_view: Bools
    play: Floats
    action: npt.NDArray[np.int8]
    ts: Ints
    affinity: Floats
    sure: Bools
    stays: Bools
    end: Ints

    @classmethod
    def nothing(cls, n: int, k: int, now: Ints) -> "Response":
        """Begin with n slates of k that nobody has looked at."""
        no, zero = np.zeros((n, k), dtype=np.bool_), np.zeros((n, k))
        return cls(
            shown=no,
            click=no.copy(),
            long_view=no.copy(),
            play=zero,
            action=np.full((n, k), -1, dtype=np.int8),
            ts=np.zeros((n, k), dtype=np.int64),
            affinity=zero.copy(),
            sure=no.copy(),
            stays=np.zeros(n, dtype=np.bool_),
            end=now,
        )


class ResponseModel(NamedTuple):
    """How users respond in one world: its videos, its levels and the settings of its effects."""

    world: World
    levels: Levels
    settings: SimulationSettings

    def looks(self, k: int) -> Floats:
        """Give the chance that a user looks at each slot, float64 [k]."""
        return np.arange(1.0, k + 1) ** -self.settings.position_bias

    def respond(
        self, users: Users, rows: Ints, items: Ints, now: Ints, extra: Floats, page: tuple[int, int, int]
    ) -> Response:
        """Let the users `rows` [n] of a block look at slates of videos [n, k], -1 where there is none.

        `now` is when they are shown (UTC milliseconds [n]), `extra` what the arm adds to the log odds [n],
        `page` numbers day, session and page. What the users are left with (tastes, satisfaction, repeats) is
        changed.
        """
        catalogue, settings, levels = self.world.catalogue, self.settings, self.levels
        n, k = items.shape
        found = Response.nothing(n, k, now)
        left, stays = np.arange(n), items[:, 0] >= 0
        time = now.copy()
        base = levels.level + levels.offsets[users.tab[rows]]
        own = users.readiness[rows] + extra
        grid = GRID_TABS[users.tab[rows]]
        looks = self.looks(k)
        ends = np.cumsum([self.world.rates[kind] for kind in ACTIONS[:-1]])
        hates = self.world.rates["hate"]
        when = occasion(*page)
        luck = {one: draw_slots(users.keys[rows], one, when, k) for one in _LUCK}
        for slot in range(k):
            left = left[items[left, slot] >= 0]
            if not len(left):
                break
            who, video = rows[left], items[left, slot]
            chance = {one: numbers[left, slot] for one, numbers in luck.items()}
            category, duration = catalogue.category[video], catalogue.duration_ms[video]
            served = users.tastes[who] == category[:, None]
            affinity = own[left] + settings.taste_strength * (served @ _WEIGHTS) + catalogue.quality[video]
            affinity -= settings.fatigue * users.repeats[who, video]
            click = chance[Purpose.CLICK] < looks[slot] * expit(base[left] + affinity)
            long_chance = expit(levels.long_level + levels.long_slope * affinity)
            sure = (duration <= SHORT_MS) & ~grid[left]
            long_chance[sure] = 1.0
            long_view = click & (chance[Purpose.LONG_VIEW] < long_chance)
            play = _play(chance[Purpose.PLAY], click, long_view, grid[left], duration)
            found.shown[left, slot] = True
            found.click[left, slot] = click
            found.long_view[left, slot] = long_view
            found.play[left, slot] = play / 1_000
            found.action[left, slot] = _action(chance[Purpose.ACTION], long_view, ends, hates)
            found.ts[left, slot] = time[left]
            found.affinity[left, slot] = affinity
            found.sure[left, slot] = sure
            pause = -_PAUSE_MEAN_MS * np.log1p(-chance[Purpose.PAUSE])
            time[left] += (play + _PAUSE_MS + pause).astype(np.int64)
            self._move_on(users, who, category, served, click, chance[Purpose.EVOLUTION])
            users.show(who, video)
            users.satisfaction[who] += _SATISFIED * (long_view - users.satisfaction[who])
            leaves = np.exp(-settings.stay * (long_view - published.LONG_VIEW_STANDARD)) / users.rows[who]
            stays[left] = chance[Purpose.LEAVE] >= leaves
            left = left[stays[left]]
        return found._replace(stays=stays, end=time)

    def _move_on(
        self, users: Users, who: Ints, category: Ints, served: Bools, click: Bools, chance: Floats
    ) -> None:
        """Move tastes on that a click served."""
        moved = np.flatnonzero(click & (chance < self.settings.evolution) & served.any(axis=1))
        place = served[moved].argmax(axis=1)
        users.tastes[who[moved], place] = self.world.follower[category[moved]]


_WEIGHTS = np.array(TASTE_WEIGHTS)
_LUCK = (
    Purpose.CLICK, Purpose.LONG_VIEW, Purpose.PLAY, Purpose.ACTION, Purpose.PAUSE, Purpose.EVOLUTION,
    Purpose.LEAVE,
)  # fmt: skip


def _play(chance: Floats, click: Bools, long_view: Bools, grid: Bools, duration: Ints) -> Floats:
    """Give watch times, ms [n], that agree with the rules of click and long view."""
    # Not clicked: nothing in a grid; elsewhere under both the video's end and the 7 s.
    glance = np.where(grid, 0.0, chance * 0.65 * np.minimum(duration, VALID_PLAY_MS))
    # Clicked, not long: over 7 s, or in a grid over nothing, and under both the video's end and the 18 s.
    low = np.where(grid, _PLAY_STEP_MS, VALID_PLAY_MS + _PLAY_STEP_MS)
    brief = low + chance * np.maximum(np.minimum(duration, LONG_PLAY_MS) - low, 0)
    # Long: all of short videos and a third of others reach the end.
    part = LONG_PLAY_MS + (1.5 * chance - 0.5) ** 4 * np.maximum(duration - LONG_PLAY_MS, 0)
    whole = duration * (1 + 0.3 * chance)
    long = np.where((duration <= LONG_PLAY_MS) | (chance < 1 / 3), whole, part)
    play: Floats = np.where(long_view, np.minimum(long, _LONGEST_PLAY_MS), np.where(click, brief, glance))
    return np.floor(play)


def _action(chance: Floats, long_view: Bools, ends: Floats, hates: float) -> npt.NDArray[np.int8]:
    """Give at most one action of each impression: its number in ACTIONS, -1 for none.

    `ends` are the cumulative rates of what follows a long view, `hates` is that of hates otherwise.
    """
    positive = np.searchsorted(ends, chance, side="right")
    found = np.where(positive < len(ends), positive, -1)
    hate = np.where(chance < hates, ACTIONS.index("hate"), -1)
    return np.where(long_view, found, hate).astype(np.int8)
