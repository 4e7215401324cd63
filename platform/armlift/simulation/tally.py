"""What simulated users did, as the rows that the rollup would make of their events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.events import IMPRESSION_KIND
from armlift.metric import Metric, cuped_of, measures
from armlift.rollup_rows import Asked, asked_of, asks_of
from armlift.simulation.draws import Floats, Ints
from armlift.simulation.response import ACTIONS, Response
from armlift.simulation.traffic import NEVER, Traffic

Row = tuple[str, str, str, int, str, str, str, float, float, float]
"""A row of `unit_days`."""
EVENTS, TOTAL, SQUARES = range(3)


class _Past(NamedTuple):
    """Events of one thing asked for before anybody was exposed: whose, when, and their values, arrays [n]."""

    asked: int
    rows: Ints
    ts: Ints
    values: Floats


class Tally:
    """Adds up a block of users, day by day and for everything that the metrics ask for.

    `edges` (UTC milliseconds) are the first moments of the days and the end of the last; `first_day` numbers
    them. Memory is three numbers for each user, day, side and thing asked for, and the events before exposure
    of those things that metrics are adjusted by.
    """

    def __init__(
        self, metrics: Mapping[str, Metric], edges: Sequence[int], first_day: int, users: int
    ) -> None:
        self._metrics = metrics
        self._edges = np.asarray(edges)
        self._first_day = first_day
        self._asked = asked_of(metrics)
        days = len(edges) - 1
        self._sums = np.zeros((2, users, days, len(self._asked), 3))
        self._past: list[_Past] = []

    def add(self, rows: Ints, response: Response, traffic: Traffic) -> None:
        """Count what users `rows` [n] did with a slate each."""
        kinds: dict[str, tuple[Any, ...]] = {}
        for one, number in self._asked.items():
            if one.kind not in kinds:
                kinds[one.kind] = _events_of(one.kind, response)
            who, slot, values = kinds[one.kind]
            values, keep = _within(one, values)
            if len(values):
                self._count(number, one, rows[who[keep]], response.ts[who[keep], slot[keep]], values, traffic)

    def _count(self, number: int, one: Asked, rows: Ints, ts: Ints, values: Floats, traffic: Traffic) -> None:
        exposed = traffic.exposed[rows]
        past = ts < exposed
        if past.any() and one.before is not None:
            self._past.append(_Past(number, rows[past], ts[past], values[past]))
        self._add(1, number, one, rows[~past], ts[~past], values[~past], exposed[~past])

    def _add(
        self, side: int, number: int, one: Asked, rows: Ints, ts: Ints, values: Floats, exposed: Ints
    ) -> None:
        day = np.searchsorted(self._edges, ts, side="right") - 1
        keep = (day >= 0) & (day < len(self._edges) - 1)
        if one.after is not None:
            keep &= ts - exposed < one.after
        if one.before is not None:
            keep &= exposed - ts <= one.before
        if one.day is not None:
            keep &= day - (np.searchsorted(self._edges, exposed, side="right") - 1) == one.day
        sums = self._sums[side, :, :, number]
        at = (rows[keep], day[keep].astype(np.int64))
        for place, what in (
            (EVENTS, np.ones(int(keep.sum()))),
            (TOTAL, values[keep]),
            (SQUARES, values[keep] ** 2),
        ):
            np.add.at(sums[:, :, place], at, what)

    def rows(
        self, run: str, experiment: str, units: Sequence[str], traffic: Traffic, arms: Sequence[str]
    ) -> Iterator[Row]:
        """Give the rows of `unit_days` of the users that were exposed."""
        by_number = {number: one for one, number in self._asked.items()}
        for past in self._past:
            exposed = traffic.exposed[past.rows]
            met = exposed != NEVER
            self._add(
                0,
                past.asked,
                by_number[past.asked],
                past.rows[met],
                past.ts[met],
                past.values[met],
                exposed[met],
            )
        self._past.clear()
        met = traffic.exposed != NEVER
        for name, metric in self._metrics.items():
            parts = {
                column: (self._asked[one], measures(metric)[column].aggregate)
                for column, one in asks_of(metric).items()
            }
            for side, word in enumerate(("pre", "post")):
                if word == "pre" and cuped_of(metric) is None:
                    continue
                sums = self._sums[side]
                some = np.zeros(sums.shape[:2], dtype=np.bool_)
                for number, _ in parts.values():
                    some |= sums[:, :, number, EVENTS] > 0
                user, day = np.nonzero(some & met[:, None])
                values = {
                    column: _taken(sums[user, day, number], how) for column, (number, how) in parts.items()
                }
                num, den = values["num"], values.get("den", np.zeros(len(user)))
                squares = sums[user, day, parts["num"][0], SQUARES]
                for u, d, n, m, s in zip(
                    user.tolist(), day.tolist(), num.tolist(), den.tolist(), squares.tolist(), strict=True
                ):
                    yield (
                        run, experiment, units[u], self._first_day + d, name, word,
                        arms[traffic.arm[u]], n, m, s,
                    )  # fmt: skip


def _events_of(kind: str, response: Response) -> tuple[Ints, Ints, Floats]:
    """Find the events of a kind in slates: row and slot of each, and its value."""
    if kind == IMPRESSION_KIND:
        there: npt.NDArray[np.bool_] = response.shown
    elif kind == "click":
        there = response.click
    elif kind == "long_view":
        there = response.long_view
    elif kind == "play":
        there = response.play > 0
    elif kind in ACTIONS:
        there = response.action == ACTIONS.index(kind)
    else:
        there = np.zeros_like(response.shown)
    row, slot = np.nonzero(there)
    return row, slot, response.play[row, slot] if kind == "play" else np.ones(len(row))


def _within(one: Asked, values: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Keep the values within what is asked for; tells which."""
    keep = np.ones(len(values), dtype=np.bool_)
    if one.low is not None:
        keep &= values >= one.low
    if one.high is not None:
        keep &= values <= one.high
    return values[keep], keep


def _taken(sums: Floats, aggregate: str) -> Floats:
    """Take what a measure is of from sums, float64 [n, 3]."""
    if aggregate == "sum":
        return sums[:, TOTAL]
    events: Floats = sums[:, EVENTS]
    return np.minimum(events, 1.0) if aggregate == "days" else events
