"""Sequences of item indices, what of them trains and what is held out, and batches of like length.

Shapes: S sequences, W windows, B windows of a batch, L inputs of the longest of them.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from armlift_arms import scratch

Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

_POOL = 2048  # windows sorted by length together: enough that batches hold little padding
_MOST_HELD_OUT = 20_000
_TO_HOLD_OUT = 3  # the items of the shortest sequence whose last one can be held out
_LET_GO = 16  # batches after which what was read for them is let go


class Sequences(NamedTuple):
    """Sequences end to end: `items` int32, and where each begins, `starts` int64 [S + 1]; on disk or not."""

    items: Ints
    starts: Longs

    def __len__(self) -> int:
        return len(self.starts) - 1

    def counts(self, items: int) -> Longs:
        """Count how often each of so many items stands in them, int64 [items]."""
        found = np.zeros(items, dtype=np.int64)
        for part in scratch.parts(len(self.items)):
            found += np.bincount(self.items[part], minlength=items)
        return found

    def at(self, place: int) -> Longs:
        """Give one of the sequences."""
        return self.items[self.starts[place] : self.starts[place + 1]].astype(np.int64)


class Split(NamedTuple):
    """What trains, and the prefixes whose next item is held out: rows (start, end, sequence) of `items`.

    `windows` int64 [W, 3], on disk: a window's items but the last are input, its items but the first are
    targets. `held_out` int64 [V, 3]: the target stands at the end of the range.
    """

    windows: Longs
    held_out: Longs


def split(sequences: Sequences, length: int, share: float) -> Split:
    """Hold the last item of every 1 / `share`-th sequence out, and cut what remains in windows.

    Windows have `length` targets at most, and every item is a target once. Sequences of less than three
    items are not counted for `share`; at most 20,000 are held out.
    """
    chosen = _chosen(sequences, share)
    windows = scratch.Growing("q")
    for part in scratch.parts(len(sequences)):
        numbers = np.arange(part.start, part.stop)
        starts, ends = sequences.starts[numbers], sequences.starts[numbers + 1]
        ends -= np.isin(numbers, chosen, assume_unique=True)
        # From the end on, so that the last window is a full one, as the history of a request is.
        cuts = -(-np.maximum(ends - starts - 1, 0) // length)
        rows = np.repeat(np.stack([starts, ends, numbers], axis=1), cuts, axis=0)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        rows[:, 1] -= nth * length
        rows[:, 0] = np.maximum(rows[:, 0], rows[:, 1] - length - 1)
        windows.extend(rows)
    ends = sequences.starts[chosen + 1] - 1
    held_out = np.stack([np.maximum(sequences.starts[chosen], ends - length), ends, chosen], axis=1)
    return Split(windows.done().reshape(-1, 3), held_out)


def _chosen(sequences: Sequences, share: float) -> Longs:
    """Choose the sequences whose last item is held out, int64 [V], ascending."""
    found = np.zeros(0, dtype=np.int64)
    total = sum(len(part) for part in _enough(sequences))
    wanted = min(int(np.ceil(total * share)), _MOST_HELD_OUT)
    places, before = np.arange(wanted) * total // max(wanted, 1), 0
    for part in _enough(sequences):
        mine = places[(places >= before) & (places < before + len(part))]
        found = np.append(found, part[mine - before])
        before += len(part)
    return found


def _enough(sequences: Sequences) -> Iterator[Longs]:
    """Give the sequences that are long enough to hold an item out, a part of them at a time."""
    for part in scratch.parts(len(sequences)):
        sizes = np.diff(sequences.starts[part.start : part.stop + 1])
        yield part.start + np.flatnonzero(sizes >= _TO_HOLD_OUT)


def windows_of_others(windows: Longs, fold: int, folds: int) -> Longs:
    """Copy the windows of all sequences but those of a fold, to disk."""
    found = scratch.Growing("q")
    for part in scratch.parts(len(windows)):
        rows = windows[part]
        found.extend(rows[rows[:, 2] % folds != fold])
    return found.done().reshape(-1, 3)


class Batches(Sequence[Longs]):
    """Batches of windows [B, 3] in an order; the windows lie on disk, those of a batch side by side."""

    def __init__(self, windows: Longs, ends: Longs, order: Longs) -> None:
        """Give the batches that end at `ends` of the windows, [N], in the order of their numbers, [N]."""
        self._windows, self._ends, self._order = windows, ends, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Longs: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Longs]: ...
    def __getitem__(self, place: int | slice) -> Longs | Sequence[Longs]:
        if isinstance(place, slice):
            return Batches(self._windows, self._ends, self._order[place])
        if place % _LET_GO == 0:
            scratch.let_go()
        at = int(self._order[place])
        return self._windows[self._ends[at - 1] if at else 0 : self._ends[at]]


def batches(windows: Longs, tokens: int, random: np.random.Generator) -> Batches:
    """Put windows [W, 3] of like length together, at most `tokens` padded inputs a batch, in random order.

    Holds 4 bytes a window in memory.
    """
    order = random.permutation(np.arange(len(windows), dtype=np.uint32))
    laid, ends = scratch.Growing("q"), array("q")
    for start in range(0, len(order), _POOL):
        rows = windows[order[start : start + _POOL]]
        sizes = rows[:, 1] - rows[:, 0] - 1
        by_size = np.argsort(sizes, kind="stable")
        laid.extend(rows[by_size])
        ends.extend(start + end for end in _cuts(sizes[by_size].tolist(), tokens))
        scratch.let_go()
    return Batches(laid.done().reshape(-1, 3), np.array(ends, dtype=np.int64), random.permutation(len(ends)))


def _cuts(sizes: list[int], tokens: int) -> Iterator[int]:
    """Cut ascending sizes in runs of at most `tokens`, each counted with the size of its last: their ends."""
    first = 0
    for place, size in enumerate(sizes):
        if place > first and (place - first + 1) * size > tokens:
            yield place
            first = place
    yield len(sizes)


def padded(values: Ints, ranges: Longs) -> Longs:
    """Lay ranges (start, end, …) of flat values out as int64 [B, longest], padded on the right with 0."""
    starts, lengths = ranges[:, 0], ranges[:, 1] - ranges[:, 0]
    places = np.arange(lengths.max(initial=0))
    real = places < lengths[:, None]
    laid = np.zeros(real.shape, dtype=np.int64)
    laid[real] = values[(starts[:, None] + places)[real]]
    return laid
