"""Turn scores into slates: ranking candidates, recalling from a catalogue, exploring with true propensities.

Higher scores are better and ties go by item id. A slate without exploration is certain, so its propensities
are 1. All randomness is counter-based: the numbers of a request are a SplitMix64 stream that starts from
(seed, request_id), so the order of a batch changes nothing.
"""

import sys
from bisect import bisect_right, insort
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import compress, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.arm import ArmConfig, Behaviour, Exploration, Prompt, Request, Slate
from armlift.hashing import MASK, STEP, Keys, key_of, mix, mix_many, uniforms

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

_PART = 32  # scores of a part whose maximum is taken: enough parts for the k of a slate, few maxima to sort
_SMALLEST = 2.0**-54  # stands for a uniform number of 0, whose logarithm is infinite


class Ranking(NamedTuple):
    """Items with their scores, best first, and their recall steps: lists of one length; None: all in step 0.

    `prompts` are those the model had in view.
    """

    items: list[str]
    scores: list[float]
    steps: list[int] | None = None
    prompts: Sequence[Prompt] = ()


def counted(behaviours: Iterable[Behaviour], kinds: Container[str], until: int) -> list[Behaviour]:
    """Keep the behaviours an arm may learn from: of one of `kinds`, before `until` (UTC milliseconds)."""
    return [behaviour for behaviour in behaviours if behaviour.ts < until and behaviour.kind in kinds]


def seen_items(request: Request) -> set[str]:
    """Name the items a unit has met, by whatever kind of feedback; a recall never returns them."""
    return {behaviour.item for behaviour in request.history}


def depth_of(request: Request, config: ArmConfig) -> int:
    """Say how far a ranking must reach: to place k, or to its end where any item may be drawn."""
    return request.k if config.exploration is None else sys.maxsize


def rank(
    candidates: Iterable[str], scores: Mapping[str, float], *, unknown: float, depth: int = sys.maxsize
) -> Ranking:
    """Order candidates by their scores, best first, down to place `depth`.

    Candidates without a score come last, ordered by id; they are given the score `unknown`, which should not
    be above any other. An item named twice stands once.
    """
    score_of = scores.get
    worst = float("-inf")
    # (-score, id) sorts without a key function, and its order is total: that of the set does not matter.
    keyed = sorted([(-score_of(item, worst), item) for item in set(candidates)])[:depth]
    return Ranking(
        [item for _, item in keyed], [-negated if negated != -worst else unknown for negated, _ in keyed]
    )


def top_k(scores: Floats, k: int, seen: Sequence[int] | Indices = ()) -> Indices:
    """Find the k best of a score vector, best first; a tie goes to the lower index, so to the lower item id.

    `scores` is a float array [n] and is left as it is. Indices in `seen` and those scored -inf are never
    returned, so the answer may be shorter than k. Takes O(n + k log k).
    """
    if len(seen):
        scores = scores.copy()
        scores[np.asarray(seen, dtype=np.intp)] = -np.inf
    chosen = _promising(scores, k)
    values = scores[chosen]
    if k < len(chosen):
        # Which of several equal scores a partition puts first is not defined, so the ties are picked by hand.
        least = np.partition(values, -k)[-k] if k else np.inf
        above = np.flatnonzero(values > least)
        kept = np.concatenate([above, np.flatnonzero(values == least)[: k - len(above)]])
        chosen, values = chosen[kept], values[kept]
    order = np.argsort(-values, kind="stable")
    chosen, values = chosen[order], values[order]
    return chosen[values > -np.inf]


def _promising(scores: Floats, k: int) -> Indices:
    """Find indices, ascending, the k best among them: all from the k-th best maximum of parts on.

    One pass over many scores for the maxima and one to compare are several times faster than a partition.
    """
    parts = len(scores) // _PART
    if not 0 < k <= parts:
        return np.arange(len(scores))
    maxima = scores[: parts * _PART].reshape(_PART, parts).max(axis=0)
    return np.flatnonzero(scores >= np.partition(maxima, -k)[-k])


class FixedOrder:
    """A catalogue sorted once by a score vector that all requests share, so that recalling sorts nothing."""

    def __init__(self, ids: Sequence[str], scores: Floats) -> None:
        """Sort `ids` (ascending, [n]) by `scores` (float [n], finite)."""
        order = top_k(scores, len(scores))
        self._items = [ids[index] for index in order.tolist()]
        self._scores: list[float] = scores[order].tolist()
        self._places = {item: place for place, item in enumerate(self._items)}

    def best(self, depth: int, seen: Collection[str]) -> Ranking:
        """Take the first `depth` items that are not in `seen`; fewer if the catalogue has no more."""
        if depth < len(self._items):
            places = list(islice((at for at, item in enumerate(self._items) if item not in seen), depth))
            return Ranking([self._items[at] for at in places], [self._scores[at] for at in places])
        unseen = bytearray(b"\1") * len(self._items)
        for item in seen:
            if (place := self._places.get(item)) is not None:
                unseen[place] = 0
        return Ranking(list(compress(self._items, unseen)), list(compress(self._scores, unseen)))


