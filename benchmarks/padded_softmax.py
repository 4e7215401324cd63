"""The reference of the arms' training: the same decoder, trained the plain way.

Every sequence is padded to the decoder's length, the loss is a softmax over the whole catalogue, the
optimiser is Adam with the same learning rate, and weights are not averaged. To be a fair opponent it scores
no padding, has the batch size and the number of threads that suit it best, and its clock stops while it is
validated.
"""

import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from armlift_arms.decoder import Decoder, Shape
from armlift_arms.loop import CUTOFF, seeded
from armlift_arms.next_item import NextItem
from armlift_arms.windows import Longs, Sequences, Split, padded

BATCHES = (16, 32, 64, 128, 256)
"""Sequences a step that are tried."""
_NONE = -1  # a place without a target
_RANKED = 256  # held-out rows ranked at a time


class Training(NamedTuple):
    """What both ways of training are given alike."""

    shape: Shape
    sequences: Sequences
    cut: Split
    learning_rate: float
    negatives: int
    seed: int

    def task(self) -> NextItem:
        """Make a new decoder, from the seed, with its task: that tells what is held out, and ranks it."""
        with seeded(self.seed, torch.get_num_threads()):
            return NextItem(Decoder(self.shape), self.sequences, self.cut, self.negatives)


class Reached(NamedTuple):
    """What validation NDCG@10 a training had after so many seconds, and where it stood then."""

    seconds: float
    ndcg: float


class PaddedLoop:
    """One training in `batch` sequences a step on `threads` threads; `seconds` is its clock."""

    def __init__(self, training: Training, batch: int, threads: int) -> None:
        self.batch, self.threads = batch, threads
        self.seconds = 0.0
        self._task = training.task()
        self._model = self._task.model
        tokens = _to_length(training)  # [W, L + 1]
        self._inputs, self._targets = tokens[:, :-1].clamp(min=0), tokens[:, 1:]
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=training.learning_rate, fused=True)
        self._random = np.random.default_rng(training.seed)
        self._seed, self._steps = training.seed, 0
        self._batches = self._forever()

    @property
    def name(self) -> str:
        """Name what was chosen for it."""
        return f"padded full softmax, {self.batch} sequences a step, {self.threads} thread(s)"

    def train(self, seconds: float) -> int:
        """Train on for at least so many seconds, in whole steps; gives the number of targets learnt from."""
        learnt, start = 0, time.perf_counter()
        with seeded(self._seed + self._steps, self.threads):  # where it stood, its dropout is another
            self._model.train()
            while not learnt or time.perf_counter() - start < seconds:
                learnt += self._step(next(self._batches))
        self.seconds += time.perf_counter() - start
        return learnt

    def validate(self) -> Reached:
        """Rank what is held out."""
        task = self._task
        self._model.eval()
        with seeded(self._seed, self.threads), torch.inference_mode():
            starts = range(0, len(task.held_out), _RANKED)
            places = torch.cat([task.ranks(task.held_out[start : start + _RANKED]) for start in starts])
        gains = (places < CUTOFF) / (places + 2.0).log2()
        return Reached(self.seconds, float(gains.mean()))

    def _step(self, rows: Tensor) -> int:
        inputs, targets = self._inputs[rows], self._targets[rows]  # [B, L]
        real = targets != _NONE
        states = self._model(self._model.embed(inputs))[real]  # [T, D]
        logits = self._model.queries(states) @ self._model.vectors().T  # [T, N]
        loss = F.cross_entropy(logits, targets[real])
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._steps += 1
        return len(states)

    def _forever(self) -> Iterator[Tensor]:
        """Give the rows of one batch after another, every epoch in a new order."""
        while True:
            order = torch.from_numpy(self._random.permutation(len(self._inputs)))
            for start in range(0, len(order), self.batch):
                yield order[start : start + self.batch]


def _to_length(training: Training) -> Tensor:
    """Lay all windows out, int64 [W, length + 1], padded on the right."""
    windows = training.cut.windows
    laid: Longs = np.full((len(windows), training.shape.length + 1), _NONE, dtype=np.int64)
    found = padded(training.sequences.items, windows)
    real = np.arange(found.shape[1]) < (windows[:, 1] - windows[:, 0])[:, None]
    laid[:, : found.shape[1]][real] = found[real]
    return torch.from_numpy(laid)


def best_loop(training: Training, seconds: float, threads: Collection[int]) -> PaddedLoop:
    """Try every batch size for so many seconds, each on the number of threads that is faster for it.

    Gives the training that had the highest validation NDCG@10 by then, to be gone on with.
    """
    found: list[tuple[float, PaddedLoop]] = []
    for batch in BATCHES:
        loop = PaddedLoop(training, batch, _faster(training, batch, seconds / 20, threads))
        loop.train(seconds)
        found.append((loop.validate().ndcg, loop))
    return max(found, key=lambda one: one[0])[1]


def _faster(training: Training, batch: int, seconds: float, threads: Collection[int]) -> int:
    """Find the number of threads that learns from most targets a second."""
    speeds = {}
    for number in threads:
        loop = PaddedLoop(training, batch, number)
        loop.train(seconds / 5)  # the first steps are slower
        before = loop.seconds
        speeds[number] = loop.train(seconds) / (loop.seconds - before)
    return max(speeds, key=lambda number: speeds[number])
