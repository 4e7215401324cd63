"""Popularity: the items most behaviours went to lately, the same for every unit."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from armlift.arm import ArmConfig, Capability, History, ItemTable, Request, Slate
from armlift.artefacts import Tensors
from armlift.days import DAY_MS
from armlift.slates import FixedOrder, counted, depth_of, rank, seen_items, slate_of
from armlift_arms.tables import TableArm

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PopularityConfig(ArmConfig):
    """The arm definition of `popularity`."""

    half_life_days: float = Field(
        default=7.0,
        gt=0,
        allow_inf_nan=False,
        description="Days after which a behaviour counts half as much.",
    )
    kind_weights: dict[str, Weight] = Field(
        default_factory=dict,
        description="How much a behaviour of a kind counts; 1 for kinds not named.",
    )

    @model_validator(mode="after")
    def _weights_are_of_history_kinds(self) -> Self:
        for kind in self.kind_weights:
            if kind not in self.history_kinds:
                raise ValueError(
                    f"kind_weights: {kind!r} must be one of history_kinds: {', '.join(self.history_kinds)}"
                )
        return self


class Popularity(TableArm[PopularityConfig]):
    """Score an item with the sum, over its behaviours, of kind weight * 2^(-(until - ts) / half-life).

    An item outside the catalogue scores 0 and ranks behind all others.
    """

    config_class: ClassVar[type[ArmConfig]] = PopularityConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"trainable", "candidates", "propensity"})

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Sum up the behaviours before `until`; one pass, one number an item is held. `warm` is not used."""
        index_of = {item: index for index, item in enumerate(items.ids)}
        weight_of = self.config.kind_weights
        half_life = self.config.half_life_days * DAY_MS
        scores = [0.0] * len(items)
        for history in histories:
            for item, kind, _, ts in counted(history.behaviours, self.config.history_kinds, until):
                index = index_of.get(item)
                if index is not None:
                    scores[index] += weight_of.get(kind, 1.0) * 2.0 ** ((ts - until) / half_life)
        self._learn(items, until, {"scores": np.array(scores, dtype=np.float64)})

    def _answer(self, request: Request) -> Slate:
        depth = depth_of(request, self.config)
        if request.candidates is None:
            ranking = self._order.best(depth, seen_items(request))
        else:
            ranking = rank(request.candidates, self._scores, unknown=0.0, depth=depth)
        return slate_of(ranking, request, self.config)

    def _read(self, ids: list[str], tensors: Tensors) -> None:
        self._scores: dict[str, float] = dict(zip(ids, tensors["scores"].tolist(), strict=True))
        self._order = FixedOrder(ids, tensors["scores"])
