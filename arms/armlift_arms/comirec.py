"""ComiRec: several interests of a unit, each of which recalls; the best score counts (arXiv 2005.09347)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from armlift.arm import ArmConfig, ItemTable, Request
from armlift.artefacts import Tensors
from armlift.errors import InputError
from armlift.slates import Ranking, depth_of, rank, top_k
from armlift_arms.known import Known
from armlift_arms.neural import NeuralConfig, OneStepArm, Singles, Warm, load_weights
from armlift_arms.windows import Ints, Longs

if TYPE_CHECKING:
    from torch import Tensor

    from armlift_arms.interests import Shape


class ComiRecConfig(NeuralConfig):
    """The arm definition of `comirec`."""

    extractor: Literal["sa", "dr"] = Field(
        default="sa", description="How interests are found: self-attention, or dynamic routing."
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Step size of Adam.")
    interests: int = Field(default=4, ge=1, le=64, description="How many interests a unit has.")
    category: str | None = Field(
        default=None, min_length=1, description="Column of the catalogue that slates are spread over."
    )
    diversity: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="What an item's score loses for each item of its category above it.",
    )

    @model_validator(mode="after")
    def _diversity_needs_a_category(self) -> Self:
        if self.diversity and self.category is None:
            raise ValueError(f"diversity: {self.diversity} has no meaning without a category")
        return self

    def shape(self, items: int) -> "Shape":
        """Give the shape of a model over so many items."""
        from armlift_arms.interests import Shape

        return Shape(items=items, **self.model_dump(include=set(Shape._fields)))


class ComiRec(OneStepArm[ComiRecConfig]):
    """Score an item with the best of its similarities to the unit's interests.

    That is what every interest's own recall comes to, merged by score. The score is cosine / temperature, or
    the dot product. With `diversity`, slots are filled one by one, and a score is lowered by `diversity` for
    each item of the same category in the slots above: the paper's controllable aggregation. An item without a
    category is alone in its own; what is given by popularity is not spread.
    """

    config_class: ClassVar[type[ArmConfig]] = ComiRecConfig

    def _train(self, known: Known, warm: Warm | None) -> Tensors:
        from armlift_arms.interests import Interests, NextOfInterests
        from armlift_arms.next_item import train

        _categories(known.items, self.config.category)  # a column that is missing is told before training
        shape = self.config.shape(len(known.items))
        return train(self.config, known, warm, lambda: Interests(shape), NextOfInterests)

    def _learn(self, items: ItemTable, until: int, tensors: Tensors) -> None:
        categories = _categories(items, self.config.category)
        super()._learn(items, until, tensors | {"categories": categories})

    def _read(self, ids: list[str], tensors: Tensors) -> None:
        self._categories: Ints = tensors["categories"]
        super()._read(ids, tensors)

    def _load(self, weights: Tensors) -> None:
        if weights:
            import torch

            from armlift_arms.interests import Interests

            self._model = Interests(self.config.shape(len(weights["items.weight"])))
            load_weights(self._model, weights)
            with torch.inference_mode():
                self._vectors = self._model.vectors()

    def _scored(self, sequences: Sequence[Longs]) -> "Iterator[tuple[Longs, Tensor]]":
        from armlift_arms.interests import read

        for places, interests in read(self._model, sequences):
            yield places, self._model.scores(interests, self._vectors)

    def _ranking(self, request: Request, scores: Singles) -> Ranking:
        if not self.config.diversity:
            return super()._ranking(request, scores)
        scores = np.where(self._met, scores, scores[self._met].min())
        depth = depth_of(request, self.config)
        if request.candidates is None:
            return self._spread(scores, self._unseen(request), depth)
        known = {self._index_of[item] for item in request.candidates if item in self._index_of}
        items, lowered, *_ = self._spread(scores, np.array(sorted(known), dtype=np.int64), len(known))
        unknown = min([float(scores.min()), *lowered])
        return rank(request.candidates, dict(zip(items, lowered, strict=True)), unknown=unknown, depth=depth)

    def _unseen(self, request: Request) -> Longs:
        unseen = np.ones(len(self._ids), dtype=np.bool_)
        unseen[self._seen(request)] = False
        return np.flatnonzero(unseen)

    def _spread(self, scores: Singles, offered: Longs, depth: int) -> Ranking:
        """Rank the `offered` indices, ascending, spread over categories."""
        places, lowered = spread(scores[offered], self._categories[offered], self.config.diversity, depth)
        return Ranking([self._ids[index] for index in offered[places].tolist()], lowered.tolist())


def spread(scores: Singles, categories: Ints, diversity: float, depth: int) -> tuple[Longs, Singles]:
    """Fill slots one by one with the best score - diversity * (items of its category in the slots above).

    Gives the places, best first down to `depth`, and the lowered scores; a tie goes to the lower place.
    """
    pool = np.arange(len(scores))
    if depth < len(scores):
        best = top_k(scores, depth)
        # So many reach this even when lowered; what begins below it cannot be among them.
        floor = _lowered(scores[best], categories[best], diversity).min()
        pool = np.flatnonzero(scores >= floor)
    lowered = _lowered(scores[pool], categories[pool], diversity)
    chosen = top_k(lowered, depth)
    return pool[chosen], lowered[chosen]


def _lowered(scores: Singles, categories: Ints, diversity: float) -> Singles:
    """Lower each score for the better ones of its category.

    The better item of a category is picked first, so what an item loses depends on its rank there alone.
    """
    order = np.lexsort((-scores, categories))  # stable: of equal ones the first is the better
    ordered = categories[order]
    better = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    lowered: Singles = np.empty_like(scores)
    lowered[order] = scores[order] - diversity * better
    return lowered


def _categories(items: ItemTable, column: str | None) -> Ints:
    """Number the categories in a column, int32 [n]; nothing stands in the column: a category of its own."""
    if column is None or not len(items):
        return np.zeros(0, dtype=np.int32)
    if column not in items.columns:
        have = ", ".join(sorted(items.columns)) or "none"
        raise InputError(f"category: {column!r} is not a column of the catalogue, must be one of: {have}")
    number_of: dict[object, int] = {}
    # A new key for each item without a category keeps it apart from all others.
    keys = [object() if value is None else value for value in items.columns[column]]
    return np.array([number_of.setdefault(key, len(number_of)) for key in keys], dtype=np.int32)
