"""The training loop of the neural arms: early stopping, averaged weights, checkpoints, several processes.

A `Task` says what is learnt; the loop does the rest. Weights are averaged over steps (an exponential moving
average, after Polyak and Juditsky 1992); the averages are what is validated and kept. Several processes train
`together`.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from armlift.errors import InputError
from armlift.fitting import Epoch, checkpoint_file, tell_epoch
from armlift_arms import memory, together
from armlift_arms.averages import Averages
from armlift_arms.checkpoint import read_state, unfit, write_state
from armlift_arms.windows import Longs

logger = logging.getLogger(__name__)

CUTOFF = 10
"""The slate length of validation figures."""
_RANKED = 256  # held-out rows ranked at a time


class Recipe(NamedTuple):
    """How to train; see the descriptions of the arms' configuration."""

    batch_tokens: int
    learning_rate: float
    weight_decay: float
    averaging: float
    epochs: int
    patience: int
    seed: int
    threads: int


class Task(Protocol):
    """What is learnt: a model, its batches, its loss, and held-out rows that tell when to stop."""

    @property
    def model(self) -> nn.Module:
        """Give the model whose parameters are learnt."""
        ...

    @property
    def held_out(self) -> Longs:
        """Give the rows that validate, [V, ...], like ones together; none: `patience` epochs are run."""
        ...

    def batches(self, tokens: int, random: np.random.Generator) -> Sequence[Longs]:
        """Cut an epoch in batches of about `tokens` inputs."""
        ...

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        """Sum up the loss of a batch; gives it and the number of targets."""
        ...

    def ranks(self, held_out: Longs) -> Tensor:
        """Count, for some held-out rows, the unseen items that score above the target, int64 [rows]."""
        ...


class Outcome(NamedTuple):
    """What a run came to: epochs run, the one whose weights are kept, and its figures of validation."""

    epochs: int
    best_epoch: int
    figures: dict[str, float]

    @property
    def recorded(self) -> dict[str, float]:
        """Give all of it as figures of a manifest."""
        return self.figures | {"epochs": float(self.epochs), "best_epoch": float(self.best_epoch)}


def device() -> torch.device:
    """Name the device to learn and answer on: a GPU where there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def seeded(seed: int, threads: int) -> Iterator[None]:
    """Run with a seed and a number of threads, and leave those of the process as they were."""
    with on_threads(threads), torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Compute on a number of threads, and leave that of the process as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(task: Task, recipe: Recipe, stage: str) -> Outcome:
    """Train until validation NDCG@10 has not risen for `patience` epochs; the model is left at its best.

    The same input gives the same weights, on one machine, device and number of processes; an interrupted run
    that is started again with its checkpoint ends with the same weights too. Raises InputError for a
    checkpoint of something else, for a model that does not fit the memory, and where the loss is no longer a
    number.
    """
    together.join()
    if device().type == "cpu":
        memory.check(task.model, stage)
    with together.told(), seeded(recipe.seed, recipe.threads):
        return _Loop(task, recipe, stage).run()


class _Loss(nn.Module):
    """A task's mean loss as a module: the form in which gradients are shared between processes.

    Its mean over the processes is the mean loss of all their targets.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: Longs) -> tuple[Tensor, int]:
        """Give what this process adds to the mean loss of a batch, and the number of all its targets."""
        mine, counts = together.share_of(batch)
        total, targets = self._task.loss(mine)
        of_all = int(together.summed(torch.tensor(targets * counts), device()))
        return total * (together.count() * counts) / of_all, of_all