def slate_of(ranking: Ranking, request: Request, config: ArmConfig) -> Slate:
    """Make a request's slate of a ranking that reaches to `depth_of(request, config)`."""
    steps = ranking.steps or [0] * len(ranking.items)
    if config.exploration is None:
        items, scores = ranking.items[: request.k], ranking.scores[: request.k]
        return Slate(items, scores, steps[: request.k], [1.0] * len(items), prompts=ranking.prompts)
    key = request_key(config.seed, request.request_id)
    places, propensities = explore(ranking.scores, request.k, config.exploration, key)
    return Slate(
        [ranking.items[place] for place in places],
        [ranking.scores[place] for place in places],
        [steps[place] for place in places],
        propensities,
        prompts=ranking.prompts,
    )


def explore(
    scores: Sequence[float], k: int, exploration: Exploration, key: int
) -> tuple[list[int], list[float]]:
    """Choose min(k, n) places of a ranking (scores best first, [n]) as `exploration` says.

    Returns the places in slate order and, for each, the probability of this choice given those before it: 1
    where the slot is not explored. `key` starts the request's stream of numbers.
    """
    size = min(k, len(scores))
    slots = size if exploration.slots is None else min(exploration.slots, size)
    if exploration.kind == "epsilon":
        return _epsilon(len(scores), size - slots, size, exploration.epsilon, key)
    return _plackett_luce(np.asarray(scores) / exploration.temperature, size - slots, size, key)


def _epsilon(n: int, first: int, size: int, epsilon: float, key: int) -> tuple[list[int], list[float]]:
    """Fill the slots from `first`: with probability epsilon a uniform draw of what remains, else its best."""
    numbers: list[int] = stream(key, 2 * size).tolist()
    threshold = epsilon * 2.0**64
    places = list(range(first))
    propensities = [1.0] * first
    taken = places.copy()
    for slot in range(first, size):
        remaining = n - slot
        drawn = numbers[2 * slot + 1] * remaining >> 64 if numbers[2 * slot] < threshold else 0
        place = nth_free(taken, drawn)
        insort(taken, place)
        places.append(place)
        # The best of what remains is taken outright or drawn by chance; any other item only by chance.
        outright = 0.0 if drawn else 1.0 - epsilon
        propensities.append(1.0 if remaining == 1 else outright + epsilon / remaining)
    return places, propensities


def _plackett_luce(logits: Floats, first: int, size: int, key: int) -> tuple[list[int], list[float]]:
    """Fill the slots from `first` with draws from the softmax of what remains.

    The largest of logits plus Gumbel noise, in order, are such draws (Yellott 1977). The propensities are
    kept in logarithms and summed from the last slot to the first, so that no small rest is lost to rounding.
    """
    rest = logits[first:]
    noise = -np.log(-np.log(np.maximum(_uniforms_of(key, len(rest)), _SMALLEST)))
    drawn = top_k(rest + noise, size - first)
    left_out = np.ones(len(rest), dtype=np.bool_)
    left_out[drawn] = False
    chosen = rest[drawn]
    tail = np.concatenate([[_log_sum_exp(rest[left_out])], chosen[::-1]])
    propensities = np.exp(chosen - np.logaddexp.accumulate(tail)[:0:-1])
    return [*range(first), *(drawn + first).tolist()], [1.0] * first + propensities.tolist()


def _log_sum_exp(values: Floats) -> float:
    """Give log(sum(exp(values))), -inf of nothing."""
    if not len(values):
        return -np.inf
    largest = values.max()
    return float(largest + np.log(np.exp(values - largest).sum()))


def nth_free(taken: Sequence[int], n: int) -> int:
    """Find the n-th (0 is the first) of the integers from 0 on that are not in `taken`, ascending."""
    return n + bisect_right(range(len(taken)), n, key=lambda index: taken[index] - index)


def request_key(seed: int, request_id: str) -> int:
    """Start the stream of random numbers of a request."""
    return mix(key_of(request_id) ^ mix((seed + STEP) & MASK))


def stream(key: int, size: int) -> Keys:
    """Give the first `size` numbers of a stream: 64 random bits each, uint64 [size]."""
    return mix_many(_counters(key, size))


def streams(keys: Keys, size: int) -> Keys:
    """Give the first `size` numbers of many streams, uint64 [len(keys), size]: each row as `stream` does."""
    return mix_many(_counters(0, size) + keys[:, np.newaxis])


def _uniforms_of(key: int, size: int) -> npt.NDArray[np.float64]:
    """Give the first `size` numbers of a stream as float64 [size] in [0, 1)."""
    return uniforms(_counters(key, size))


def _counters(key: int, size: int) -> Keys:
    return np.arange(1, size + 1, dtype=np.uint64) * np.uint64(STEP) + np.uint64(key)
