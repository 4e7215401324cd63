"""Prefixes of sequences: what a unit had done up to each of its items, and what it did next."""

from typing import NamedTuple, Self

import numpy as np

from armlift_arms.windows import Longs, Sequences


class Prefixes(NamedTuple):
    """The last items up to some places, ascending, and what follows each of them, -1 after a sequence's last.

    `ranges` are (sequence, start, end) of each within its sequence.
    """

    items: list[Longs]
    targets: Longs
    ranges: list[tuple[int, int, int]]

    @classmethod
    def at(cls, sequences: Sequences, places: Longs, length: int) -> Self:
        """Read the prefixes, of `length` items at most, that end at places [P] of `sequences.items`."""
        numbers = np.searchsorted(sequences.starts, places, side="right") - 1
        bases, ends = sequences.starts[numbers], places + 1
        starts = np.maximum(bases, ends - length)
        first = int(starts.min(initial=len(sequences.items)))
        read = sequences.items[first : ends.max(initial=first)].astype(np.int64)
        ranges = np.stack([numbers, starts - bases, ends - bases], axis=1).tolist()
        bounds = zip((starts - first).tolist(), (ends - first).tolist(), strict=True)
        targets = following(sequences, places)
        return cls([read[start:end] for start, end in bounds], targets, [*map(tuple, ranges)])


def following(sequences: Sequences, places: Longs) -> Longs:
    """Give what follows places [P] of `sequences.items`, -1 after the last item of a sequence, int64 [P]."""
    ends = sequences.starts[np.searchsorted(sequences.starts, places, side="right")]
    after = sequences.items[np.minimum(places + 1, len(sequences.items) - 1)].astype(np.int64)
    return np.where(places + 1 < ends, after, -1)
