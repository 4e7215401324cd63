"""Co-visitation: what other units met next to the items this unit met last."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from armlift.arm import ArmConfig, Behaviour, Capability, History, ItemTable, Request, Slate
from armlift.artefacts import Tensors
from armlift.days import DAY_MS
from armlift.slates import FixedOrder, Ranking, counted, depth_of, rank, seen_items, slate_of, top_k
from armlift_arms.tables import TableArm

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

_BLOCK = 1 << 16  # visits whose pairs are counted at a time


class CovisitationConfig(ArmConfig):
    """The arm definition of `covisitation`."""

    window: int = Field(
        default=10, ge=1, description="Visits of one unit at most this many apart are a pair."
    )
    neighbours: int = Field(default=50, ge=1, description="How many similar items are stored for an item.")
    recent: int = Field(default=10, ge=1, description="How many of a unit's last items speak.")
    decay: float = Field(
        default=0.8, gt=0, le=1, description="An item counts this much of the one met after it."
    )
    half_life_days: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Days after which a visit counts half as much in training; absent: never.",
    )
    max_pairs: int = Field(
        default=4_000_000, ge=1, description="How many pairs training holds (16 bytes each); the lightest go."
    )


class _Visits(NamedTuple):
    """A stretch of visits, unit after unit, oldest first: arrays of one length."""

    items: Longs
    units: Longs
    weights: Doubles


class _Pairs(NamedTuple):
    """Weights of unordered pairs of items a < b; `keys` are a * n + b, ascending."""

    keys: Longs
    weights: Doubles


class Covisitation(TableArm[CovisitationConfig]):
    """Score an item with the sum, over the unit's `recent` last items, of decay^age * similarity.

    similarity(a, b) = c(a, b) / sqrt(c(a) c(b)), where c(a) is the weight of the visits to a and c(a, b) that
    of the pairs of visits by one unit, at most `window` apart. A visit weighs 2^(-(until - ts) / half-life),
    a pair the geometric mean of its two; adjacent behaviours on one item are one visit. Only the `neighbours`
    most similar items of each item are kept.

    An item similar to none of them scores (its weight / the largest) - 1: popularity, between -1 and 0, below
    every similarity. An item outside the catalogue scores as the least popular one and ranks behind all.
    """

    config_class: ClassVar[type[ArmConfig]] = CovisitationConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"trainable", "candidates", "propensity"})

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Count visits and pairs before `until`, in one pass; `warm` is not used.

        Holds at most `max_pairs` pairs and those of the 65,536 visits at hand: beyond it the lightest are
        forgotten, which touches only pairs that would hardly be among an item's neighbours.
        """
        n = len(items)
        weights = np.zeros(n)
        pairs = _Pairs(np.zeros(0, dtype=np.int64), np.zeros(0))
        for visits in self._visits(histories, items, until):
            weights += _sums(visits.items, visits.weights, n)
            pairs = _merged(pairs, _pairs_of(visits, self.config.window, n), self.config.max_pairs)
        popularity = weights / weights.max() - 1.0 if weights.any() else weights
        similar = _similar_items(weights, pairs, self.config.neighbours)
        self._learn(items, until, {"popularity": popularity, **similar})

    def _visits(self, histories: Iterable[History], items: ItemTable, until: int) -> Iterator[_Visits]:
        """Read histories once, and give their visits to catalogue items in blocks that no unit straddles."""
        index_of = {item: index for index, item in enumerate(items.ids)}
        block: list[tuple[int, int, int]] = []
        for unit, history in enumerate(histories):
            last = -1
            for item, _, _, ts in counted(history.behaviours, self.config.history_kinds, until):
                index = index_of.get(item, -1)
                if index not in (last, -1):
                    block.append((index, unit, ts))
                    last = index
            if len(block) >= _BLOCK:
                yield self._weighed(block, until)
                block = []
        if block:
            yield self._weighed(block, until)

    def _weighed(self, block: list[tuple[int, int, int]], until: int) -> _Visits:
        items, units, times = np.array(block, dtype=np.int64).T
        if self.config.half_life_days is None:
            return _Visits(items, units, np.ones(len(items)))
        return _Visits(items, units, np.exp2((times - until) / (self.config.half_life_days * DAY_MS)))

    def _answer(self, request: Request) -> Slate:
        depth = depth_of(request, self.config)
        similar = self._similarities(request.history)
        if request.candidates is None:
            ranking = self._recall(similar, depth, seen_items(request))
        else:
            ranking = self._rank(similar, depth, request.candidates)
        return slate_of(ranking, request, self.config)

    def _similarities(self, history: Sequence[Behaviour]) -> Doubles | None:
        """Sum up what the unit's last items say of the catalogue, float64 [n]; None if they say nothing."""
        recent: dict[int, float] = {}
        for item, kind, _, _ in reversed(history):
            index = self._index_of.get(item)
            if index is None or index in recent or kind not in self.config.history_kinds:
                continue
            recent[index] = self.config.decay ** len(recent)
            if len(recent) == self.config.recent:
                break
        if not recent:
            return None
        spans = [slice(self._starts[index], self._starts[index + 1]) for index in recent]
        found = np.concatenate([self._neighbours[span] for span in spans])
        scores = np.concatenate(
            [self._similarity[span] * weight for span, weight in zip(spans, recent.values(), strict=True)]
        )
        return _sums(found, scores, len(self._ids))

    def _recall(self, similar: Doubles | None, depth: int, seen: set[str]) -> Ranking:
        """Rank unseen items of the catalogue to `depth`: the similar ones, then the popular."""
        if similar is None:
            return self._popular.best(depth, seen)
        similar[[self._index_of[item] for item in seen if item in self._index_of]] = 0.0
        (touched,) = similar.nonzero()
        best = touched[top_k(similar[touched], depth)]
        items = [self._ids[index] for index in best.tolist()]
        scores: list[float] = similar[best].tolist()
        if len(items) < depth:
            rest = self._popular.best(depth - len(items), seen.union(items))
            return Ranking(items + rest.items, scores + rest.scores)
        return Ranking(items, scores)

    def _rank(self, similar: Doubles | None, depth: int, candidates: Sequence[str]) -> Ranking:
        """Rank candidates to `depth`: the similar ones, then the popular, then the unknown."""
        scores = self._popularity
        if similar is not None:
            scores = {
                item: float(similar[index]) or self._popularity[item]
                for item in candidates
                if (index := self._index_of.get(item)) is not None
            }
        return rank(candidates, scores, unknown=self._least, depth=depth)

    def _read(self, ids: list[str], tensors: Tensors) -> None:
        self._ids = ids
        self._index_of = {item: index for index, item in enumerate(ids)}
        self._starts: list[int] = tensors["starts"].tolist()
        self._neighbours: Longs = tensors["neighbours"].astype(np.int64)
        self._similarity: Doubles = tensors["similarity"].astype(np.float64)
        popularity: Doubles = tensors["popularity"]
        self._popularity: dict[str, float] = dict(zip(self._ids, popularity.tolist(), strict=True))
        self._popular = FixedOrder(self._ids, popularity)
        self._least = float(popularity.min(initial=0.0))


