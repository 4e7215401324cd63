"""The task of fine-tuning: tell the next item after the model's own replies, step by step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from armlift_arms.conversation import UNKNOWN, Conversation, interleaved
from armlift_arms.next_item import by_length, real_places
from armlift_arms.recall import Known, Plan, Recall, Replies, ranks
from armlift_arms.softmax import SampledSoftmax
from armlift_arms.windows import Longs, Sequences, Split, batches, padded


class FineTune:
    """Train a conversation model on turns; rank the slates it would give to validate.

    The loss of the first recall step is taken at the last reply of each turn, that of each further step after
    the item that the one before appended, where the steps before have missed the target.
    """

    def __init__(
        self,
        model: Conversation,
        sequences: Sequences,
        split: Split,
        replies: Replies,
        plan: Plan,
        known: Known | None = None,
        *,
        negatives: int,
        later_weight: float,
        user_dropout: float,
    ) -> None:
        """Learn from `sequences` as cut by `split`, each behaviour followed by its `replies`.

        `known` says of each sequence which prompts are not generated in validation.
        """
        self._known = known
        self.model = model
        self._sequences, self._windows, self._replies = sequences, split.windows, replies
        self.held_out = by_length(split.held_out)
        self._plan, self._later_weight, self._user_dropout = plan, later_weight, user_dropout
        counts = sequences.counts(model.decoder.shape.items)
        self._unmet = torch.from_numpy(counts == 0)
        self._softmax = SampledSoftmax(counts, negatives)

    def batches(self, tokens: int, random: np.random.Generator) -> Sequence[Longs]:
        """Cut an epoch in batches of windows [B, 3], of at most `tokens` padded behaviours."""
        return batches(self._windows, tokens, random)

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        """Sum up the losses of all turns, later steps by their weight; gives it and the number of turns."""
        device = self.model.decoder.items.weight.device
        tokens = torch.from_numpy(padded(self._sequences.items, batch)).to(device)  # [B, T + 1]
        real = torch.from_numpy(real_places(batch, 1)).to(device)  # [B, T]
        all_states = self._states(batch, tokens[:, :-1])  # [B, T, 1 + G, D]
        states = all_states[:, :, self._plan.replies :][real]  # [n, steps, D]
        targets = tokens[:, 1:][real]
        softmax = self._softmax.to(device)
        drawn = softmax.draw()
        vectors = self.model.decoder.vectors(torch.cat([targets, drawn]))
        right, wrong = vectors[: len(targets)], vectors[len(targets) :]
        missed = torch.from_numpy(self._of(batch, self._replies.missed)).to(device)[real]  # [n, steps]
        total = torch.zeros((), device=device)
        for step in range(len(self._plan.recall)):
            open_ = missed[:, step]
            queries = self.model.decoder.queries(states[:, step][open_])
            loss = softmax(queries, right[open_], targets[open_], drawn, wrong).sum()
            total = total + (self._later_weight if step else 1.0) * loss
        for head, ahead in enumerate(self.model.heads, 1):
            total = total + self._later_weight * self._ahead(
                ahead(all_states[:, :, 0]), tokens, real, head, drawn
            )
        return total, len(targets)

    def _ahead(self, states: Tensor, tokens: Tensor, real: Tensor, ahead: int, drawn: Tensor) -> Tensor:
        """Sum up the loss of telling, from states [B, T, D], the item `ahead` places after the next one."""
        open_ = real[:, ahead:]
        targets = tokens[:, 1 + ahead :][open_]
        vectors = self.model.decoder.vectors(torch.cat([targets, drawn]))
        queries = self.model.decoder.queries(states[:, : open_.shape[1]][open_])
        n = len(targets)
        losses: Tensor = self._softmax(queries, vectors[:n], targets, drawn, vectors[n:])
        return losses.sum()

    def _states(self, batch: Longs, behaviours: Tensor) -> Tensor:
        """Compute the states of behaviours [B, T] and their replies, [B, T, 1 + G, D]."""
        n, turns = behaviours.shape
        units = torch.from_numpy(batch[:, 2] + 1).to(behaviours.device)
        dropped = torch.rand(n, device=units.device) < self._user_dropout
        heard = self.model.behaviours(behaviours, torch.where(dropped, UNKNOWN, units))  # [B, T, D]
        items = torch.from_numpy(self._of(batch, self._replies.items)).to(behaviours.device)  # [B, T, G]
        said = self.model.replies(items, heard)  # [B, T, G, D]
        tokens = torch.cat([heard.unsqueeze(2), said], dim=2).flatten(1, 2)  # [B, T (1 + G), D]
        per_turn = 1 + items.shape[2]
        view = self._plan.view(self.model.decoder.shape.length)
        distances = interleaved(turns, per_turn - 1, view, behaviours.device)
        states: Tensor = self.model.decoder(tokens, distances)
        return states.view(n, turns, per_turn, -1)

    def _of(self, batch: Longs, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take what belongs to each behaviour of a batch but the last, [P, n] -> [B, T, n]."""
        lengths = batch[:, 1] - batch[:, 0] - 1
        places = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
        taken: npt.NDArray[Any] = values[batch[:, :1] + places]
        return taken

    def ranks(self, held_out: Longs) -> Tensor:
        """Give the place of each item held out in the slate of its prefix, int64 [rows]."""
        items = self._sequences.items
        prefixes = [items[start:end].astype(np.int64) for start, end, _ in held_out.tolist()]
        targets = items[held_out[:, 1]].astype(np.int64)
        recall = Recall(self.model, self._plan, self._unmet.to(self.model.decoder.items.weight.device))
        known = None
        if self._known is not None:
            bases = self._sequences.starts[held_out[:, 2]]
            rows = zip(held_out.tolist(), bases.tolist(), strict=True)
            known = self._known.part(
                [(number, start - base, end - base) for (start, end, number), base in rows]
            )
        return ranks(recall, self._plan, prefixes, targets, held_out[:, 2] + 1, known)
