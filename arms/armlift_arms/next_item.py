"""The task of telling the next item, at every position of every sequence, and training in this one stage.

Shapes: B windows, L positions, T targets, N items of the catalogue, D the width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from armlift.artefacts import Tensors
from armlift.evaluation import Floats
from armlift.fitting import record_figures
from armlift_arms.decoder import Decoder
from armlift_arms.items import ItemModel
from armlift_arms.known import Known
from armlift_arms.loop import Task, device, run, seeded
from armlift_arms.neural import NeuralConfig, Warm, start_from, weights_of
from armlift_arms.serving import read
from armlift_arms.softmax import SampledSoftmax
from armlift_arms.windows import Longs, Sequences, Split, batches, padded, split

Model = TypeVar("Model", bound=ItemModel)


class NextTask(ABC, Generic[Model]):
    """Train a model on windows; rank the whole catalogue to validate."""

    def __init__(self, model: Model, sequences: Sequences, split: Split, negatives: int) -> None:
        """Learn from `sequences` as cut by `split`, with so many negatives a batch."""
        self.model = model
        self._sequences = sequences
        self._windows = split.windows
        self.held_out = by_length(split.held_out)
        counts = sequences.counts(len(model.items.weight))
        self._softmax = SampledSoftmax(counts, negatives)

    @abstractmethod
    def _states(self, tokens: Tensor) -> Tensor:
        """Compute what is known after each position, [B, L] -> [B, L, ...]."""

    @abstractmethod
    def _queries(self, states: Tensor, right: Tensor) -> Tensor:
        """Turn what is known, [T, ...], into queries [T, D]; `right` [T, D] are their targets' vectors."""

    @abstractmethod
    def _scores(self, tokens: Tensor, last: Tensor) -> Tensor:
        """Score the catalogue by what is known after the places `last` [B] of tokens [B, L], -> [B, N]."""

    def batches(self, tokens: int, random: np.random.Generator) -> Sequence[Longs]:
        """Cut an epoch in batches of windows [B, 3], of at most `tokens` padded inputs."""
        return batches(self._windows, tokens, random)

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        """Sum up -log softmax of what follows each position; gives it and the number of positions."""
        device = self.model.items.weight.device
        softmax = self._softmax.to(device)
        tokens = torch.from_numpy(padded(self._sequences.items, batch)).to(device)  # [B, L + 1]
        real = torch.from_numpy(real_places(batch, 1)).to(device)  # [B, L]
        states = self._states(tokens[:, :-1])[real]  # [T, ...]
        targets, drawn = tokens[:, 1:][real], softmax.draw()
        vectors = self.model.vectors(torch.cat([targets, drawn]))
        right, wrong = vectors[: len(targets)], vectors[len(targets) :]
        losses = softmax(self._queries(states, right), right, targets, drawn, wrong)
        return losses.sum(), len(targets)

    def ranks(self, held_out: Longs) -> Tensor:
        """Count the unmet items that score above the one held out, int64 [rows]."""
        device = self.model.items.weight.device
        tokens = torch.from_numpy(padded(self._sequences.items, held_out)).to(device)  # [B, L]
        last = torch.from_numpy(held_out[:, 1] - held_out[:, 0] - 1).to(device)
        scores = self._scores(tokens, last)
        targets = torch.from_numpy(self._sequences.items[held_out[:, 1]].astype(np.int64)).to(device)
        return ranks_among_unmet(scores, targets, tokens, last)


class NextItem(NextTask[Decoder]):
    """Tell the next item by a decoder's states, [B, L, D]."""

    def _states(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.model(self.model.embed(tokens))
        return states

    def _queries(self, states: Tensor, right: Tensor) -> Tensor:
        return self.model.queries(states)

    def _scores(self, tokens: Tensor, last: Tensor) -> Tensor:
        states = self._states(tokens)[torch.arange(len(last), device=last.device), last]
        return self.model.scores(states, self.model.vectors())


def train(
    config: NeuralConfig,
    known: Known,
    warm: Warm | None,
    make: Callable[[], Model],
    task: Callable[[Model, Sequences, Split, int], Task],
) -> Tensors:
    """Make a model and train it by a task, in one stage; gives its weights, if an item follows another."""
    cut = split(known.sequences, config.length, config.validation_share)
    if not len(cut.windows):
        return {}
    with seeded(config.seed, config.threads):
        model = make()
    start_from(model, warm)
    outcome = run(task(model, known.sequences, cut, config.negatives), config.recipe, "train")
    record_figures(outcome.recorded)
    return weights_of(model)


def by_length(held_out: Longs) -> Longs:
    """Sort held-out rows (start, end, …) by length, so that little is padded."""
    return held_out[np.argsort(held_out[:, 1] - held_out[:, 0], kind="stable")]


def real_places(ranges: Longs, less: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Tell which places of ranges (start, end, …), padded, hold one of all items but the last `less`."""
    lengths = ranges[:, 1] - ranges[:, 0] - less
    real: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = np.arange(lengths.max()) < lengths[:, None]
    return real


def ranks_among_unmet(scores: Tensor, targets: Tensor, tokens: Tensor, last: Tensor) -> Tensor:
    """Count what scores above each target, [B], leaving out the items met: tokens [B, L] up to place `last`.

    Changes `scores`, [B, N].
    """
    least = scores.gather(1, targets[:, None])
    real = torch.arange(tokens.shape[1], device=tokens.device) <= last[:, None]
    # In place of padding stands the first item, so that nothing else is masked.
    scores.scatter_(1, torch.where(real, tokens, tokens[:, :1]), float("-inf"))
    return (scores > least).sum(dim=1)


def next_item_losses(decoder: Decoder, sequences: Sequence[Longs], targets: Longs) -> Floats:
    """Give -log softmax over the catalogue of what follows each sequence, float64 [sequences]."""
    losses = np.zeros(len(sequences))
    with torch.inference_mode():
        vectors = decoder.vectors()
        for rows in read(decoder, sequences, lambda tokens, places: decoder.embed(tokens), rows=64):
            n = len(rows.places)
            logs = torch.log_softmax(decoder.queries(rows.states[:n]) @ vectors.T, dim=1)
            wanted = torch.from_numpy(targets[rows.places]).to(device())
            losses[rows.places] = -logs.gather(1, wanted[:, None])[:, 0].cpu().double().numpy()
    return losses
