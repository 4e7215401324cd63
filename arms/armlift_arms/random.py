"""Random: every item alike; the yardstick of the other arms, and the fairest source of logs."""

from bisect import insort
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from armlift.arm import ArmConfig, Capability, History, ItemTable, Request, Slate
from armlift.artefacts import (
    Tensors,
    model_bytes,
    pack_strings,
    read_weights,
    unpack_strings,
    version_of,
    write_weights,
)
from armlift.slates import nth_free, request_key, seen_items, stream


class RandomConfig(ArmConfig):
    """The arm definition of `random`; it has no settings of its own."""


class Random:
    """Draw items uniformly, without repeats, from the candidates or from the catalogue's unseen items.

    A slot's propensity is 1 / (items that remained). `exploration` changes nothing: every item scores 0, and
    what each of its kinds makes of equal scores is a uniform draw. `fit` takes over the catalogue alone, so
    the arm is not trainable.
    """

    config_class: ClassVar[type[ArmConfig]] = RandomConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"candidates", "propensity"})

    def __init__(self, config: ArmConfig) -> None:
        self.config = config
        self.fit([], ItemTable([]), until=0)

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Take over the catalogue; histories are not read and `warm` is not used."""
        item_bytes, item_offsets = pack_strings(items.ids)
        self._use(
            {
                "item_bytes": item_bytes,
                "item_offsets": item_offsets,
                # The cut is part of the weights, so that one catalogue at two cuts is two versions.
                "until": np.array([until], dtype=np.int64),
            }
        )

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Slate:
        if request.candidates is None:
            pool, seen = self._ids, seen_items(request)
            taken = sorted(self._index_of[item] for item in seen if item in self._index_of)
        else:
            pool, taken = sorted(set(request.candidates)), []
        remaining = len(pool) - len(taken)
        size = min(request.k, remaining)
        items: list[str] = []
        propensities: list[float] = []
        for number in stream(request_key(self.config.seed, request.request_id), size).tolist():
            # The high half of number * remaining is uniform on 0 .. remaining - 1 (Lemire 2019).
            place = nth_free(taken, number * remaining >> 64)
            insort(taken, place)
            items.append(pool[place])
            propensities.append(1.0 / remaining)
            remaining -= 1
        return Slate(items, [0.0] * size, [0] * size, propensities)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in an existing folder."""
        write_weights(folder, self.config, self._tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that `save` wrote; raises InputError where it cannot."""
        config, tensors = read_weights(folder, RandomConfig)
        arm = cls(config)
        arm._use(tensors)
        return arm

    def _use(self, tensors: Tensors) -> None:
        """Answer from now on from this catalogue."""
        self._tensors = tensors
        self._ids = unpack_strings(tensors["item_bytes"], tensors["item_offsets"])
        self._index_of = {item: index for index, item in enumerate(self._ids)}
        self.version = version_of(self.config, model_bytes(self.config, tensors))
