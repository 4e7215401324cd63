"""The task of telling the next item, at every position of every sequence."""

import numpy as np
import torch
from torch import Tensor

from armlift_arms.decoder import Decoder
from armlift_arms.softmax import SampledSoftmax
from armlift_arms.windows import Longs, Sequences, Split, batches, padded


class NextItem:
    """Train a decoder on windows; rank the whole catalogue to validate."""

    def __init__(self, model: Decoder, sequences: Sequences, split: Split, negatives: int) -> None:
        """Learn from `sequences` as cut by `split`, with so many negatives a batch."""
        self.model = model
        self._sequences = sequences
        self._windows = split.windows
        self.held_out = by_length(split.held_out)
        counts = np.bincount(sequences.items, minlength=model.shape.items)
        self._softmax = SampledSoftmax(counts, negatives)

    def batches(self, tokens: int, random: np.random.Generator) -> list[Longs]:
        """Cut an epoch in batches of windows [B, 3], of at most `tokens` padded inputs."""
        return batches(self._windows, tokens, random)

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        """Sum up -log softmax of what follows each position; gives it and the number of positions."""
        device = self.model.items.weight.device
        softmax = self._softmax.to(device)
        tokens = torch.from_numpy(padded(self._sequences.items, batch)).to(device)  # [B, L + 1]
        real = torch.from_numpy(real_places(batch, 1)).to(device)  # [B, L]
        states = self.model(self.model.embed(tokens[:, :-1]))[real]  # [T, D]
        targets, drawn = tokens[:, 1:][real], softmax.draw()
        vectors = self.model.vectors(torch.cat([targets, drawn]))
        n = len(targets)
        losses = softmax(self.model.queries(states), vectors[:n], targets, drawn, vectors[n:])
        return losses.sum(), n

    def ranks(self, held_out: Longs) -> Tensor:
        """Count the unmet items that score above the one held out, int64 [rows]."""
        device = self.model.items.weight.device
        tokens = torch.from_numpy(padded(self._sequences.items, held_out)).to(device)  # [B, L]
        last = torch.from_numpy(held_out[:, 1] - held_out[:, 0] - 1).to(device)
        states = self.model(self.model.embed(tokens))[torch.arange(len(last), device=device), last]
        scores = self.model.queries(states) @ self.model.vectors().T  # [B, N]
        targets = torch.from_numpy(self._sequences.items[held_out[:, 1]].astype(np.int64)).to(device)
        return ranks_among_unmet(scores, targets, tokens, last)


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
