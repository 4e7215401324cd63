"""Where prompts come from that the model does not generate: the controls of its own."""

from collections.abc import Container, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from armlift.arm import Behaviour, Prompt
from armlift.hashing import key_of, mix_many, uniforms
from armlift_arms.windows import Longs

NONE = -1
"""Stands where there is no prompt."""


def chances(unit: str, positions: Longs, prompts: int, seed: int) -> npt.NDArray[np.float64]:
    """Draw numbers in [0, 1) for prompts to behaviours at positions of a unit's history, [n, prompts]."""
    numbers = positions[:, None] * prompts + np.arange(prompts)
    return uniforms(mix_many(numbers.astype(np.uint64) ^ np.uint64(key_of(f"{seed}|{unit}"))))


def at_random(unit: str, positions: Longs, items: Longs, prompts: int, seed: int) -> Longs:
    """Draw `prompts` of `items` for behaviours at some positions of a unit's history, [n, prompts]."""
    drawn: Longs = items[(chances(unit, positions, prompts, seed) * len(items)).astype(np.int64)]
    return drawn


class Catalogue(NamedTuple):
    """The items that were met, int64, and all items by how often they were, the most popular first."""

    met: Longs
    by_popularity: Longs

    @classmethod
    def of(cls, counts: Longs) -> Self:
        """Sort the items by their counts of behaviours, int64 [items]; ties go to the lower index."""
        return cls(np.flatnonzero(counts), np.argsort(-counts, kind="stable"))


def of_catalogue(
    source: str, catalogue: Catalogue, unit: str, positions: Longs, sequence: Longs, prompts: int, seed: int
) -> Longs:
    """Give prompts `random` or `popular` to a sequence of items at some positions; of other sources none."""
    if source == "random":
        return at_random(unit, positions, catalogue.met, prompts, seed)
    if source == "popular":
        return most_popular(sequence, catalogue.by_popularity, prompts)
    return np.full((len(sequence), prompts), NONE, dtype=np.int64)


def most_popular(sequence: Longs, order: Longs, prompts: int) -> Longs:
    """Give, after each item of a sequence, the first of an order that were not met up to it, [n, prompts]."""
    found = np.full((len(sequence), prompts), NONE, dtype=np.int64)
    first = order[: prompts + len(sequence)]
    for place in range(len(sequence)):
        unmet = first[~np.isin(first, sequence[: place + 1])][:prompts]
        found[place, : len(unmet)] = unmet
    return found


def unclicked(
    history: Sequence[Behaviour],
    positions: Longs,
    index_of: Mapping[str, int],
    kinds: Container[str],
    prompts: int,
) -> Longs:
    """Give, for behaviours at some positions, what the unit was shown last and did not take, [n, prompts].

    Up to the next of the positions these are the items of behaviours of other kinds than `kinds` that were
    not taken so far; the latest ones stand last.
    """
    first_taken: dict[str, int] = {}
    for at, behaviour in enumerate(history):
        if behaviour.kind in kinds:
            first_taken.setdefault(behaviour.item, at)
    found = np.full((len(positions), prompts), NONE, dtype=np.int64)
    for place, end in enumerate([*positions[1:].tolist(), len(history)]):
        shown = (of.item for of in reversed(history[:end]) if of.kind not in kinds)
        passed = (item for item in shown if item in index_of and first_taken.get(item, end) >= end)
        latest = [index_of[item] for item in islice(dict.fromkeys(passed), prompts)]
        found[place, prompts - len(latest) :] = latest[::-1]
    return found


def stored(
    prompts: Sequence[Prompt], positions: Longs, index_of: Mapping[str, int], most: int
) -> npt.NDArray[np.int64]:
    """Lay stored prompts out for the behaviours at some positions, [n, most]; unknown items are left out."""
    row_of = {position: row for row, position in enumerate(positions.tolist())}
    found = np.full((len(positions), most), NONE, dtype=np.int64)
    for prompt in prompts:
        row, index = row_of.get(prompt.position), index_of.get(prompt.item)
        if row is not None and index is not None and 0 <= prompt.step < most:
            found[row, prompt.step] = index
    return found
