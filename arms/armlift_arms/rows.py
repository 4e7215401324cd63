"""Matrix products that round alike however many rows there are.

A product is rounded by its shape. So that an answer does not depend on the batch it stands in, to the bit,
outside training rows are multiplied `ROWS` at a time, as one batched product.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

ROWS = 8
"""Rows multiplied at a time: more are faster together, fewer answer a single request sooner."""


class Linear(nn.Linear):
    """A linear layer over sequences, which outside training are multiplied `ROWS` at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, ..., I] -> [B, ..., O]."""
        return F.linear(x, self.weight, self.bias) if self.training else by_rows(x, self.weight, self.bias)


def by_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply x [B, ..., I] by a weight [O, I], -> [B, ..., O]; `ROWS` at a time where that divides B."""
    if len(x) % ROWS:
        return F.linear(x, weight, bias)
    blocks = x.reshape(len(x) // ROWS, -1, x.shape[-1])
    weights = weight.T.expand(len(blocks), -1, -1)
    product = torch.bmm(blocks, weights) if bias is None else torch.baddbmm(bias, blocks, weights)
    return product.view(*x.shape[:-1], len(weight))
