"""What a neural arm is trained on: histories, read once and written to disk as numbers."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from armlift.arm import Behaviour, History, ItemTable
from armlift_arms.scratch import Growing, Strings
from armlift_arms.windows import Ints, Longs, Sequences

Value = TypeVar("Value")
_KEPT = 2**15  # more than are held out, whose values are asked for again in each epoch

Note = Callable[[Sequence[Behaviour], Longs, Mapping[str, int]], Longs]
"""Makes the notes of a history, [n, K], of its behaviours, n positions among them, and the items' indices."""


class Known(NamedTuple):
    """Sequences of item indices, their units, and notes on every item, [P, K], all on disk; the catalogue."""

    sequences: Sequences
    units: Strings
    notes: Ints
    items: ItemTable

    def notes_of(self, number: int) -> Longs:
        """Give the notes on the items of one sequence, [n, K]."""
        starts = self.sequences.starts
        return self.notes[starts[number] : starts[number + 1]].astype(np.int64)


class Computed(Generic[Value]):
    """Values of sequences by their numbers, each computed when it is asked for; some are kept."""

    def __init__(self, compute: Callable[[int], Value]) -> None:
        self._of = lru_cache(maxsize=_KEPT)(compute)

    def __getitem__(self, number: int, /) -> Value:
        return self._of(number)


def read_known(
    histories: Iterable[History], items: ItemTable, *, until: int, kinds: Container[str], note: Note
) -> Known:
    """Write what is known before `until` to disk, by behaviours of some `kinds`; a unit without any is none.

    Adjacent behaviours on one item count once. Raises OSError where the disk is full.
    """
    found, starts, notes = Growing("i"), Growing("q"), Growing("i")
    names, ends = Growing("B"), Growing("q")
    index_of = {item: index for index, item in enumerate(items.ids)}
    for history in histories:
        behaviours = [behaviour for behaviour in history.behaviours if behaviour.ts < until]
        tokens = [*known_items(behaviours, index_of, kinds)]
        if tokens:
            starts.extend([len(found)])
            found.extend(index for index, _ in tokens)
            notes.extend(note(behaviours, np.array([place for _, place in tokens]), index_of))
            ends.extend([len(names)])
            names.extend(history.unit.encode("utf-8", "surrogatepass"))
    starts.extend([len(found)])
    ends.extend([len(names)])
    return Known(
        Sequences(found.done(), starts.done()),
        Strings(names.done(), ends.done()),
        notes.done().reshape(len(found), len(notes) // max(1, len(found))),
        items,
    )


def known_items(
    behaviours: Sequence[Behaviour], index_of: Mapping[str, int], kinds: Container[str]
) -> Iterator[tuple[int, int]]:
    """Give the indices of known items of some kinds, and their places; what repeats at once counts once."""
    last = None
    for place, behaviour in enumerate(behaviours):
        index = index_of.get(behaviour.item) if behaviour.kind in kinds else None
        if index is not None and index != last:
            last = index
            yield index, place