class _Loop:
    """The state of one run."""

    def __init__(self, task: Task, recipe: Recipe, stage: str) -> None:
        self._task, self._recipe, self._stage = task, recipe, stage
        self._random = np.random.default_rng(recipe.seed)
        task.model.to(device())
        self._loss = together.in_parallel(_Loss(task))
        self._averages = Averages(task.model)
        self._optimizer = torch.optim.AdamW(
            self._averages.weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._epochs = self._best_epoch = 0
        self._figures: dict[str, float] = {}

    def run(self) -> Outcome:
        """Train to the end, from the checkpoint on if there is one."""
        path = checkpoint_file(self._stage)
        if path is not None and path.exists():
            self._restore(path)
        together.agree("the last epoch", self._epochs, device())
        while not self._finished():
            start = time.perf_counter()
            loss, figures = self._epoch(), self._validate()
            self._epochs += 1
            if not figures or figures[f"NDCG@{CUTOFF}"] > self._figures.get(f"NDCG@{CUTOFF}", -1.0):
                self._figures = figures
                self._best_epoch = self._epochs if figures else 0
                self._averages.keep()
            if together.rank() == 0:
                if path is not None:
                    write_state(path, *self._state())
                self._report(loss, figures, time.perf_counter() - start)
        self._averages.settle()
        self._task.model.eval()
        return Outcome(self._epochs, self._best_epoch, self._figures)

    def _finished(self) -> bool:
        late = self._epochs - self._best_epoch >= self._recipe.patience
        return late or self._epochs >= self._recipe.epochs

    def _epoch(self) -> float:
        """Pass over all batches once, in a new order; gives the mean loss of a target."""
        self._task.model.train()
        if together.count() > 1:
            # Each process draws for itself, and a checkpoint need not hold what all of them have drawn.
            torch.manual_seed(_mixed(self._recipe.seed, self._epochs, together.rank()))
        found = self._task.batches(self._recipe.batch_tokens, self._random)
        together.agree("the number of batches", len(found), device())
        horizon = max(1.0, self._recipe.averaging * len(found))
        totals = torch.zeros(2, dtype=torch.float64)
        for batch in found:
            loss, targets = self._loss(batch)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._averages.move(horizon)
            totals += torch.tensor([float(loss.detach()) * targets, targets], dtype=torch.float64)
        total, count = together.summed(totals, device()).tolist()
        mean = float(total / max(count, 1.0))
        if not math.isfinite(mean):
            raise InputError(
                f"{self._stage}, epoch {self._epochs + 1}: the loss is {mean}, must be finite; "
                f"try a learning_rate below {self._recipe.learning_rate}"
            )
        return mean

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Give HR@10 and NDCG@10 of the averaged weights on what is held out; nothing if nothing is."""
        held_out = self._task.held_out
        if not len(held_out):
            return {}
        self._task.model.eval()
        mine = range(together.rank() * _RANKED, len(held_out), together.count() * _RANKED)
        with self._averages.in_place():
            ranks = [self._task.ranks(held_out[start : start + _RANKED]).cpu() for start in mine]
        places = torch.cat([*ranks, torch.zeros(0, dtype=torch.int64)])
        hits = (places < CUTOFF).double()
        sums = torch.stack([hits.sum(), (hits / (places + 2.0).log2()).sum()])
        hit_rate, ndcg = (together.summed(sums, device()) / len(held_out)).tolist()
        return {f"HR@{CUTOFF}": hit_rate, f"NDCG@{CUTOFF}": ndcg}

    def _report(self, loss: float, figures: dict[str, float], seconds: float) -> None:
        shown = "".join(f", {name} {value:.4f}" for name, value in figures.items())
        logger.info("%s, epoch %d: loss %.4f%s, %.1f s", self._stage, self._epochs, loss, shown, seconds)
        most, best = self._recipe.epochs, self._best_epoch
        tell_epoch(Epoch(self._stage, self._epochs, most, loss, figures, best, self._figures, seconds))

    def _state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Give all that a run needs to go on, as tensors and plain values."""
        moments = self._optimizer.state_dict()["state"]
        tensors = {f"moments.{at}.{name}": value for at, of in moments.items() for name, value in of.items()}
        tensors |= self._averages.tensors()
        tensors["random"] = torch.get_rng_state()
        if device().type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        values: dict[str, object] = {
            "numpy_random": self._random.bit_generator.state,
            "processes": together.count(),
            "steps": self._averages.steps,
            "epochs": self._epochs,
            "best_epoch": self._best_epoch,
            "figures": self._figures,
        }
        return tensors, values

    def _restore(self, path: Path) -> None:
        """Take the state over that a checkpoint holds; raises InputError for that of another run."""
        tensors, values = read_state(path)
        named = self._averages.tensors()
        if any(name not in tensors or tensors[name].shape != own.shape for name, own in named.items()):
            raise unfit(path, "is a checkpoint of another model")
        if values["processes"] != together.count():
            raise unfit(
                path, f"is a checkpoint of {values['processes']} processes, not of {together.count()}"
            )
        for name, own in named.items():
            own.copy_(tensors[name])
        state = self._optimizer.state_dict()
        for key, tensor in tensors.items():
            if key.startswith("moments."):
                _, at, name = key.split(".")
                state["state"].setdefault(int(at), {})[name] = tensor
        self._optimizer.load_state_dict(state)
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and device().type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"])
        self._random.bit_generator.state = values["numpy_random"]
        self._averages.steps, self._epochs = values["steps"], values["epochs"]
        self._best_epoch, self._figures = values["best_epoch"], values["figures"]
        logger.info("%s goes on after epoch %d", self._stage, self._epochs)


def _mixed(*numbers: int) -> int:
    """Make one seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
