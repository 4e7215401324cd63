"""Play times: how long an item is watched, given what else happened and how long it is.

They are drawn from quantiles of what the log shows, by outcome (neither, click, long view) and by length. A
video up to 18 s is a long view when it is watched to its end (see `kuairec.long_view`): there the quantiles
are of the share watched; elsewhere of the seconds. So what is drawn agrees with the outcome wherever the log
does. Where no row tells of an outcome at a length, those of all lengths up to 18 s, or of all others, do.
"""

from dataclasses import dataclass

import numpy as np

from armlift.logs.rows import Floats, Ints, Rows

EDGES = (7.0, 18.0, 60.0, 180.0)
"""Lengths (seconds) that part the classes; then come longer ones, and at last those not known."""
SHORT = 2
"""So many classes are of videos whose share watched decides over a long view."""
CLASSES = len(EDGES) + 2
NEITHER, CLICKED, LONG = 0, 1, 2
POINTS = 201


@dataclass(frozen=True, eq=False)
class PlayTimes:
    """Quantiles of play times, float64 [outcomes 3, classes 6, points]: shares up to 18 s, else seconds.

    `durations` holds each item's length in seconds, float64 [items], NaN where unknown. `least` and `most`
    are the seconds seen, float64 [3, 6].
    """

    durations: Floats
    quantiles: Floats
    least: Floats
    most: Floats

    def seconds(self, items: Ints, outcome: Ints, uniforms: Floats) -> Floats:
        """Draw play times, float64 [n], of items (places, -1 unknown) given outcomes and uniform numbers."""
        duration = np.append(self.durations, np.nan)[items]
        length = _classes(duration)
        at = uniforms * (POINTS - 1)
        low = at.astype(np.int64)
        below = self.quantiles[outcome, length, low]
        above = self.quantiles[outcome, length, np.minimum(low + 1, POINTS - 1)]
        drawn = below + (at - low) * (above - below)
        seconds = np.where(length < SHORT, drawn * duration, drawn)
        seconds = np.clip(seconds, self.least[outcome, length], self.most[outcome, length])
        # To the millisecond, as logs have it, and never up to an end that was not reached.
        found: Floats = np.where(outcome == LONG, seconds.round(3), np.floor(seconds * 1000) / 1000)
        return found


def play_times(rows: Rows, outcome: Ints) -> PlayTimes | None:
    """Measure the play times of rows by outcome, int [n]; None where the log does not know play times."""
    if "play" not in rows.feedback:
        return None
    play = rows.feedback["play"].astype(np.float64, copy=False)
    durations = _durations(rows)
    duration = durations[rows.item]
    length = _classes(duration)
    watched = np.where(length < SHORT, play / np.where(length < SHORT, duration, 1.0), play)
    quantiles = np.zeros((3, CLASSES, POINTS))
    least, most = np.zeros((3, CLASSES)), np.zeros((3, CLASSES))
    for what in (NEITHER, CLICKED, LONG):
        for place in range(CLASSES):
            own = np.flatnonzero((outcome == what) & (length == place))
            if not len(own):
                own = np.flatnonzero((outcome == what) & ((length < SHORT) == (place < SHORT)))
            if len(own):
                quantiles[what, place] = np.quantile(watched[own], np.linspace(0, 1, POINTS))
                least[what, place], most[what, place] = play[own].min(), play[own].max()
    return PlayTimes(durations, quantiles, least, most)


def _durations(rows: Rows) -> Floats:
    """Give each item's length: the longest that a row tells, NaN where none does."""
    found = np.full(len(rows.items), -np.inf)
    if rows.duration is not None:
        known = ~np.isnan(rows.duration)
        np.maximum.at(found, rows.item[known], rows.duration[known])
    return np.where(np.isinf(found), np.nan, found)


def _classes(duration: Floats) -> Ints:
    """Give the class of each length: up to each of `EDGES`, over the last, unknown."""
    return np.where(np.isnan(duration), CLASSES - 1, np.searchsorted(EDGES, duration))