def _sums(indices: npt.NDArray[np.integer], values: Doubles, n: int) -> Doubles:
    """Add up the values of each index, float64 [n]."""
    return np.bincount(indices, values, minlength=n).astype(np.float64, copy=False)


def _pairs_of(visits: _Visits, window: int, n: int) -> _Pairs:
    """Find the pairs of different items, at most `window` visits of one unit apart; keys may repeat."""
    roots = np.sqrt(visits.weights)
    keys: list[Longs] = []
    weights: list[Doubles] = []
    for lag in range(1, min(window, len(roots) - 1) + 1):
        earlier, later = visits.items[:-lag], visits.items[lag:]
        pair = (visits.units[:-lag] == visits.units[lag:]) & (earlier != later)
        keys.append((np.minimum(earlier, later) * n + np.maximum(earlier, later))[pair])
        weights.append((roots[:-lag] * roots[lag:])[pair])
    if not keys:
        return _Pairs(np.zeros(0, dtype=np.int64), np.zeros(0))
    return _Pairs(np.concatenate(keys), np.concatenate(weights))


def _merged(pairs: _Pairs, more: _Pairs, limit: int) -> _Pairs:
    """Add up the weights of equal keys, and keep the `limit` heaviest."""
    keys, place = np.unique(np.concatenate([pairs.keys, more.keys]), return_inverse=True)
    weights = _sums(place, np.concatenate([pairs.weights, more.weights]), len(keys))
    if len(keys) <= limit:
        return _Pairs(keys, weights)
    heaviest = np.sort(top_k(weights, limit))
    return _Pairs(keys[heaviest], weights[heaviest])


def _similar_items(weights: Doubles, pairs: _Pairs, neighbours: int) -> Tensors:
    """Normalise the pairs and keep each item's most similar ones, a tie going to the lower id.

    Item i (of the n in `weights`) has `neighbours[starts[i]:starts[i + 1]]`, int32, most similar first, with
    `similarity`, float32.
    """
    n = len(weights)
    counted_pairs = pairs.weights > 0  # visits of many half-lives ago may weigh nothing
    low, high = np.divmod(pairs.keys[counted_pairs], n)
    cosine = pairs.weights[counted_pairs] / (np.sqrt(weights[low]) * np.sqrt(weights[high]))
    source, target = np.concatenate([low, high]), np.concatenate([high, low])
    similarity = np.concatenate([cosine, cosine]).astype(np.float32)
    order = np.lexsort((target, -similarity, source))
    source = source[order]
    kept = np.arange(len(source)) - np.searchsorted(source, source) < neighbours
    return {
        "starts": np.searchsorted(source[kept], np.arange(n + 1)).astype(np.int64),
        "neighbours": target[order][kept].astype(np.int32),
        "similarity": similarity[order][kept],
    }
