"""RecGPT's model: behaviours and the model's own replies in one sequence (arXiv 2404.08675).

A turn is a behaviour and the replies to it: items the model itself gives, called prompts. A reply carries the
behaviour it answers; beside it, its own item weighs nothing until training finds a use for it, so that a
conversation starts as the decoder alone. A token sees the behaviours up to its own turn, and the replies
before it of the last turns, its own counted. To a behaviour the distance is that of turns; to replies
distances are counted apart, in replies within a turn, in turns to those before.

Shapes: R rows, T turns, G replies a turn, S tokens so far, N items, D the width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from armlift_arms.decoder import Decoder, Shape
from armlift_arms.rows import Linear
from armlift_arms.serving import Rows

BEHAVIOUR, REPLY = 0, 1
UNKNOWN = 0
"""The row of units that training did not know."""


class Parts(NamedTuple):
    """What tells tokens apart beside the item; each can be left out.

    `ahead` is the number of heads that tell the items after the next one, for prompts made in one pass.
    """

    units: int | None
    segments: bool
    ahead: int = 0


class Conversation(nn.Module):
    """A decoder whose tokens also tell whose they are and who gave them."""

    def __init__(self, shape: Shape, parts: Parts) -> None:
        """Make a model that starts as the decoder alone: gate and vectors of units and segments are 0."""
        super().__init__()
        self.decoder = Decoder(shape._replace(remote=shape.length))
        self.users = None if parts.units is None else _zeros(parts.units + 1, shape.dim)
        self.segments = _zeros(2, shape.dim) if parts.segments else None
        self.gate = nn.Parameter(torch.zeros(shape.dim))
        self.heads = nn.ModuleList([Linear(shape.dim, shape.dim) for _ in range(parts.ahead)])

    def behaviours(self, tokens: Tensor, units: Tensor) -> Tensor:
        """Look behaviours [R, T] of units [R] up, -> [R, T, D]."""
        embedded = self.decoder.embed(tokens)
        if self.users is not None:
            embedded = embedded + self.users(units)[:, None]
        return embedded if self.segments is None else embedded + self.segments.weight[BEHAVIOUR]

    def replies(self, tokens: Tensor, answered: Tensor) -> Tensor:
        """Look replies [..., G] to behaviours that were looked up, [..., D], up, -> [..., G, D]."""
        embedded = answered.unsqueeze(-2) + self.gate * self.decoder.embed(tokens)
        if self.segments is None:
            return embedded
        return embedded + (self.segments.weight[REPLY] - self.segments.weight[BEHAVIOUR])


def _zeros(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim)
    nn.init.zeros_(table.weight)
    return table


class View(NamedTuple):
    """What is in view: the first `prompts` replies of the last `turns` turns; near distances end at `length`.

    Further replies are those of recall steps, which later turns do not see.
    """

    turns: int
    prompts: int
    length: int


def distances_of(turns: Tensor, offsets: Tensor, new: int, view: View) -> Tensor:
    """Give the distances of the last `new` tokens to all, [new, S]; those to replies start at `view.length`.

    `turns` and `offsets`, int64 [S], place the tokens; the offset of a behaviour is 0.
    """
    turn, offset = turns[-new:, None], offsets[-new:, None]
    apart = turn - turns
    within = torch.where(apart == 0, offset - offsets, apart)
    ahead = (apart < 0) | (within < 0)
    replies = view.length + within.clamp(0, view.length - 1)
    known = torch.where(offsets > 0, replies, apart.clamp(0, view.length - 1))
    passed = (offsets > 0) & (apart >= view.turns) | (offsets > view.prompts) & (apart > 0)
    return known.masked_fill(ahead | passed, -1)


def interleaved(turns: int, replies: int, view: View, device: torch.device) -> Tensor:
    """Give the distances of turns with so many replies each, L = turns (1 + replies), [L, L]."""
    turn = torch.arange(turns, device=device).repeat_interleave(1 + replies)
    offset = torch.arange(1 + replies, device=device).repeat(turns)
    return distances_of(turn, offset, len(turn), view)


class Said(NamedTuple):
    """A prompt to the behaviour of a turn: its place among the replies; items and scores of all rows, [R]."""

    turn: int
    step: int
    items: Tensor
    scores: Tensor


class Talk:
    """Conversations that go on, token by token, from rows that were read.

    `states` [R, D] are those after the last token; `said` int64 [R, G] are the replies to the last behaviour,
    `first` [R, D] the states after it. `prompts` are those said so far.
    """

    def __init__(self, model: Conversation, rows: Rows, units: Tensor, view: View) -> None:
        """Go on from `rows`, whose units are `units` [R]."""
        self._model, self._units, self._view = model, units, view
        self._past, self._begins = rows.past, rows.begins
        self._turns = torch.arange(rows.past[0].inputs.shape[1], device=units.device)
        self._offsets = torch.zeros_like(self._turns)
        self.states = self.first = rows.states
        self._answered = model.behaviours(rows.tokens[:, len(self._turns) - 1 : len(self._turns)], units)[
            :, 0
        ]
        self.prompts: list[Said] = []
        self.said = torch.zeros((len(units), 0), dtype=torch.int64, device=units.device)

    def hear(self, tokens: Tensor) -> None:
        """Append a behaviour to each row, [R]; a new turn begins."""
        self._answered = self._model.behaviours(tokens[:, None], self._units)[:, 0]
        self.said = self.said[:, :0]
        self._append(self._answered, self._turns[-1:] + 1)
        self.first = self.states

    def say(self, tokens: Tensor, scores: Tensor | None = None) -> None:
        """Append a reply to each row, [R]; one with scores, [R], is a prompt."""
        self.said = torch.cat([self.said, tokens[:, None]], dim=1)
        if scores is not None:
            self.prompts.append(Said(int(self._turns[-1]), self.said.shape[1] - 1, tokens, scores))
        self._append(self._model.replies(tokens[:, None], self._answered)[:, 0], self._turns[-1:])

    def _append(self, embedded: Tensor, turn: Tensor) -> None:
        """Append a token of the turn [1] to each row, [R, D]."""
        self._turns = torch.cat([self._turns, turn])
        self._offsets = torch.cat([self._offsets, torch.full_like(turn, self.said.shape[1])])
        distances = distances_of(self._turns, self._offsets, 1, self._view)  # [1, S]
        before = self._turns < self._begins[:, None]  # [R, S]
        before[:, -1] = False
        distances = distances.expand(len(before), 1, -1).masked_fill(before[:, None], -1)
        states, self._past = self._model.decoder.extend(embedded[:, None], distances, self._past)
        self.states = states[:, -1]
