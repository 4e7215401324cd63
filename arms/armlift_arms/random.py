"""Random: every item alike; the yardstick of the other arms, and the fairest source of logs."""

from bisect import insort
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from armlift.arm import ArmConfig, Capability, History, ItemTable, Request, Slate
from armlift.artefacts import Tensors
from armlift.slates import nth_free, request_key, seen_items, stream
from armlift_arms.tables import TableArm


class RandomConfig(ArmConfig):
    """The arm definition of `random`; it has no settings of its own."""


class Random(TableArm[RandomConfig]):
    """Draw items uniformly, without repeats, from the candidates or from the catalogue's unseen items.

    A slot's propensity is 1 / (items that remained). `exploration` changes nothing: every item scores 0, and
    what each of its kinds makes of equal scores is a uniform draw. `fit` takes over the catalogue alone, so
    the arm is not trainable.
    """

    config_class: ClassVar[type[ArmConfig]] = RandomConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"candidates", "propensity"})

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Take over the catalogue; histories are not read and `warm` is not used."""
        self._learn(items, until, {})

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

    def _read(self, ids: list[str], tensors: Tensors) -> None:
        self._ids = ids
        self._index_of = {item: index for index, item in enumerate(ids)}
