"""Sessions: a unit's runs of impressions, cut where it paused.

Sessions are yielded in the order of their last row, as soon as the log's time has passed it by more than the
gap. No later row can then join or precede them, so memory holds only the sessions that are open, whatever the
length of the log; the order of first rows would have to wait for the longest session. Each unit's sessions
come in its own time order, and sessions of different units may overlap.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.logs.log import LogBatch

MEASURED = frozenset({"play", "rating"})
"""Kinds whose value is a measure; all others are 0 or 1 in a log."""


class LoggedImpression(NamedTuple):
    """An item the log shows, when (UTC milliseconds), and what the unit did with it.

    `random` tells whether the exposure was uniformly random, None if the log does not say. `feedback` has
    (kind, value) of each kind that happened: 1.0 for what is counted, then `play` in seconds.
    """

    item: str
    ts: int
    random: bool | None
    feedback: tuple[tuple[str, float], ...]


class Session(NamedTuple):
    """A unit's impressions in time order without a pause over the gap; there is at least one."""

    unit: str
    impressions: list[LoggedImpression]


_Placed = tuple[int, Session]
"""A session with the place of its last row in the log."""


def sessions(batches: Iterable[LogBatch], gap_ms: int, *, cut: int | None = None) -> Iterator[Session]:
    """Make sessions of batches in time order; the size of the batches makes no difference.

    A session ends where the unit's next impression comes more than `gap_ms` later, and at `cut` (UTC
    milliseconds): rows before it and rows from it on never share one. Sessions come by their last row.
    """
    opened: dict[str, _Placed] = {}
    rows = 0
    for batch in batches:
        if len(batch) == 0:
            continue
        now = int(batch.ts[-1])
        over = now - gap_ms
        if cut is not None and now >= cut:
            over = max(over, cut)
        closed = _advance(batch, rows, opened, gap_ms, cut)
        for unit in [unit for unit, (_, session) in opened.items() if session.impressions[-1].ts < over]:
            closed.append(opened.pop(unit))
        rows += len(batch)
        closed.sort(key=itemgetter(0))
        yield from map(itemgetter(1), closed)
    yield from map(itemgetter(1), sorted(opened.values(), key=itemgetter(0)))


def _advance(
    batch: LogBatch, rows: int, opened: dict[str, _Placed], gap_ms: int, cut: int | None
) -> list[_Placed]:
    """Put a batch, `rows` rows into the log, on the open sessions; give those that a later run has ended."""
    order = _by_unit(batch)
    ts = batch.ts[order]
    units = [batch.units[row] for row in order.tolist()]
    breaks = _breaks(units, ts, gap_ms, cut)
    impressions = _impressions(batch, order)
    lasts = (order[np.append(breaks[1:], len(ts)) - 1] + rows).tolist()
    starts = breaks.tolist()
    closed: list[_Placed] = []
    for start, stop, last in zip(starts, [*starts[1:], len(units)], lasts, strict=True):
        unit, run = units[start], impressions[start:stop]
        held = opened.get(unit)
        if held is not None:
            session = held[1]
            if _joins(session.impressions[-1].ts, run[0].ts, gap_ms, cut):
                session.impressions.extend(run)
                opened[unit] = last, session
                continue
            closed.append(held)
        opened[unit] = last, Session(unit, run)
    return closed


def _joins(earlier: int, later: int, gap_ms: int, cut: int | None) -> bool:
    """Tell whether an impression goes on with the session whose last one came `earlier`; as in `_breaks`."""
    return later - earlier <= gap_ms and (cut is None or not earlier < cut <= later)


def _by_unit(batch: LogBatch) -> npt.NDArray[np.intp]:
    """Give the rows unit by unit, each unit's in time order."""
    codes: dict[str, int] = {}
    code = [codes.setdefault(unit, len(codes)) for unit in batch.units]
    return np.argsort(np.array(code), kind="stable")


def _breaks(
    units: list[str], ts: npt.NDArray[np.int64], gap_ms: int, cut: int | None
) -> npt.NDArray[np.intp]:
    """Find the rows, ordered by unit and time, at which another unit or a new run of the same one begins."""
    names = np.array(units)
    begins = np.ones(len(ts), dtype=np.bool_)
    begins[1:] = (names[1:] != names[:-1]) | (np.diff(ts) > gap_ms)
    if cut is not None:
        begins[1:] |= (ts[:-1] < cut) & (ts[1:] >= cut)
    return np.flatnonzero(begins)


def _impressions(batch: LogBatch, order: npt.NDArray[np.intp]) -> list[LoggedImpression]:
    """Make the rows, in the order given, impressions."""
    places = order.tolist()
    feedback = _feedback(batch)
    columns = zip(
        [batch.items[place] for place in places],
        batch.ts[order].tolist(),
        repeat(None) if batch.random is None else batch.random[order].tolist(),
        [feedback[place] for place in places],
        strict=False,
    )
    return list(map(LoggedImpression._make, columns))


def _feedback(batch: LogBatch) -> list[tuple[tuple[str, float], ...]]:
    """Collect of every row the kinds that are not zero.

    Rows that did the same share one tuple of counted kinds: far fewer objects than one a row and kind.
    """
    counted = [kind for kind in batch.feedback if kind not in MEASURED]
    bits = np.zeros(len(batch), dtype=np.int64)
    for place, kind in enumerate(counted):
        bits |= (batch.feedback[kind] != 0).astype(np.int64) << place
    distinct, inverse = np.unique(bits, return_inverse=True)
    shared = [
        tuple((kind, 1.0) for place, kind in enumerate(counted) if value >> place & 1)
        for value in distinct.tolist()
    ]
    feedback: list[tuple[tuple[str, float], ...]] = [shared[index] for index in inverse.tolist()]
    for kind in [kind for kind in batch.feedback if kind in MEASURED]:
        values = batch.feedback[kind].tolist()
        feedback = [
            (*did, (kind, value)) if value else did for did, value in zip(feedback, values, strict=True)
        ]
    return feedback
