"""RecGPT's recall: replies to what the unit did, then items, each step after the best item of the last."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from armlift_arms.conversation import UNKNOWN, Conversation, Talk, View
from armlift_arms.serving import Rows, read
from armlift_arms.windows import Ints, Longs

Flags = npt.NDArray[np.bool_]


class Replies(NamedTuple):
    """Replies to every behaviour of `Sequences.items` (P of them), the last of them for recall steps.

    `items` int32 [P, G]; `missed` bool [P, steps]: no earlier step recalled the next item.
    """

    items: Ints
    missed: Flags

    @classmethod
    def none(cls, behaviours: int) -> Self:
        """Give none to so many behaviours, before a single recall step."""
        return cls(np.zeros((behaviours, 0), dtype=np.int32), np.broadcast_to(np.True_, (behaviours, 1)))


class Plan(NamedTuple):
    """How the model answers: K replies, then recall steps of so many items; replies of `turns` are seen.

    The replies are generated one after another, or all from the state after the behaviour (`parallel`). Each
    is the best one, or drawn from the fewest items that have `top_p` of the probability together. A recall
    step follows the first item of the one before as a reply, or, `heard`, as a behaviour of the unit.
    """

    replies: int
    recall: tuple[int, ...]
    turns: int
    parallel: bool = False
    top_p: float | None = None
    heard: bool = False

    @property
    def generated(self) -> int:
        """Count the items a turn generates: replies, and the first of each recall step but the last."""
        return self.replies + len(self.recall) - 1

    def view(self, length: int) -> View:
        """Say what tokens see where near distances end at `length`."""
        return View(self.turns, self.replies, length)

    @property
    def unread(self) -> int:
        """Count the last behaviours that follow replies to earlier ones."""
        return self.turns - 1 if self.replies else 0


Value = TypeVar("Value", covariant=True)


class ByNumber(Protocol[Value]):
    """Values of sequences, by their numbers."""

    def __getitem__(self, number: int, /) -> Value:
        """Give that of one sequence."""
        ...


class Known(NamedTuple):
    """What is known of n sequences beforehand: [length, K] each.

    `given` are replies that are not generated, -1 where there is none; `chances` are numbers in [0, 1) that
    draw the others, where they are drawn.
    """

    given: ByNumber[Longs]
    chances: ByNumber[npt.NDArray[np.float64]] | None = None

    def part(self, numbers: Sequence[tuple[int, int, int]]) -> "Known":
        """Take the rows from one place to another of some sequences: (sequence, start, end) each."""
        given = [self.given[number][start:end] for number, start, end in numbers]
        if self.chances is None:
            return Known(given)
        return Known(given, [self.chances[number][start:end] for number, start, end in numbers])


class Recall:
    """How a conversation model recalls: it replies to rows that were read, then scores items step by step."""

    def __init__(self, model: Conversation, plan: Plan, closed: Tensor) -> None:
        """Answer by `plan`; `closed`, bool [N], marks the items that are never generated."""
        self._model, self._plan = model, plan
        self._vectors = model.decoder.vectors()
        self._closed = torch.zeros(len(closed), device=closed.device).masked_fill(closed, float("-inf"))

    def conversations(
        self,
        sequences: Sequence[Longs],
        units: Longs,
        known: Known | None = None,
        *,
        rows: int | None = None,
    ) -> Iterator[tuple[Rows, Talk]]:
        """Read n sequences of units, [n] rows of their table, and reply; see `serving.read`."""
        device = self._vectors.device

        def embed(tokens: Tensor, places: Longs) -> Tensor:
            return self._model.behaviours(tokens, torch.from_numpy(units[places]).to(device))

        for found in read(self._model.decoder, sequences, embed, rows=rows, unread=self._plan.unread):
            given, numbers = self._laid(found, known)
            talk = self._talk(found, torch.from_numpy(units[found.filled]).to(device), given, numbers)
            yield found, talk

    def _laid(self, rows: Rows, known: Known | None) -> tuple[Tensor, Tensor | None]:
        """Lay what is known out as the tokens of rows are, [R, L, K] each."""
        shape = (*rows.tokens.shape, self._plan.replies)
        given = np.full(shape, -1, dtype=np.int64)
        numbers = np.zeros(shape) if known is not None and known.chances is not None else None
        for row, place in enumerate(rows.filled.tolist()):
            if known is not None:
                start = shape[1] - len(known.given[place])
                given[row, start:] = known.given[place]
                if known.chances is not None and numbers is not None:
                    numbers[row, start:] = known.chances[place]
        device = rows.tokens.device
        laid = torch.from_numpy(given).to(device)
        return laid, None if numbers is None else torch.from_numpy(numbers).to(device)

    def _talk(self, rows: Rows, units: Tensor, given: Tensor, numbers: Tensor | None) -> Talk:
        """Read what is left of the rows, and reply to each behaviour in view, the last one too."""
        talk = Talk(self._model, rows, units, self._plan.view(self._model.decoder.shape.length))
        first = rows.past[0].inputs.shape[1]
        for column in range(first, rows.tokens.shape[1] + 1):
            drawn = None if numbers is None else numbers[:, column - 1]
            self._reply(talk, rows.tokens[:, :column], given[:, column - 1], drawn)
            if column < rows.tokens.shape[1]:
                talk.hear(rows.tokens[:, column])
        return talk

    def scores(self, talk: Talk) -> Tensor:
        """Score the catalogue by the states of a conversation, [R, N]."""
        return self._scores(talk.states)

    def _scores(self, states: Tensor) -> Tensor:
        return self._model.decoder.scores(states, self._vectors)

    def go_on(self, talk: Talk, met: Tensor, first: Tensor) -> Tensor:
        """Go on from a recall step, whose first items are `first` [R], to the next.

        A reply is said; a behaviour is heard, and replied to with the best items. Gives what the units have
        met by then, given what they had before, [R, L].
        """
        if not self._plan.heard:
            talk.say(first)
            return met
        talk.hear(first)
        met = torch.cat([met, first[:, None]], dim=1)
        self._reply(talk, met, met.new_full((len(first), self._plan.replies), -1), None)
        return met

    def _reply(self, talk: Talk, met: Tensor, given: Tensor, numbers: Tensor | None) -> None:
        """Say the replies of a turn: those `given` [R, K], else the best not met, [R, L], nor said in it."""
        hidden = torch.cat([met, torch.where(given < 0, met[:, -1:], given)], dim=1)
        known = (given >= 0).all(dim=0).tolist()
        for step in range(self._plan.replies):
            chosen, values = given[:, step], torch.zeros(len(given), device=given.device)
            if not known[step]:
                scores = (self._scores(self._asks(talk, step)) + self._closed).scatter_(
                    1, hidden, float("-inf")
                )
                best = scores.argmax(dim=1) if numbers is None else self._draw(scores, numbers[:, step])
                chosen = torch.where(chosen < 0, best, chosen)
                values = scores.gather(1, chosen[:, None])[:, 0]
                hidden = torch.cat([hidden, chosen[:, None]], dim=1)
            talk.say(chosen, values)

    def _draw(self, scores: Tensor, numbers: Tensor) -> Tensor:
        """Draw an item of each row of scores [R, N] by a number, [R], of the best that have `top_p` in sum.

        Nucleus sampling (Holtzman et al. 2020).
        """
        shares, order = scores.double().softmax(dim=1).sort(dim=1, descending=True, stable=True)
        before = shares.cumsum(dim=1) - shares
        shares = shares.masked_fill(before >= (self._plan.top_p or 1.0), 0.0)
        sums = shares.cumsum(dim=1)
        at = torch.searchsorted(sums, (numbers * sums[:, -1])[:, None], right=True)
        return order.gather(1, at.clamp(max=scores.shape[1] - 1))[:, 0]

    def _asks(self, talk: Talk, step: int) -> Tensor:
        """Give the states [R, D] that tell the reply of a step."""
        if not self._plan.parallel or step == 0:
            return talk.first if self._plan.parallel else talk.states
        told: Tensor = self._model.heads[step - 1](talk.first)
        return told


def generate(
    recall: Recall,
    plan: Plan,
    sequences: Sequence[Longs],
    targets: Longs,
    known: Known | None = None,
    *,
    rows: int = 256,
) -> Replies:
    """Generate what a model that knows no unit says after sequences, and whether it misses targets [n]."""
    units = np.full(len(sequences), UNKNOWN, dtype=np.int64)
    items = np.zeros((len(sequences), plan.generated), dtype=np.int32)
    missed = np.ones((len(sequences), len(plan.recall)), dtype=np.bool_)
    for found, talk in recall.conversations(sequences, units, known, rows=rows):
        wanted = torch.from_numpy(targets[found.filled]).to(found.tokens.device)[:, None]
        n = len(found.places)
        hidden = found.tokens
        for step, share in enumerate(plan.recall[:-1]):
            scores = recall.scores(talk).scatter_(1, hidden, float("-inf"))
            best = scores.topk(min(share, scores.shape[1]), dim=1).indices  # [R, share]
            hit = (best == wanted).any(dim=1)
            missed[found.places, step + 1] = missed[found.places, step] & ~hit[:n].cpu().numpy()
            hidden = torch.cat([hidden, best], dim=1)
            talk.say(best[:, 0])
        items[found.places] = talk.said[:n].cpu().numpy()
    return Replies(items, missed)


def ranks(
    recall: Recall,
    plan: Plan,
    sequences: Sequence[Longs],
    targets: Longs,
    units: Longs,
    known: Known | None = None,
) -> Tensor:
    """Give the place of each target [n], from 0, in a slate whose last step has no end, int64 [n]."""
    places = torch.zeros(len(sequences), dtype=torch.int64)
    for found, talk in recall.conversations(sequences, units, known, rows=len(sequences)):
        wanted = torch.from_numpy(targets[found.filled]).to(found.tokens.device)[:, None]
        hidden, before = found.tokens, 0
        place = torch.full((len(wanted),), -1, device=wanted.device)
        for step, share in enumerate(plan.recall):
            scores = recall.scores(talk)
            least = scores.gather(1, wanted)
            scores.scatter_(1, hidden, float("-inf"))
            above = (scores > least).sum(dim=1)
            last = step == len(plan.recall) - 1
            place = torch.where((place < 0) & ((above < share) | last), before + above, place)
            if not last:
                best = scores.topk(min(share, scores.shape[1]), dim=1).indices
                hidden, before = torch.cat([hidden, best], dim=1), before + share
                talk.say(best[:, 0])
        places[torch.from_numpy(found.places)] = place[: len(found.places)].cpu()
    return places
