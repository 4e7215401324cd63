"""SASRec: a causal Transformer over what a unit met tells what it meets next (arXiv 1808.09781)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from armlift.arm import ArmConfig
from armlift.artefacts import Tensors
from armlift_arms.known import Known
from armlift_arms.neural import NeuralConfig, OneStepArm, Warm, load_weights
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
    item_dropout: float = Field(
        default=0.2, ge=0, lt=1, description="Share of input items left out whole in training."
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


class SasRec(OneStepArm[DecoderConfig]):
    """Score an item with its similarity to the state after the unit's last `length` items.

    The score is cosine / temperature, or the dot product.
    """

    config_class: ClassVar[type[ArmConfig]] = DecoderConfig

    def _train(self, known: Known, warm: Warm | None) -> Tensors:
        from armlift_arms.decoder import Decoder
        from armlift_arms.next_item import NextItem, train

        shape = self.config.shape(len(known.items))
        return train(self.config, known, warm, lambda: Decoder(shape), NextItem)

    def _load(self, weights: Tensors) -> None:
        if weights:
            import torch

            from armlift_arms.decoder import Decoder

            self._decoder = Decoder(self.config.shape(len(weights["items.weight"])))
            load_weights(self._decoder, weights)
            with torch.inference_mode():
                self._vectors = self._decoder.vectors()

    def _scored(self, sequences: Sequence[Longs]) -> "Iterator[tuple[Longs, Tensor]]":
        from armlift_arms.serving import read

        for rows in read(self._decoder, sequences, lambda tokens, _: self._decoder.embed(tokens)):
            yield rows.places, self._decoder.scores(rows.states, self._vectors)
