"""One day of a generated log: who was there, what was shown, what they did, and when."""

from dataclasses import dataclass

import numpy as np

from armlift.logs import published
from armlift.logs.generator_policy import Policy, show
from armlift.logs.generator_response import (
    GRID_TABS,
    RANDOM,
    STANDARD,
    Response,
    affinity_of,
)
from armlift.logs.generator_settings import GeneratorSettings
from armlift.logs.generator_world import Bools, Catalogue, Floats, Ints, Population
from armlift.logs.log import SYNTHETIC_USERS_FROM

VALID_PLAY_MS, LONG_PLAY_MS = 7_000, 18_000
"""The rules of is_click (outside grids) and long_view, for videos at least so long."""

HOUR_MS = 3_600_000
_PLAY_MAX_MS = 1_500_000
_SESSIONS_MAX = 36
# Between sessions of a user; a little over the gap that ends one.
_REST_MS = published.SESSION_GAP_MS + 60_000
# The mean number of rows a user stays in one tab.
_TAB_STAY = 12
# `hourmin` and `date` lag the clock: in the published 27K rows the slot is that of a moment some 10 minutes
# after `time_ms`, which puts 18 % of rows one hour ahead and 0.7 % one day.
_SLOT_DELAY_MS, _SLOT_DELAY_SPREAD = 600_000, 0.4
# Actions follow long views at nearly one rate in both published logs: positive interactions 6.6 % (random)
# and 6.7 % (standard) of long views, profile visits 6.5 % and 6.0 %; hates are 0.12 % of the other
# impressions in both. How positive interactions divide among the four kinds is our choice.
_ON_LONG_VIEW = {
    "is_like": 0.042,
    "is_comment": 0.013,
    "is_follow": 0.007,
    "is_forward": 0.006,
    "is_profile_enter": 0.0625,
}
_HATE_OTHERWISE = 0.0012
_COMMENTS_OPENED = 0.15


@dataclass(frozen=True)
class World:
    """All that stays the same from day to day."""

    settings: GeneratorSettings
    catalogue: Catalogue
    population: Population
    response: Response


@dataclass(frozen=True)
class Shown:
    """Impressions by user and session, arrays [n]; `owners` and `lengths` of sessions are [sessions]."""

    owners: Ints
    lengths: Ints
    users: Ints
    videos: Ints
    kind: Ints
    tab: Ints


@dataclass(frozen=True)
class Outcomes:
    """What happened on each impression, arrays [n], and the probabilities it was drawn with."""

    p_click: Floats
    p_long_view: Floats
    click: Bools
    long_view: Bools
    play_ms: Ints


def day_of(
    world: World, gains: Floats, rng: np.random.Generator, start: int, length: int, dates: tuple[int, int]
) -> tuple[dict[str, Ints], dict[str, Floats]]:
    """Generate one day: the log's 19 columns and the two of the truth, all in time order.

    `gains` is what categories add for each user today, float64 [U, C]; `start` is the day's first millisecond
    (UTC) and `length` its milliseconds; `dates` are today and tomorrow as YYYYMMDD.
    """
    shown = _shown(world, gains, rng)
    outcomes = _outcomes(world, gains, rng, shown)
    ts = start + _times(rng, shown, outcomes.play_ms, length)
    order = np.argsort(ts, kind="stable")
    columns = {
        "user_id": SYNTHETIC_USERS_FROM + shown.users,
        "video_id": shown.videos,
        **_slots(rng, ts - start, dates),
        "time_ms": ts,
        "is_click": outcomes.click,
        **_actions(rng, outcomes),
        "long_view": outcomes.long_view,
        "play_time_ms": outcomes.play_ms,
        "duration_ms": world.catalogue.logged_ms[shown.videos],
        "is_rand": shown.kind,
        "tab": shown.tab,
    }
    log = {name: column[order].astype(np.int64) for name, column in columns.items()}
    return log, {"p_click": outcomes.p_click[order], "p_long_view": outcomes.p_long_view[order]}


