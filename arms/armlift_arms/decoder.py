"""A causal Transformer decoder over items: the backbone of the neural arms.

What a token sees, and how far off, is told by distances: integers [T, S] or [B, T, S] from each of the T new
tokens to each of S = P + T tokens, P of them computed before; a token at a negative distance is not seen.
Shapes: B sequences, L positions, D the width, H heads, N items of the catalogue.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from armlift_arms.items import ItemModel
from armlift_arms.rows import Linear

_FILTER_SHARE = 0.7  # of a filtering block's output; attention has the rest
_FEED_FORWARD = 4  # width of the feed-forward layer, in D
_REMOTE = -4.0  # initial bias of remote distances: e^-4 of what one near counts
_INITIAL = 0.02  # standard deviation of initial weights


class Shape(NamedTuple):
    """What a decoder's tensors are made of; `temperature` None scores by dot product, else by cosine.

    Distances from `length` - 1 on are all one to it, unless there are `remote` distances more, for tokens of
    another kind; these count little at first. Without `positions` all distances of a kind are one.
    """

    items: int
    dim: int
    layers: int
    heads: int
    length: int
    dropout: float = 0.0
    item_dropout: float = 0.0
    backbone: Literal["plain", "filter"] = "filter"
    temperature: float | None = 0.05
    remote: int = 0
    positions: bool = True


class Decoder(ItemModel):
    """Turn items met into states that score what comes next.

    Post-norm blocks; order is told by a bias of attention for each distance (up to `length`) and head.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.items, shape.dim, shape.temperature)
        self.shape = shape
        self.norm = nn.LayerNorm(shape.dim)
        self.dropout = Dropout(shape.dropout)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.apply(_initialise)

    def embed(self, tokens: Tensor) -> Tensor:
        """Look items up, [B, L] -> [B, L, D]; in training a share of them is left out whole."""
        embedded: Tensor = self.items(tokens)
        if self.training and self.shape.item_dropout:
            kept = kept_at_random(tokens.shape, self.shape.item_dropout, tokens.device)
            embedded = embedded * kept.unsqueeze(-1)
        return embedded

    def forward(self, embedded: Tensor, distances: Tensor | None = None) -> Tensor:
        """Compute the state of each position, [B, L, D] -> [B, L, D]; by default from it and all before it.

        Sequences padded on the right need no mask: nothing at a position depends on what follows it.
        """
        return self.extend(
            embedded, ahead(embedded.shape[1], embedded.device) if distances is None else distances
        )[0]

    def extend(
        self, embedded: Tensor, distances: Tensor, past: Sequence["Past"] = (), *, last: bool = False
    ) -> tuple[Tensor, list["Past"]]:
        """Compute the states of tokens that follow `past`, [B, T, D], or of the `last` one alone, [B, 1, D].

        Gives them and the past with all tokens.
        """
        states: Tensor = self.dropout(self.norm(embedded))
        if not self.shape.positions:
            kinds = torch.where(distances < self.shape.length, 0, self.shape.length)
            distances = torch.where(distances < 0, distances, kinds)
        found = []
        for at, block in enumerate(self.blocks):
            if last and at == len(self.blocks) - 1:
                distances = distances[..., -1:, :]
            states, known = block(states, distances, past[at] if past else None)
            found.append(known)
        return states, found


class Dropout(nn.Module):
    """Leave a share of values out in training, and scale the others up (Srivastava et al. 2014).

    The share is rounded to 256ths: a byte a value is enough, and drawing them eight at a time takes a fifth
    of the time of `nn.Dropout` on a CPU, which drew numbers for an eighth of all training time.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Give values of the same shape."""
        if not self.training or not self.share:
            return x
        return x * (kept_at_random(x.shape, self.share, x.device) * (256 / (256 - _in_256ths(self.share))))


