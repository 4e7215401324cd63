"""SASRec: a causal Transformer over what a unit met tells what it meets next (arXiv 1808.09781)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from armlift.arm import ArmConfig
from armlift.artefacts import Tensors
from armlift.fitting import record_figures
from armlift.slates import Ranking
from armlift_arms.neural import (
    Asked,
    Known,
    NeuralArm,
    NeuralConfig,
    Warm,
    load_weights,
    start_from,
    weights_of,
)
from armlift_arms.windows import Longs

if TYPE_CHECKING:
    from torch import Tensor

    from armlift_arms.decoder import Shape


class DecoderConfig(NeuralConfig):
    """What the definitions of arms with a decoder hold."""

    dim: int = Field(default=128, ge=1, le=4096, description="Width of item vectors and states.")
    backbone: Literal["plain", "filter"] = Field(
        default="filter", description="Attention alone, or attention beside a causal low-pass filter."
    )
    positions: bool = Field(default=True, description="Whether the model tells how far off an item stands.")
    layers: int = Field(default=2, ge=1, le=64, description="How many blocks follow each other.")
    heads: int = Field(default=2, ge=1, le=64, description="Attention heads of a block; divides dim.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Share of activations left out in training.")
    item_dropout: float = Field(
        default=0.2, ge=0, lt=1, description="Share of input items left out whole in training."
    )
    temperature: float | None = Field(
        default=0.05,
        gt=0,
        allow_inf_nan=False,
        description="Scores are cosines over this; null: scores are dot products.",
    )

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads: {self.heads} must divide dim, {self.dim}")
        return self

    def shape(self, items: int) -> "Shape":
        """Give the shape of a decoder over so many items."""
        from armlift_arms.decoder import Shape

        return Shape(items=items, **self.model_dump(include=set(Shape._fields)))


class SasRec(NeuralArm[DecoderConfig]):
    """Score an item with its similarity to the state after the unit's last `length` items.

    The score is cosine / temperature, or the dot product.
    """

    config_class: ClassVar[type[ArmConfig]] = DecoderConfig

    def _train(self, known: Known, warm: Warm | None) -> Tensors:
        from armlift_arms.decoder import Decoder
        from armlift_arms.loop import run, seeded
        from armlift_arms.next_item import NextItem
        from armlift_arms.windows import split

        cut = split(known.sequences, self.config.length, self.config.validation_share)
        if not len(cut.windows):
            return {}
        with seeded(self.config.seed, self.config.threads):
            decoder = Decoder(self.config.shape(len(known.items)))
            start_from(decoder, warm)
        outcome = run(NextItem(decoder, known.sequences, cut, self.config.negatives), self._recipe(), "train")
        record_figures(outcome.figures | {"epochs": outcome.epochs, "best_epoch": outcome.best_epoch})
        return weights_of(decoder)

    def _load(self, weights: Tensors) -> None:
        if weights:
            from armlift_arms.decoder import Decoder
            from armlift_arms.loop import device

            self._decoder = Decoder(self.config.shape(len(weights["items.weight"])))
            load_weights(self._decoder, weights)
            self._decoder.to(device()).eval()

    def _rankings(self, asked: Sequence[Asked]) -> list[Ranking]:
        import torch

        from armlift_arms.serving import read

        found: dict[int, Ranking] = {}
        with torch.inference_mode():
            vectors = self._decoder.vectors()
            for rows in read(self._decoder, [one.sequence for one in asked], self._embed):
                scores = (self._decoder.queries(rows.states) @ vectors.T).cpu().numpy()
                for place, row in zip(rows.places.tolist(), scores, strict=False):
                    found[place] = self._ranking(asked[place].request, row)
        return [found[place] for place in range(len(asked))]

    def _embed(self, tokens: "Tensor", places: Longs) -> "Tensor":
        """Look tokens [B, L] up, whatever the sequences' places: there is nothing of the unit's own."""
        return self._decoder.embed(tokens)
