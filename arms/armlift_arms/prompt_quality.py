"""What prompts are worth beside the slates they lead to: an observer of evaluations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from armlift.arm import Arm, Slate
from armlift.artefacts import read_weights, unpack_strings
from armlift.evaluation import Floats
from armlift.heldout import Asked, HeldOut
from armlift_arms.windows import Longs

Singles = npt.NDArray[np.float32]

CLUSTERS = 32
"""The interests that the items of a catalogue fall into, at most."""
_ROUNDS = 20
_ITEMS = "model.decoder.items.weight"
_MEASURES = ("taken", "diversity", "novelty, bits", "near the next", "interests")


class PromptQuality:
    """Measures the prompts of each slate by the item vectors of one model, the same for all settings.

    taken            1 where the item the unit takes next is among the prompts, else 0
    diversity        1 - the mean cosine of two prompts of a unit; none where there is one prompt
    novelty, bits    mean of -log2(share of training behaviours), as in `evaluation`
    near the next    mean cosine of the prompts and the item the unit takes next
    interests        share of the clusters of the unit's history (k-means over item vectors) with a prompt in

    A unit without prompts has no value. The figure `distinct` is that of different items among all prompts.
    """

    def __init__(self, arm: Arm, data: HeldOut, first: Arm) -> None:
        self._index_of, self._vectors = _item_vectors(first)
        counts = Counter(behaviour.item for history in data.histories() for behaviour in history.behaviours)
        total = max(1, sum(counts.values()))
        self._bits = {item: -np.log2(max(1, counts[item]) / total) for item in data.items.ids}
        self._cluster = k_means(self._vectors, min(CLUSTERS, max(1, len(self._vectors) // 8)))
        self._rows: list[tuple[float, ...]] = []
        self._said: Counter[str] = Counter()

    def see(self, asked: Sequence[Asked], slates: Sequence[Slate]) -> None:
        """Measure the prompts of a batch."""
        for one, slate in zip(asked, slates, strict=True):
            items = [prompt.item for prompt in slate.prompts if prompt.item in self._index_of]
            self._said.update(items)
            self._rows.append(self._row(one, items) if items else (np.nan,) * len(_MEASURES))

    def outcome(self) -> tuple[Mapping[str, Floats], Mapping[str, float]]:
        """Give what was measured."""
        table = np.array(self._rows, dtype=np.float64).reshape(-1, len(_MEASURES))
        measures = {name: table[:, at] for at, name in enumerate(_MEASURES)}
        said = self._said.total()
        return measures, {"distinct": len(self._said) / said} if said else {}

    def _row(self, one: Asked, items: list[str]) -> tuple[float, ...]:
        rows = np.array([self._index_of[item] for item in items])
        vectors, n = self._vectors[rows], len(items)
        cosines = vectors @ vectors.T
        diversity = 1.0 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1)) if n > 1 else np.nan
        near = np.nan
        if one.target in self._index_of:
            near = float((vectors @ self._vectors[self._index_of[one.target]]).mean())
        known = {self._index_of[b.item] for b in one.request.history if b.item in self._index_of}
        interests = {int(self._cluster[row]) for row in known}
        met = interests & {*self._cluster[rows].tolist()}
        covered = len(met) / len(interests) if interests else np.nan
        bits = float(np.mean([self._bits[item] for item in items]))
        return float(one.target in items), float(diversity), bits, near, covered


def _item_vectors(arm: Arm) -> tuple[dict[str, int], Singles]:
    """Read the item vectors of an arm of RecGPT's model, made 1 long, [items, dim]; none if untrained."""
    with TemporaryDirectory() as scratch:
        arm.save(Path(scratch))
        _, tensors = read_weights(Path(scratch), type(arm.config))
    if _ITEMS not in tensors:
        return {}, np.zeros((0, 1), dtype=np.float32)
    ids = unpack_strings(tensors["item_bytes"], tensors["item_offsets"])
    vectors: Singles = tensors[_ITEMS]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return {item: row for row, item in enumerate(ids)}, vectors / np.maximum(lengths, 1e-12)


def k_means(vectors: Singles, clusters: int, *, seed: int = 0) -> Longs:
    """Sort vectors of length 1 into clusters by the nearest centre (spherical k-means), int64 [vectors]."""
    random = np.random.default_rng(seed)
    if not len(vectors):
        return np.zeros(0, dtype=np.int64)
    centres = vectors[random.choice(len(vectors), clusters, replace=False)]
    nearest = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        before, nearest = nearest, np.argmax(vectors @ centres.T, axis=1)
        if np.array_equal(before, nearest):
            break
        for cluster in np.unique(nearest).tolist():  # one that nothing is near to stays where it is
            mean = vectors[nearest == cluster].sum(axis=0)
            centres[cluster] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return nearest.astype(np.int64)
