"""Blind lists: what a model says to a unit among three lists that are none of its own, in a drawn order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from armlift.arm import Behaviour
from armlift.artefacts import artefact_folder, read_weights, unpack_strings
from armlift.errors import InputError
from armlift.hashing import key_of, uniforms
from armlift.lab import Lab
from armlift.ratings import SOURCES, Rating, Source
from armlift_arms.sources import Catalogue, at_random, most_popular

LETTERS = "ABCD"
LEAST_HISTORY = 3
"""Items a unit must have met for somebody to judge what continues them."""
_DRAWN = 20

Say = Callable[[str], Sequence[str]]
"""Gives what the model says to a unit, in reply to what it did last."""


class Known(NamedTuple):
    """What a model knows of the catalogue: the items' ids, in its order, and how often they were met."""

    ids: Sequence[str]
    catalogue: Catalogue


class Lists(NamedTuple):
    """Four lists to rate for a unit: each a source with its items, in the order they are shown."""

    unit: str
    lists: Sequence[tuple[Source, Sequence[str]]]

    def rated(
        self, marks: Sequence[int], *, arm: str, version: str, run: str, rater: str, at: int
    ) -> list[Rating]:
        """Make the ratings of the lists, in their order; `at` is in UTC milliseconds."""
        shown = zip(self.lists, marks, strict=True)
        return [
            Rating(arm, version, run, self.unit, rater, source, mark, place, items, at)
            for place, ((source, items), mark) in enumerate(shown)
        ]


def known_items(lab: Lab, arm: str, version: str) -> Known:
    """Read which items a version met in training, and how often.

    Raises InputError for an artefact that is missing or broken, or that does not keep it.
    """
    url, config = lab.resolve(lab.settings.artefact_url), type(lab.arm(arm))
    with artefact_folder(url, arm, version) as (folder, _):
        _, tensors = read_weights(folder, config)
    if not {"counts", "item_bytes", "item_offsets"} <= tensors.keys():
        raise InputError(f"{arm} {version}: does not keep how often it met each item, nothing is popular")
    ids = unpack_strings(tensors["item_bytes"], tensors["item_offsets"])
    return Known(ids, Catalogue.of(tensors["counts"]))


def make_lists(
    known: Known,
    unit: str,
    history: Sequence[Behaviour],
    say: Say,
    others: Iterable[str],
    *,
    rater: str,
    seed: int,
) -> Lists | None:
    """Make the lists of a unit, each as long as what the model says to it; None where it says nothing.

    `others` are units whose prompts can stand for a shuffled list: the first whose prompts go as far without
    what this unit has met. Also None where a list cannot be as long. All raters see the same lists; only the
    order is each one's own.
    """
    met = {one.item for one in history}
    said = list(say(unit))
    if not said or len(met) < LEAST_HISTORY:
        return None
    n = len(said)
    found: Mapping[Source, Sequence[str]] = {
        "model": said,
        "popular": _popular(known, history, n),
        "random": _random(known, unit, met, n, seed),
        "shuffled": _shuffled(others, unit, say, met, n),
    }
    if any(len(items) < n for items in found.values()):
        return None
    order = np.argsort(
        uniforms(np.arange(len(SOURCES), dtype=np.uint64) ^ np.uint64(key_of(f"{rater}|{unit}|{seed}")))
    )
    return Lists(unit, [(SOURCES[place], found[SOURCES[place]]) for place in order.tolist()])


def _popular(known: Known, history: Sequence[Behaviour], n: int) -> list[str]:
    index_of = {item: index for index, item in enumerate(known.ids)}
    sequence = np.array([index_of[one.item] for one in history if one.item in index_of], dtype=np.int64)
    if not len(sequence):
        return [known.ids[index] for index in known.catalogue.by_popularity[:n].tolist()]
    last = most_popular(sequence, known.catalogue.by_popularity, n)[-1]
    return [known.ids[index] for index in last.tolist() if index >= 0]


def _random(known: Known, unit: str, met: set[str], n: int, seed: int) -> list[str]:
    """Draw items that the unit has not met, none twice."""
    if not len(known.catalogue.met):
        return []
    drawn = at_random(unit, np.zeros(1, dtype=np.int64), known.catalogue.met, _DRAWN * (n + len(met)), seed)[
        0
    ]
    items = dict.fromkeys(known.ids[index] for index in drawn.tolist())
    return [item for item in items if item not in met][:n]


def _shuffled(others: Iterable[str], unit: str, say: Say, met: set[str], n: int) -> list[str]:
    for other in others:
        if other != unit:
            items = [item for item in say(other) if item not in met][:n]
            if len(items) == n:
                return items
    return []
