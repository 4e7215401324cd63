"""RecGPT's model: behaviours and the model's own replies in one sequence (arXiv 2404.08675).

A turn is a behaviour and the replies to it: items the model itself gives, called prompts. A reply sees the
behaviours up to its own, the earlier replies of its turn, and those of the last `turns` turns before, this
one counted; behaviours see what was before their turn likewise. The distance between tokens is that of their
turns, and a reply is one further from all but the later replies of its turn.

Shapes: R rows, T turns, G replies a turn, S tokens so far, N items, D the width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from armlift_arms.decoder import Decoder, Shape
from armlift_arms.serving import Rows

BEHAVIOUR, REPLY = 0, 1
UNKNOWN = 0
"""The row of units that training did not know."""


class Parts(NamedTuple):
    """What tells tokens apart beside the item; each can be left out."""

    units: int | None
    segments: bool


class Conversation(nn.Module):
    """A decoder whose tokens also tell whose they are and who gave them."""

    def __init__(self, shape: Shape, parts: Parts) -> None:
        """Make a model that starts as the decoder alone: vectors of units and segments are 0."""
        super().__init__()
        self.decoder = Decoder(shape)
        self.users = None if parts.units is None else _zeros(parts.units + 1, shape.dim)
        self.segments = _zeros(2, shape.dim) if parts.segments else None

    def embed(self, tokens: Tensor, segments: Tensor | int, units: Tensor) -> Tensor:
        """Look tokens [R, ...] up, -> [R, ..., D]; `segments` is one for all or like tokens, `units` [R]."""
        embedded = self.decoder.embed(tokens)
        if self.users is not None:
            embedded = embedded + self.users(units).view(len(units), *[1] * (tokens.dim() - 1), -1)
        if self.segments is not None:
            known = torch.as_tensor(segments, device=tokens.device)
            embedded = embedded + self.segments(known)
        return embedded


def _zeros(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim)
    nn.init.zeros_(table.weight)
    return table


def distances_of(turns: Tensor, offsets: Tensor, new: int, kept: int) -> Tensor:
    """Give the distances of the last `new` tokens to all, [new, S]; of replies `kept` turns are seen.

    `turns` and `offsets`, int64 [S], place the tokens; the offset of a behaviour is 0.
    """
    turn, offset = turns[-new:, None], offsets[-new:, None]
    same = turns == turn
    apart = turn + offset - turns - torch.where(same, offsets, 0)
    hidden = (offsets > 0) & (turn - turns >= kept)
    return apart.masked_fill(hidden | (turns > turn), -1)


def interleaved(turns: int, replies: int, kept: int, device: torch.device) -> Tensor:
    """Give the distances in a sequence of turns with so many replies each, [L, L], L = turns (1 + replies)."""
    turn = torch.arange(turns, device=device).repeat_interleave(1 + replies)
    offset = torch.arange(1 + replies, device=device).repeat(turns)
    return distances_of(turn, offset, len(turn), kept)


class Talk:
    """Conversations that go on, token by token, from rows that were read.

    `states` [R, D] are those after the last token; `replies` int64 [R, K] are those to the last behaviour.
    """

    def __init__(self, model: Conversation, rows: Rows, units: Tensor, kept: int) -> None:
        """Go on from `rows`, whose units are `units` [R]; of replies `kept` turns are seen."""
        self._model, self._units, self._kept = model, units, kept
        self._past, self._begins = rows.past, rows.begins
        self._turns = torch.arange(rows.past[0].inputs.shape[1], device=units.device)
        self._offsets = torch.zeros_like(self._turns)
        self.states = rows.states
        self.replies = torch.zeros((len(units), 0), dtype=torch.int64, device=units.device)

    def say(self, tokens: Tensor, segment: int) -> None:
        """Append a token to each row, [R]; `states` are then those after it."""
        turn = self._turns[-1:] + (segment == BEHAVIOUR)
        offset = self._offsets[-1:] + 1 if segment == REPLY else torch.zeros_like(turn)
        self._turns = torch.cat([self._turns, turn])
        self._offsets = torch.cat([self._offsets, offset])
        distances = distances_of(self._turns, self._offsets, 1, self._kept)  # [1, S]
        before = self._turns < self._begins[:, None]  # [R, S]
        before[:, -1] = False
        distances = distances.expand(len(before), 1, -1).masked_fill(before[:, None], -1)
        embedded = self._model.embed(tokens[:, None], segment, self._units)
        states, self._past = self._model.decoder.extend(embedded, distances, self._past)
        self.states = states[:, -1]
