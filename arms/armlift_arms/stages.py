"""The stages of RecGPT's training: the decoder, models that generate prompts, and the decoder with prompts.

Prompts for training are cross-fitted: the sequences are dealt out into folds, and those of a fold are answered
by a model that was trained on the others. A model that had seen them would know the next items by heart, and
write them into its prompts.
"""

from itertools import pairwise

import numpy as np
import torch

from armlift.artefacts import Tensors
from armlift.fitting import record_figures
from armlift_arms.conversation import Conversation, Parts
from armlift_arms.decoder import Decoder
from armlift_arms.finetune import FineTune
from armlift_arms.loop import Outcome, Recipe, device, run, seeded
from armlift_arms.neural import Known, Warm, start_from, weights_of
from armlift_arms.next_item import NextItem
from armlift_arms.recall import Plan, Recall, Replies, generate
from armlift_arms.recgpt import RecGptConfig
from armlift_arms.windows import Longs, Sequences, Split, split


def train(config: RecGptConfig, known: Known, warm: Warm | None) -> Tensors:
    """Run all stages; gives the weights, none if no item follows another."""
    cut = split(known.sequences, config.length, config.validation_share)
    if not len(cut.windows):
        return {}
    return _Stages(config, known, cut, warm).run()


class _Stages:
    """The data of one training."""

    def __init__(self, config: RecGptConfig, known: Known, cut: Split, warm: Warm | None) -> None:
        self._config, self._known, self._cut, self._warm = config, known, cut, warm
        self._recipe = Recipe(**config.model_dump(include=set(Recipe._fields)))
        self._shape = config.shape(len(known.items))
        self._counts = np.bincount(known.sequences.items, minlength=len(known.items))

    def run(self) -> Tensors:
        """Run all stages."""
        config, sequences = self._config, self._known.sequences
        units = len(self._known.units) if config.user_vectors else None
        with seeded(config.seed, config.threads):
            model = Conversation(self._shape, Parts(units, config.segments))
        start_from(model, self._warm)
        if self._warm is None and config.pretraining_epochs:
            _record("pretrain", self._next_item(model.decoder, self._cut, "pretrain"))
        replies = self._replies(model)
        task = FineTune(
            model,
            sequences,
            self._cut,
            replies,
            config.plan,
            negatives=config.negatives,
            later_weight=config.later_weight,
            user_dropout=config.user_dropout,
        )
        _record("tune", run(task, self._recipe, "tune"))
        return weights_of(model)

    def _next_item(self, decoder: Decoder, cut: Split, stage: str) -> Outcome:
        """Train a decoder for `pretraining_epochs`; without validation, which the next stage has."""
        most = self._config.pretraining_epochs
        recipe = self._recipe._replace(epochs=most, patience=most)
        windows_alone = cut._replace(held_out=cut.held_out[:0])
        return run(NextItem(decoder, self._known.sequences, windows_alone, self._config.negatives), recipe, stage)

    def _replies(self, model: Conversation) -> Replies:
        """Generate the prompts to every behaviour, and say how often they are what comes next."""
        sequences, plan = self._known.sequences, self._config.plan
        prefixes, targets = _prefixes(sequences, self._config.length)
        replies = Replies(
            np.zeros((len(prefixes), plan.generated), dtype=np.int32),
            np.ones((len(prefixes), len(plan.recall)), dtype=np.bool_),
        )
        if not plan.generated:
            return replies
        fold_of = np.repeat(np.arange(len(sequences)) % self._config.folds, np.diff(sequences.starts))
        for fold in range(self._config.folds):
            answered = np.flatnonzero(fold_of == fold)
            found = self._answers(fold, [prefixes[at] for at in answered.tolist()], targets[answered])
            replies.items[answered], replies.missed[answered] = found
        self._record_hits(replies, targets)
        return replies

    def _answers(self, fold: int, prefixes: list[Longs], targets: Longs) -> Replies:
        """Let a model that is trained on the other folds answer prefixes."""
        generator = self._generator(fold)
        with seeded(self._config.seed, self._config.threads), torch.inference_mode():
            recall = Recall(generator, self._config.plan, torch.from_numpy(self._counts == 0).to(device()))
            return generate(recall, self._config.plan, prefixes, targets)

    def _generator(self, fold: int) -> Conversation:
        """Train a model on the windows of all sequences but those of a fold."""
        others = self._cut.windows[self._cut.windows[:, 2] % self._config.folds != fold]
        with seeded(self._config.seed + fold + 1, self._config.threads):
            generator = Conversation(self._shape, Parts(None, segments=False))
        cut = Split(others, self._cut.held_out[:0])
        self._next_item(generator.decoder, cut, f"fold{fold + 1}")
        return generator.eval()

    def _record_hits(self, replies: Replies, targets: Longs) -> None:
        """Record how often a prompt is the next item, where it trains and where it validates."""
        hits = (replies.items[:, : self._config.prompts] == targets[:, None]).any(axis=1)
        validates = np.zeros(len(hits), dtype=np.bool_)
        validates[self._cut.held_out[:, 1] - 1] = True
        trains = (targets >= 0) & ~validates
        for name, which in (("train", trains), ("validation", validates)):
            if which.any():
                record_figures({f"prompt_hits_{name}": float(hits[which].mean())})


def _prefixes(sequences: Sequences, length: int) -> tuple[list[Longs], Longs]:
    """Give the last `length` items up to each place, and what follows it, -1 after the last, int64 [P]."""
    prefixes: list[Longs] = []
    targets = np.append(sequences.items[1:], -1).astype(np.int64)
    targets[sequences.starts[1:] - 1] = -1
    for start, end in pairwise(sequences.starts.tolist()):
        of = sequences.items[start:end].astype(np.int64)
        prefixes += [of[max(0, at + 1 - length) : at + 1] for at in range(end - start)]
    return prefixes, targets


def _record(stage: str, outcome: Outcome) -> None:
    """Record what a stage came to."""
    found = {"epochs": outcome.epochs, "best_epoch": outcome.best_epoch, **outcome.figures}
    record_figures({f"{stage}_{name}": float(value) for name, value in found.items()})
