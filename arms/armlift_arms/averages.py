"""Averaged weights: what the steps of a training move about, and the best of them so far."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """The weights of a model, their exponential moving averages over steps, and the averages that are kept.

    All three begin as the model's weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights: list[Tensor] = list(model.parameters())
        self._means = [weight.detach().clone() for weight in self.weights]
        self._kept = [mean.clone() for mean in self._means]
        self.steps = 0

    def move(self, horizon: float) -> None:
        """Move the averages towards the weights; at first faster, so that they do not lag from the start."""
        self.steps += 1
        share = max(1 / horizon, 9 / (self.steps + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self._means, self.weights, share)

    def keep(self) -> None:
        """Keep the averages as they are now."""
        _copy(self._means, self._kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the averages for its weights, for a while."""
        live = [weight.detach().clone() for weight in self.weights]
        _copy(self._means, self.weights)
        yield
        _copy(live, self.weights)

    def settle(self) -> None:
        """Give the model what was kept, for good."""
        _copy(self._kept, self.weights)

    def tensors(self) -> dict[str, Tensor]:
        """Name all tensors; writing to them changes the state."""
        found: dict[str, Tensor] = {}
        for kind, of in (("weights", self.weights), ("means", self._means), ("kept", self._kept)):
            found |= {f"{kind}.{at}": tensor.detach() for at, tensor in enumerate(of)}
        return found


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    """Write tensors over others of the same shapes."""
    with torch.no_grad():
        torch._foreach_copy_(target, source)