def kept_at_random(shape: Sequence[int], share: float, device: torch.device) -> Tensor:
    """Draw which values are kept where `share` of them is left out, bool of a shape."""
    n = math.prod(shape)
    drawn = torch.empty((n + 7) // 8, dtype=torch.int64, device=device).random_(-(2**63), None)
    return drawn.view(torch.uint8)[:n].view(*shape) >= _in_256ths(share)


def _in_256ths(share: float) -> int:
    return min(255, round(256 * share))


class Past(NamedTuple):
    """What a block keeps of tokens: its inputs [B, P, D], and their keys and values [B, H, P, D / H]."""

    inputs: Tensor
    keys: Tensor
    values: Tensor


class Block(nn.Module):
    """Attention, beside it the low-pass filter if the backbone has one, then a feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.attention_norm = nn.LayerNorm(shape.dim)
        self.filter = Filter(shape) if shape.backbone == "filter" else None
        self.filter_norm = nn.LayerNorm(shape.dim) if shape.backbone == "filter" else None
        self.widen = Linear(shape.dim, _FEED_FORWARD * shape.dim)
        self.narrow = Linear(_FEED_FORWARD * shape.dim, shape.dim)
        self.norm = nn.LayerNorm(shape.dim)
        self.dropout = Dropout(shape.dropout)

    def forward(self, x: Tensor, distances: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Mix new tokens [B, T, D] with what they see.

        Gives the last ones, those `distances` has a row for, [B, R, D], and the past with all new tokens.
        """
        attended, keys, values = self.attention(x, distances, past)
        inputs = x if past is None else torch.cat([past.inputs, x], dim=1)
        x = x[:, -distances.shape[-2] :]
        mixed: Tensor = self.attention_norm(x + self.dropout(attended))
        if self.filter is not None and self.filter_norm is not None:
            smooth = self.filter_norm(x + self.dropout(self.filter(x, distances, inputs)))
            mixed = _FILTER_SHARE * smooth + (1 - _FILTER_SHARE) * mixed
        rest: Tensor = self.dropout(self.narrow(F.gelu(self.widen(mixed))))
        return self.norm(mixed + rest), Past(inputs, keys, values)


class Attention(nn.Module):
    """Self-attention with a learned bias for each head and distance."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.joint = Linear(shape.dim, 3 * shape.dim)
        self.out = Linear(shape.dim, shape.dim)
        self.bias = nn.Parameter(_for_distances(shape, shape.heads))

    def forward(self, x: Tensor, distances: Tensor, past: Past | None) -> tuple[Tensor, Tensor, Tensor]:
        """Give what the last new tokens of [B, T, D] attend to, [B, R, D], and all keys and values.

        `distances` has a row for each of the last R; keys and values are [B, H, S, D / H].
        """
        b, length, d = x.shape
        joint = self.joint(x).view(b, length, 3, self.heads, d // self.heads)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # each [B, H, T, D / H]
        if past is not None:
            key, value = torch.cat([past.keys, key], dim=2), torch.cat([past.values, value], dim=2)
        mask = _by_distance(self.bias, distances)  # [B or 1, H, R, S]
        query = query[:, :, -mask.shape[2] :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(b, -1, d))
        return projected, key, value


class Filter(nn.Module):
    """A causal low-pass filter, the same for all sequences, and a share of what it takes away.

    The inductive bias of BSARec (arXiv 2312.10325), with a softmax over the distances to earlier positions in
    place of the Fourier transform, which would let each position see those after it.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.logits = nn.Parameter(_for_distances(shape, 1))
        self.high = nn.Parameter(torch.full((shape.dim,), 0.5))

    def forward(self, x: Tensor, distances: Tensor, inputs: Tensor) -> Tensor:
        """Filter new tokens [B, T, D] over all `inputs` [B, S, D], -> [B, T, D]."""
        weights = _by_distance(self.logits, distances)[:, 0].softmax(dim=-1)  # [B or 1, T, S]
        low = weights @ inputs
        return low + self.high * (x - low)


def _for_distances(shape: Shape, heads: int) -> Tensor:
    """Make the initial biases of all distances, [distances, heads]."""
    near, remote = torch.zeros(shape.length, heads), torch.full((shape.remote, heads), _REMOTE)
    return torch.cat([near, remote])


def ahead(length: int, device: torch.device) -> Tensor:
    """Give the distances in a plain sequence, [L, L]: row - column, negative to what is ahead."""
    places = torch.arange(length, device=device)
    return places[:, None] - places


def _by_distance(values: Tensor, distances: Tensor) -> Tensor:
    """Look values [distances, H] up, -> [B or 1, H, T, S], -inf where the distance is negative."""
    known = distances.clamp(min=0, max=len(values) - 1)
    laid = F.embedding(known, values).masked_fill(distances.unsqueeze(-1) < 0, float("-inf"))
    return laid.movedim(-1, -3).reshape(-1, values.shape[1], *distances.shape[-2:])


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_INITIAL)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
