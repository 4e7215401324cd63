"""Several interests of a unit, from the items it met: the model of ComiRec (arXiv 2005.09347) and its task.

A query is a prefix of a sequence, named by the place of its last item, and sees that item and all before it.
The interests of all prefixes of a window are computed at once, so that each of its items is a target.
Shapes: B sequences, S places, T queries a sequence, K interests, D the width, N items of the catalogue.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from armlift_arms.items import ItemModel
from armlift_arms.next_item import NextTask
from armlift_arms.rows import ROWS
from armlift_arms.serving import of_like_length
from armlift_arms.windows import Longs

_HIDDEN = 4  # width of self-attention's hidden layer, in D, as in the paper
_ITERATIONS = 3  # of routing, as in the paper
_INITIAL = 0.02  # standard deviation of initial vectors
_DEVIATION = 0.1  # of initial maps from the identity, in standard deviations of a usual random map
_LEAST = 1e-6  # length below which a vector counts as zero


class Shape(NamedTuple):
    """What the tensors are made of; `temperature` None scores by dot product, else by cosine.

    Distances from `length` - 1 on are all one to it.
    """

    items: int
    dim: int
    length: int
    extractor: Literal["sa", "dr"]
    interests: int
    dropout: float = 0.0
    item_dropout: float = 0.0
    temperature: float | None = 0.05


class Interests(ItemModel):
    """Turn items met into K vectors, each of which scores what comes next."""

    least = _LEAST

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.items, shape.dim, shape.temperature)
        self.shape = shape
        nn.init.normal_(self.items.weight, std=_INITIAL)
        self.extractor = (SelfAttention if shape.extractor == "sa" else Routing)(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Compute the interests of prefixes, [B, T, K, D].

        `tokens` [B, S] are padded on the right; `ends` [B or 1, T] are the places of their last items.
        """
        embedded: Tensor = self.items(tokens)
        if self.training and self.shape.item_dropout:
            kept = torch.rand(tokens.shape, device=tokens.device) >= self.shape.item_dropout
            embedded = embedded * kept.unsqueeze(-1)
        interests: Tensor = self.extractor(self.dropout(embedded), distances(ends, tokens.shape[1]))
        return interests

    def scores(self, interests: Tensor, vectors: Tensor) -> Tensor:
        """Score the catalogue (its `vectors`, [N, D]) by each row's best interest, [B, K, D] -> [B, N]."""
        queries = self.queries(interests)
        best = queries[:, 0] @ vectors.T
        for interest in range(1, self.shape.interests):
            torch.maximum(best, queries[:, interest] @ vectors.T, out=best)
        return best


def distances(ends: Tensor, places: int) -> Tensor:
    """Tell how far each place stands before each end, [B, T] -> [B, T, S]; behind it: negative."""
    return ends.unsqueeze(-1) - torch.arange(places, device=ends.device)


