"""A block of simulated users: who they are, what they like now, and when they come."""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from armlift.arm import Behaviour
from armlift.hashing import Keys
from armlift.logs import published
from armlift.logs.generator_world import (
    READINESS_ROW_CORRELATION,
    ROW_SPREAD,
    SESSION_SHAPE,
    TASTE_WEIGHTS,
)
from armlift.simulation.attributes import Population, Row
from armlift.simulation.draws import Floats, Ints, Purpose, draw, keys_of_users, occasion
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.world import World

MOST_SESSIONS = 36
REST_MS = published.SESSION_GAP_MS + 60_000
"""Between sessions of a user; a little over the gap that ends one."""
_TABS = np.cumsum(published.TAB_SHARES[0]) / published.TAB_SHARES[0].sum()
_TINY = 1e-12


@dataclass
class Users:
    """Users `first` to `first` + n - 1 and their state, arrays [n]; tastes are categories [n, 6], best liked
    first.

    `readiness` is in log odds, `sessions` a day and `rows` a session are means; `satisfaction` is the share
    of long views lately; `clock` (UTC milliseconds) says until when a user is busy; `tab` is the one it is
    in; `repeats` [n, V] counts how often a video was shown to a user.
    """

    first: int
    keys: Keys
    readiness: Floats
    sessions: Floats
    rows: Floats
    tastes: npt.NDArray[np.int16]
    satisfaction: Floats
    clock: Ints
    tab: Ints
    repeats: npt.NDArray[np.uint8]
    attributes: list[Row]
    histories: list[deque[Behaviour]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def draw(
        cls, settings: SimulationSettings, world: World, population: Population, seed: int, first: int,
        count: int, limit: int,
    ) -> "Users":  # fmt: skip
        """Draw a block of users, the same whatever blocks there are; histories keep `limit` behaviours."""
        keys = keys_of_users(seed, first, count)
        activity = draw(keys, Purpose.SESSIONS_OF_USER)
        often = (-np.log1p(-activity)) ** (1 / SESSION_SHAPE)
        row_score = _normal(draw(keys, Purpose.ROWS_OF_USER))
        own = math.sqrt(1 - READINESS_ROW_CORRELATION**2) * _normal(draw(keys, Purpose.READINESS))
        shares = np.cumsum(world.taste_shares)
        places = range(len(TASTE_WEIGHTS))
        tastes = [_pick(shares, draw(keys, Purpose.TASTE, place)) for place in places]
        return cls(
            first=first,
            keys=keys,
            readiness=settings.user_spread * (READINESS_ROW_CORRELATION * row_score + own),
            sessions=settings.sessions_per_day * often / math.gamma(1 + 1 / SESSION_SHAPE),
            rows=1 + (settings.rows_per_session - 1) * np.exp(ROW_SPREAD * row_score - ROW_SPREAD**2 / 2),
            tastes=np.stack(tastes, axis=1).astype(np.int16),
            satisfaction=np.full(count, published.LONG_VIEW_STANDARD),
            clock=np.full(count, np.iinfo(np.int64).min // 2),
            tab=np.full(count, published.TAB_MAIN),
            repeats=np.zeros((count, world.videos), dtype=np.uint8),
            attributes=population.of(activity),
            histories=[deque(maxlen=limit) for _ in range(count)],
        )

    def gains(self, rows: Ints, world: World, strength: float) -> Floats:
        """Give what each category adds to the log odds of a click of users `rows` [n], float64 [n, C]."""
        gains = np.zeros((len(rows), world.categories))
        at = np.arange(len(rows))
        for place, weight in enumerate(TASTE_WEIGHTS):
            gains[at, self.tastes[rows, place]] += strength * weight
        return gains

    def show(self, rows: Ints, videos: Ints) -> None:
        """Count a video that is shown to each of some users; rows stand once."""
        self.repeats[rows, videos] = np.minimum(self.repeats[rows, videos], 254) + 1

    def begin_day(
        self, settings: SimulationSettings, world: World, day: int, weekday: int, start: int, length: int
    ) -> tuple[Ints, Ints]:
        """Let tastes drift and draw a day's sessions: how many, int64 [n], and when they begin, [n, most].

        `day` counts from the first one of the experiment, `weekday` from Monday; `start` (UTC milliseconds)
        and `length` are those of the day. Beginnings ascend; those of sessions a user does not have come
        last.
        """
        when = occasion(day)
        shares = np.cumsum(world.taste_shares)
        for place in range(self.tastes.shape[1]):
            drifts = np.flatnonzero(draw(self.keys, Purpose.DRIFT, when | place) < settings.taste_drift)
            drawn = draw(self.keys[drifts], Purpose.DRIFTED, when | place)
            self.tastes[drifts, place] = _pick(shares, drawn)
        content = self.satisfaction - published.LONG_VIEW_STANDARD
        mean = self.sessions * settings.weekdays[weekday] * np.exp(settings.loyalty * content)
        counts = _poisson(mean, draw(self.keys, Purpose.SESSIONS, when))
        hours = np.cumsum(world.hours)
        begins = np.full((len(self), int(counts.max(initial=0))), np.iinfo(np.int64).max)
        for number in range(begins.shape[1]):
            come = np.flatnonzero(counts > number)
            hour = _pick(hours, draw(self.keys[come], Purpose.START, when | number))
            minute = draw(self.keys[come], Purpose.MINUTE, when | number)
            begins[come, number] = start + ((hour + minute) / 24 * length).astype(np.int64)
        begins.sort(axis=1)
        return counts, begins

    def begin_session(self, rows: Ints, day: int, session: int) -> None:
        """Let users enter one of the app's tabs."""
        self.tab[rows] = _pick(_TABS, draw(self.keys[rows], Purpose.TAB, occasion(day, session)))


def _normal(chance: Floats) -> Floats:
    values: Floats = ndtri(np.clip(chance, _TINY, 1 - _TINY))
    return values


def _pick(shares: Floats, chance: Floats) -> Ints:
    """Pick by cumulative shares: the number of the first that exceeds each chance."""
    return np.minimum(np.searchsorted(shares, chance, side="right"), len(shares) - 1)


def _poisson(mean: Floats, chance: Floats) -> Ints:
    """Give the quantile of Poisson's distribution at a chance, at most MOST_SESSIONS, int64 [n]."""
    counts = np.zeros(len(mean), dtype=np.int64)
    mass = np.exp(-mean)
    below = mass.copy()
    for number in range(1, MOST_SESSIONS + 1):
        beyond = chance >= below
        if not beyond.any():
            break
        counts[beyond] = number
        mass = mass * mean / number
        below += mass
    return counts
