"""What a generated log shows: the logging policy, and random exposure."""

import numpy as np

from armlift.logs.generator_world import Bools, Catalogue, Floats, Ints

# A draw that the session has shown already is drawn anew at most so often.
_REDRAWS = 6


class Policy:
    """The logging policy of one day: it favours popular videos that the user likes.

    It shows video v to user u with probability proportional to

        popularity(v) * exp(sharpness * affinity(u, v)).

    Given the category, v does not depend on u, so that a draw is two look-ups. `gains` is float64 [U, C].
    """

    def __init__(self, catalogue: Catalogue, gains: Floats, sharpness: float) -> None:
        self._categories = gains.shape[1]
        self._order = np.argsort(catalogue.category, kind="stable")
        weights = (catalogue.popularity * np.exp(sharpness * catalogue.quality))[self._order]
        mass = np.bincount(catalogue.category[self._order], weights, minlength=self._categories).astype(
            np.float64
        )
        sizes = np.bincount(catalogue.category, minlength=self._categories)
        self._end = np.cumsum(sizes)
        self._first = self._end - sizes
        self._within = np.cumsum(weights)
        self._mass_end = np.cumsum(mass)
        self._mass = mass
        self._gains = gains
        self._chances = _chances(sharpness * gains, mass)
        self._by_user = _cumulative_by_user(self._chances)

    def mean_gains(self) -> Floats:
        """Give what tastes add to a user's log odds of a click in the mean of draws, float64 [U]."""
        gains: Floats = (self._chances * self._gains).sum(axis=1)
        return gains

    def draw(self, rng: np.random.Generator, users: Ints) -> Ints:
        """Draw a video for each of `users`, int64 [n]."""
        flat = np.searchsorted(self._by_user, users + rng.random(len(users)), side="right")
        category = flat - users * self._categories
        point = self._mass_end[category] - rng.random(len(users)) * self._mass[category]
        place = np.searchsorted(self._within, point, side="right")
        videos: Ints = self._order[np.clip(place, self._first[category], self._end[category] - 1)]
        return videos


def _chances(gains: Floats, mass: Floats) -> Floats:
    """Give each user's chances of each category, float64 [U, C], in proportion to mass * exp(gain)."""
    chances: Floats = np.exp(gains - gains.max(axis=1, keepdims=True)) * mass
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def _cumulative_by_user(chances: Floats) -> Floats:
    """Give user u's cumulative chances of each category plus u, end to end, so that one search serves all."""
    cumulative = np.cumsum(chances, axis=1)
    # From the last category with any video on, exactly 1: no draw can fall behind it.
    cumulative[:, np.flatnonzero(chances.max(axis=0))[-1] :] = 1.0
    cumulative += np.arange(len(chances))[:, None]
    return cumulative.ravel()


def show(
    rng: np.random.Generator, policy: Policy, users: Ints, lengths: Ints, random: Bools, pool: int
) -> Ints:
    """Draw the videos of sessions, int64 [n], n = sum(lengths).

    `users` and `lengths` are int64 [sessions]; `random` is bool [n], True where the video is a uniform draw
    of the first `pool`. No video is shown twice in a session unless redraws fail, as they must in a tiny
    catalogue.
    """
    user = np.repeat(users, lengths)

    def draw(rows: Ints | slice) -> Ints:
        at_random = random[rows]
        videos = np.empty(len(at_random), dtype=np.int64)
        videos[at_random] = rng.integers(0, pool, int(at_random.sum()))
        videos[~at_random] = policy.draw(rng, user[rows][~at_random])
        return videos

    videos = draw(slice(None))
    if len(videos) == 0:
        return videos
    session = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    place = np.arange(len(user)) - first[session]
    for _ in range(_REDRAWS):
        again = _repeats(session, videos, place, random, first)
        if len(again) == 0:
            break
        videos[again] = draw(again)
    return videos


def _repeats(session: Ints, videos: Ints, place: Ints, random: Bools, first: Ints) -> Ints:
    """Find the rows to draw anew, int64: all but one of each session and video, by one sort.

    The one kept is a random row if there is one, then the earliest: what the policy shows must not bear on
    which videos random exposure reaches, or it would not be uniform.
    """
    bits = int(place.max()).bit_length()
    stride = int(videos.max()) + 1
    keys = np.sort(((session * stride + videos) << (bits + 1)) | (~random).astype(np.int64) << bits | place)
    pairs = keys >> (bits + 1)
    repeated = keys[1:][pairs[1:] == pairs[:-1]]
    rows: Ints = first[(repeated >> (bits + 1)) // stride] + (repeated & ((1 << bits) - 1))
    return rows