def _shown(world: World, gains: Floats, rng: np.random.Generator) -> Shown:
    """Draw sessions of users, and what each shows in which tab."""
    settings, population = world.settings, world.population
    counts = np.minimum(rng.poisson(population.sessions), _SESSIONS_MAX)
    owners = np.repeat(np.arange(settings.users), counts)
    lengths = 1 + rng.poisson((population.rows[owners] - 1) * rng.standard_exponential(len(owners)))
    random = rng.random(int(lengths.sum())) < settings.random_share
    policy = Policy(world.catalogue, gains, world.response.sharpness)
    return Shown(
        owners=owners,
        lengths=lengths,
        users=np.repeat(owners, lengths),
        videos=show(rng, policy, owners, lengths, random, settings.pool),
        kind=np.where(random, RANDOM, STANDARD),
        tab=_tabs(rng, lengths, random),
    )


def _tabs(rng: np.random.Generator, lengths: Ints, random: Bools) -> Ints:
    """Draw the tab of each row: users stay in one for a while; random rows fall into theirs by themselves."""
    rows = len(random)
    moves = rng.random(rows) < 1 / _TAB_STAY
    moves[(np.cumsum(lengths) - lengths)] = True
    stay = np.cumsum(moves) - 1
    tab: Ints = _draw_tabs(rng, STANDARD, int(moves.sum()))[stay]
    tab[random] = _draw_tabs(rng, RANDOM, int(random.sum()))
    return tab


def _draw_tabs(rng: np.random.Generator, kind: int, count: int) -> Ints:
    cumulative = np.cumsum(published.TAB_SHARES[kind])
    return np.searchsorted(cumulative / cumulative[-1], rng.random(count), side="right")


def _outcomes(world: World, gains: Floats, rng: np.random.Generator, shown: Shown) -> Outcomes:
    """Draw what users did with what they were shown."""
    catalogue, response = world.catalogue, world.response
    affinity = affinity_of(shown.users, shown.videos, world.population, catalogue, gains)
    duration = catalogue.duration_ms[shown.videos]
    p_click = response.click(affinity, shown.kind, shown.tab, catalogue.planted[shown.videos])
    p_long_given = response.long_view(affinity, shown.kind, shown.tab, duration)
    click = rng.random(len(p_click)) < p_click
    long_view = click & (rng.random(len(p_click)) < p_long_given)
    play = _play(rng, click, long_view, GRID_TABS[shown.tab], duration)
    return Outcomes(p_click, p_click * p_long_given, click, long_view, play)


def _play(rng: np.random.Generator, click: Bools, long_view: Bools, grid: Bools, duration: Ints) -> Ints:
    """Draw watch times, ms, that agree with the rules of click and long view, int64 [n]."""
    chance = rng.random(len(click))
    # Not clicked: nothing in a grid; elsewhere under both the video's end and the 7 s, 2.3 s in the median.
    glance = 2_300 * np.exp(0.5 * rng.standard_normal(len(click)))
    play = np.where(grid, 0, np.minimum(glance, np.minimum(duration, VALID_PLAY_MS) - 1))
    # Clicked, not long: over 7 s, or in a grid over nothing, and under both the video's end and the 18 s.
    brief = np.flatnonzero(click & ~long_view)
    low = np.where(grid[brief], 1, VALID_PLAY_MS + 1)
    high = np.minimum(duration[brief], LONG_PLAY_MS)
    play[brief] = low + chance[brief] * (high - low)
    long = np.flatnonzero(long_view)
    play[long] = _long_play(rng, chance[long], duration[long])
    return play.astype(np.int64)


def _long_play(rng: np.random.Generator, chance: Floats, duration: Ints) -> Floats:
    """Draw watch times, ms, of long views: all of short videos and a third of others reach the end."""
    ends = (duration <= LONG_PLAY_MS) | (chance < 1 / 3)
    replayed = duration * (1 + 0.1 * rng.standard_exponential(len(chance)))
    part = LONG_PLAY_MS + rng.random(len(chance)) ** 4 * (duration - LONG_PLAY_MS)
    return np.minimum(np.where(ends, replayed, part), _PLAY_MAX_MS)


