"""Sequences of item indices, what of them trains and what is held out, and batches of like length.

Shapes: S sequences, W windows, B windows of a batch, L inputs of the longest of them.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

_POOL = 2048  # windows sorted by length together: enough that batches hold little padding
_MOST_HELD_OUT = 20_000
_TO_HOLD_OUT = 3  # the items of the shortest sequence whose last one can be held out


class Sequences(NamedTuple):
    """Sequences end to end: `items` int32, and where each begins, `starts` int64 [S + 1]."""

    items: Ints
    starts: Longs

    def __len__(self) -> int:
        return len(self.starts) - 1

    def each(self) -> Iterator[Longs]:
        """Give the sequences one by one."""
        return (self.items[start:end].astype(np.int64) for start, end in pairwise(self.starts.tolist()))


class Split(NamedTuple):
    """What trains, and the prefixes whose next item is held out: rows (start, end, sequence) of `items`.

    `windows` int64 [W, 3]: a window's items but the last are input, its items but the first are targets.
    `held_out` int64 [V, 3]: the target stands at the end of the range.
    """

    windows: Longs
    held_out: Longs


def split(sequences: Sequences, length: int, share: float) -> Split:
    """Hold the last item of every 1 / `share`-th sequence out, and cut what remains in windows.

    Windows have `length` targets at most, and every item is a target once. Sequences of less than three
    items are not counted for `share`; at most 20,000 are held out.
    """
    sizes = np.diff(sequences.starts)
    enough = np.flatnonzero(sizes >= _TO_HOLD_OUT)
    wanted = min(int(np.ceil(len(enough) * share)), _MOST_HELD_OUT)
    chosen = set(enough[np.arange(wanted) * len(enough) // max(wanted, 1)].tolist())
    windows: list[tuple[int, int, int]] = []
    held_out: list[tuple[int, int, int]] = []
    for number, (start, stop) in enumerate(pairwise(sequences.starts.tolist())):
        end = stop
        if number in chosen:
            end = stop - 1
            held_out.append((max(start, end - length), end, number))
        # The last window is a full one, as the history of a request is.
        windows += [(max(start, last - length - 1), last, number) for last in range(end, start + 1, -length)]
    return Split(_rows(windows), _rows(held_out))


def _rows(ranges: list[tuple[int, int, int]]) -> Longs:
    return np.array(ranges, dtype=np.int64).reshape(-1, 3)


def batches(windows: Longs, tokens: int, random: np.random.Generator) -> list[Longs]:
    """Put windows [W, 3] of like length together, at most `tokens` padded inputs a batch, in random order."""
    order = random.permutation(len(windows))
    sizes = windows[:, 1] - windows[:, 0] - 1
    found: list[Longs] = []
    for start in range(0, len(order), _POOL):
        pool = order[start : start + _POOL]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        found += [windows[pool[first:last]] for first, last in _cuts(sizes[pool].tolist(), tokens)]
    return [found[at] for at in random.permutation(len(found))]


def _cuts(sizes: list[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Cut ascending sizes in runs of at most `tokens`, each counted with the size of its last."""
    first = 0
    for place, size in enumerate(sizes):
        if place > first and (place - first + 1) * size > tokens:
            yield first, place
            first = place
    yield first, len(sizes)


def padded(values: Ints, ranges: Longs) -> Longs:
    """Lay ranges (start, end, …) of flat values out as int64 [B, longest], padded on the right with 0."""
    starts, lengths = ranges[:, 0], ranges[:, 1] - ranges[:, 0]
    places = np.arange(lengths.max(initial=0))
    real = places < lengths[:, None]
    laid = np.zeros(real.shape, dtype=np.int64)
    laid[real] = values[(starts[:, None] + places)[real]]
    return laid