class SelfAttention(nn.Module):
    """ComiRec-SA: an interest is an average of item vectors, with weights of its own over the positions.

    weights = softmax over positions of W2 tanh(W1 (E + position)); positions count back from the query, so
    that the latest item is told from others in a sequence of any length.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden = _HIDDEN * shape.dim
        self.positions = nn.Parameter(torch.randn(shape.length, shape.dim) * _INITIAL)
        self.hidden = nn.Linear(shape.dim, hidden, bias=False)
        self.out = nn.Linear(hidden, shape.interests, bias=False)

    def weights(self, embedded: Tensor, away: Tensor) -> Tensor:
        """Weigh the places for each query and interest, [B, T, K, S]; what follows the query weighs 0."""
        # W1 is linear, so that items and positions are multiplied once each, not once a pair.
        at = F.embedding(away.clamp(min=0, max=len(self.positions) - 1), self.hidden(self.positions))
        logits: Tensor = self.out(torch.tanh(self.hidden(embedded).unsqueeze(1) + at))  # [B, T, S, K]
        return logits.masked_fill((away < 0).unsqueeze(-1), float("-inf")).softmax(dim=2).transpose(2, 3)

    def forward(self, embedded: Tensor, away: Tensor) -> Tensor:
        """Average items [B, S, D] at distances [B or 1, T, S] from the queries, -> [B, T, K, D]."""
        weights = self.weights(embedded, away)
        return (weights.flatten(1, 2) @ embedded).view(*weights.shape[:3], -1)


class Routing(nn.Module):
    """ComiRec-DR: an interest is a capsule; items are routed to capsules by how well they agree.

    Each item is mapped for each interest, by a matrix of its position; a softmax over interests says to which
    it goes. Its logits start at 0, so the same items give the same interests, and grow by the products of
    mapped items and interests; only the last of the iterations is learnt from.

    Two additions, without which it learns little from few data: maps start near the identity, which weight
    decay draws them back to, and what an item sends is weighed by its distance from the query.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        k, d = shape.interests, shape.dim
        # What is added to the identity to give the maps, all interests of a position side by side.
        self.deviations = nn.Parameter(torch.randn(shape.length, d, k * d) * _DEVIATION / d**0.5)
        self.nearness = nn.Parameter(torch.zeros(shape.length, 1))  # logarithms, by distance

    def forward(self, embedded: Tensor, away: Tensor) -> Tensor:
        """Route items [B, S, D] at distances [B or 1, T, S] from the queries, -> [B, T, K, D]."""
        places, d = embedded.shape[1:]
        mapped = embedded.transpose(0, 1) @ self.maps(places)  # [S, B, K D]
        mapped = mapped.view(*mapped.shape[:2], -1, d).permute(1, 2, 0, 3).contiguous()  # [B, K, S, D]
        near = F.embedding(away.clamp(min=0, max=len(self.nearness) - 1), self.nearness).squeeze(-1)
        share = near.masked_fill(away < 0, float("-inf")).exp().unsqueeze(1)  # [B or 1, 1, T, S]
        logits = self._agreement(mapped.detach(), share.detach())
        return squash((couplings(logits) * share) @ mapped).transpose(1, 2)

    def maps(self, places: int) -> Tensor:
        """Give the maps of the first positions, [places, D, K D]."""
        d, width = self.deviations.shape[1:]
        return self.deviations[:places] + torch.eye(d, device=self.deviations.device).repeat(1, width // d)

    @torch.no_grad()
    def _agreement(self, mapped: Tensor, share: Tensor) -> Tensor:
        """Iterate all but the last time; gives the logits, [B, K, T, S]."""
        logits = mapped.new_zeros(*mapped.shape[:2], *share.shape[2:])
        for _ in range(_ITERATIONS - 1):
            interests = squash((couplings(logits) * share) @ mapped)
            logits = logits + interests @ mapped.transpose(2, 3)
        return logits


def couplings(logits: Tensor) -> Tensor:
    """Share each item out among the interests, [B, K, T, S] -> [B, K, T, S]."""
    return logits.softmax(dim=1)


def squash(vectors: Tensor) -> Tensor:
    """Shrink vectors [..., D] to lengths below 1, long ones to nearly 1, keeping their directions."""
    square = vectors.square().sum(dim=-1, keepdim=True)
    return vectors * (square / (1 + square) / (square + _LEAST**2).sqrt())


class NextOfInterests(NextTask[Interests]):
    """Tell each next item by the interest closest to it."""

    def _states(self, tokens: Tensor) -> Tensor:
        ends = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        interests: Tensor = self.model(tokens, ends)  # [B, L, K, D]
        return interests

    def _queries(self, states: Tensor, right: Tensor) -> Tensor:
        return closest(self.model.queries(states), right)

    def _scores(self, tokens: Tensor, last: Tensor) -> Tensor:
        return self.model.scores(self.model(tokens, last.unsqueeze(1))[:, 0], self.model.vectors())


def closest(queries: Tensor, vectors: Tensor) -> Tensor:
    """Pick of each row's interests, [n, K, D], the one that scores the row's vector, [n, D], highest."""
    best = (queries.detach() @ vectors.detach().unsqueeze(2)).squeeze(2).argmax(dim=1)
    return queries[torch.arange(len(best), device=best.device), best]


def read(model: Interests, sequences: Sequence[Longs]) -> Iterator[tuple[Longs, Tensor]]:
    """Compute the interests after sequences of 1 to `length` items: their places, and [ROWS, K, D].

    They are computed `ROWS` at a time, in shapes that each one's length gives, so that an answer does not
    depend on the batch it stands in, to the bit; rows without a sequence come last.
    """
    device = model.items.weight.device
    for places, width in of_like_length(sequences, model.shape.length, ROWS):
        tokens = np.zeros((ROWS, width), dtype=np.int64)
        ends = np.zeros((ROWS, 1), dtype=np.int64)
        for row, place in enumerate(places.tolist()):
            tokens[row, : len(sequences[place])] = sequences[place]
            ends[row] = len(sequences[place]) - 1
        interests = model(torch.from_numpy(tokens).to(device), torch.from_numpy(ends).to(device))
        yield places, interests[:, 0]
