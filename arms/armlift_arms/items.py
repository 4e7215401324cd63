"""Item vectors, with which a model both reads what a unit met and scores what comes next: the two are tied.

Shapes: N items of the catalogue, D the width.
"""

from typing import ClassVar

import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from armlift_arms.rows import by_rows


class ItemModel(nn.Module):
    """A model over a catalogue; `temperature` None scores by dot product, else by cosine."""

    least: ClassVar[float] = 1e-12
    """The length below which what is scored against items counts as that long."""

    def __init__(self, items: int, dim: int, temperature: float | None) -> None:
        super().__init__()
        self.items = nn.Embedding(items, dim)
        self.temperature = temperature

    def vectors(self, items: Tensor | None = None) -> Tensor:
        """Give the vectors that queries are scored against, [n, D]: of `items` [n], or of the catalogue."""
        vectors = self.items.weight if items is None else self.items(items)
        return vectors if self.temperature is None else F.normalize(vectors, dim=-1)

    def scores(self, states: Tensor, vectors: Tensor) -> Tensor:
        """Score what has such `vectors`, [N, D], by states [B, D], -> [B, N]."""
        return by_rows(self.queries(states), vectors)

    def queries(self, states: Tensor) -> Tensor:
        """Scale states [..., D] so that their dot products with `vectors` are scores."""
        if self.temperature is None:
            return states
        return F.normalize(states, dim=-1, eps=self.least) / self.temperature