def _actions(rng: np.random.Generator, outcomes: Outcomes) -> dict[str, Ints]:
    """Draw likes and the like, and the time spent on profiles and comments (ms), int64 [n] each."""
    rows = len(outcomes.click)
    long = np.flatnonzero(outcomes.long_view)
    columns = {}
    for name, rate in _ON_LONG_VIEW.items():
        columns[name] = np.zeros(rows, dtype=np.int64)
        columns[name][long[rng.random(len(long)) < rate]] = 1
    columns["is_hate"] = (~outcomes.long_view & (rng.random(rows) < _HATE_OTHERWISE)).astype(np.int64)
    opened = columns["is_comment"].copy()
    opened[long[rng.random(len(long)) < _COMMENTS_OPENED]] = 1
    columns["profile_stay_time"] = _stay(rng, columns["is_profile_enter"], 8_000)
    columns["comment_stay_time"] = _stay(rng, opened, 5_000)
    return columns


def _stay(rng: np.random.Generator, happened: Ints, median_ms: int) -> Ints:
    """Draw log-normal times, ms, where something happened; 0 elsewhere."""
    rows = np.flatnonzero(happened)
    stay = np.zeros(len(happened), dtype=np.int64)
    stay[rows] = (median_ms * np.exp(0.8 * rng.standard_normal(len(rows)))).astype(np.int64)
    return stay


def _times(rng: np.random.Generator, shown: Shown, play_ms: Ints, length: int) -> Ints:
    """Draw the millisecond of the day of each row: a row comes when the one before has been played."""
    pause = play_ms + 300 + (1_200 * rng.standard_exponential(len(play_ms))).astype(np.int64)
    elapsed = np.cumsum(pause) - pause
    first = np.cumsum(shown.lengths) - shown.lengths
    elapsed -= np.repeat(elapsed[first], shown.lengths)
    lasts = elapsed[first + shown.lengths - 1]
    # Users who look at more than a day holds look faster.
    sessions = np.bincount(shown.owners)
    room = length - 1 - _REST_MS * sessions
    busy = np.bincount(shown.owners, lasts)
    haste = np.minimum(1.0, np.divide(room, busy, out=np.ones(len(busy)), where=busy > 0))[shown.owners]
    elapsed = (elapsed * np.repeat(haste, shown.lengths)).astype(np.int64)
    lasts = elapsed[first + shown.lengths - 1]
    starts, order = _starts(rng, shown.owners, lasts, length)
    placed = np.empty_like(starts)
    placed[order] = starts
    times: Ints = np.repeat(placed, shown.lengths) + elapsed
    return times


def _starts(rng: np.random.Generator, owners: Ints, lasts: Ints, length: int) -> tuple[Ints, Ints]:
    """Place sessions of `lasts` ms in the day, with a rest between two of one user.

    Middles fall by the published hours. Where that leaves too little rest, sessions are moved apart, half of
    them forward and half back. Returns starts in ms of the day, and the order (of owner, then start) they are
    in.
    """
    hours = np.searchsorted(np.cumsum(published.HOUR_SHARES), rng.random(len(owners)), side="right")
    middle = ((np.minimum(hours, 23) + rng.random(len(owners))) / 24 * length).astype(np.int64)
    latest = length - 1 - lasts
    # What would begin before the day or end after it is mirrored at that end.
    starts = np.abs(middle - lasts // 2)
    starts = np.where(starts > latest, np.maximum(2 * latest - starts, 0), starts)
    order = np.lexsort((starts, owners))
    owner, need = owners[order], lasts[order] + _REST_MS
    before = np.cumsum(need) - need
    begins = np.diff(owner, prepend=-1) > 0
    before -= before[begins][np.cumsum(begins) - 1]
    # With the rests taken out, starts of a user must only not decrease, and leave room for what follows.
    slack = starts[order] - before
    span = 8 * length
    forward = np.maximum.accumulate(slack + owner * span) - owner * span
    back = np.minimum.accumulate((slack + owner * span)[::-1])[::-1] - owner * span
    room = length - 1 + _REST_MS - np.bincount(owner, need).astype(np.int64)[owner]
    return np.clip((forward + back) // 2, 0, room) + before, order


def _slots(rng: np.random.Generator, since: Ints, dates: tuple[int, int]) -> dict[str, Ints]:
    """Give `date` and `hourmin` as the published logs have them: of a moment some minutes after the row's."""
    delay = _SLOT_DELAY_MS * np.exp(_SLOT_DELAY_SPREAD * rng.standard_normal(len(since)))
    hour = (since + delay.astype(np.int64)) // HOUR_MS
    tomorrow = hour >= 24
    return {"date": np.where(tomorrow, dates[1], dates[0]), "hourmin": np.where(tomorrow, 0, hour) * 100}
