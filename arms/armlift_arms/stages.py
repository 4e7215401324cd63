"""The stages of RecGPT's training: the decoder, models that generate prompts, and the decoder with prompts.

Prompts for training are cross-fitted: the sequences are dealt out into folds, and those of a fold are
answered by a model that was trained on the others. A model that had seen them would know the next items by
heart, and write them into its prompts.
"""

import hashlib

import numpy as np
import torch

from armlift.artefacts import Tensors
from armlift.errors import InputError
from armlift.fitting import record_figures, recorded_figures
from armlift_arms.conversation import Conversation, Parts
from armlift_arms.finetune import FineTune
from armlift_arms.loop import Outcome, device, run, seeded
from armlift_arms.neural import Known, Warm, start_from, weights_of
from armlift_arms.next_item import NextItem, next_item_losses
from armlift_arms.recall import Known as Prompts
from armlift_arms.recall import Plan, Recall, Replies, generate
from armlift_arms.recgpt import RecGptConfig
from armlift_arms.sources import NONE, Catalogue, chances, of_catalogue
from armlift_arms.windows import Longs, Sequences, Split, split


def pretrained(config: RecGptConfig, known: Known) -> Conversation:
    """Run the first stage alone: the decoder, before prompts are in view."""
    cut = split(known.sequences, config.length, config.validation_share)
    return _Stages(config, known, cut, None).begin().eval()


def train(config: RecGptConfig, known: Known, warm: Warm | None) -> Tensors:
    """Run all stages; gives the weights, none if no item follows another.

    Arms that differ in how they answer alone, such as `recgpt` and `recgpt1`, are trained once: what the last
    training came to is remembered, and given again for the same definition and data.
    """
    cut = split(known.sequences, config.length, config.validation_share)
    if not len(cut.windows):
        return {}
    identity = _identity(config, known) if warm is None else None
    if identity is not None and identity in _last:
        weights, figures = _last[identity]
        record_figures(figures)
        return weights
    weights = _Stages(config, known, cut, warm).run()
    if identity is not None:
        _last.clear()
        _last[identity] = weights, recorded_figures()
    return weights


_last: dict[str, tuple[Tensors, dict[str, float]]] = {}
"""The weights and figures of the last training, by what decides them."""
_ANSWERING = {"name", "model", "description", "exploration", "recall_as"}
"""What of a definition changes answers alone."""


def _identity(config: RecGptConfig, known: Known) -> str:
    """Hash all that decides a training's outcome."""
    hashed = hashlib.sha256(config.model_dump_json(exclude=_ANSWERING).encode())
    for part in (known.sequences.items, known.sequences.starts, *known.notes):
        hashed.update(np.ascontiguousarray(part).tobytes())
    hashed.update("\n".join([*known.units, *known.items.ids]).encode())
    return hashed.hexdigest()


_LOSSES = 2_000
"""Held-out rows whose loss is taken, at most."""


class _Stages:
    """The data of one training."""

    def __init__(self, config: RecGptConfig, known: Known, cut: Split, warm: Warm | None) -> None:
        self._config, self._known, self._cut, self._warm = config, known, cut, warm
        self._shape = config.shape(len(known.items))
        self._counts = np.bincount(known.sequences.items, minlength=len(known.items))
        self._prompts = self._known_prompts()

    def run(self) -> Tensors:
        """Run all stages."""
        model = self.begin()
        knows = self._warm is not None or self._config.pretraining_epochs > 0
        before = self._held_out_loss(model) if knows else None
        replies = self._replies()
        task = self._fine_tune(model, self._cut, replies, self._config.plan, self._prompts)
        _record("tune", run(task, self._config.recipe, "tune"))
        after = self._held_out_loss(model)
        if before is not None and after is not None:
            record_figures({"loss_before": before, "loss_after": after, "forgetting": after - before})
        return weights_of(model)

    def _held_out_loss(self, model: Conversation) -> float | None:
        """Give the decoder's own loss, without prompts, of what is held out: what pre-training brings down.

        It is -log softmax over the whole catalogue, in nats; None where nothing is held out.
        """
        rows, items = self._cut.held_out[:_LOSSES], self._known.sequences.items.astype(np.int64)
        if not len(rows):
            return None
        model.eval()
        prefixes = [items[start:end] for start, end, _ in rows.tolist()]
        return float(next_item_losses(model.decoder, prefixes, items[rows[:, 1]]).mean())

    def begin(self) -> Conversation:
        """Make the model, and start it from an earlier one or train its decoder."""
        config = self._config
        units = len(self._known.units) if config.user_vectors else None
        with seeded(config.seed, config.threads):
            model = Conversation(self._shape, Parts(units, config.segments, config.ahead))
        start_from(model, self._warm)
        if self._warm is None and config.pretraining_epochs:
            _record("pretrain", self._tell_next(model, self._cut, "pretrain"))
        return model

    def _tell_next(self, model: Conversation, cut: Split, stage: str) -> Outcome:
        """Train without prompts for `pretraining_epochs`; without validation, which the last stage has."""
        config = self._config
        most = max(1, config.pretraining_epochs)
        recipe = config.recipe._replace(epochs=most, patience=most)
        cut = cut._replace(held_out=cut.held_out[:0])
        if not config.ahead:
            return run(NextItem(model.decoder, self._known.sequences, cut, config.negatives), recipe, stage)
        # The heads that tell further items learn with the rest, which fine-tuning does, here without replies.
        plan = Plan(0, (1,), 1)
        n = len(self._known.sequences.items)
        none = Replies(np.zeros((n, 0), dtype=np.int32), np.ones((n, 1), dtype=np.bool_))
        return run(self._fine_tune(model, cut, none, plan, None), recipe, stage)

    def _fine_tune(
        self, model: Conversation, cut: Split, replies: Replies, plan: Plan, known: Prompts | None
    ) -> FineTune:
        config = self._config
        return FineTune(
            model,
            self._known.sequences,
            cut,
            replies,
            plan,
            known,
            negatives=config.negatives,
            later_weight=config.later_weight,
            user_dropout=config.user_dropout,
        )

    def _replies(self) -> Replies:
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
            found = self._answers(
                fold, [prefixes[at] for at in answered.tolist()], targets[answered], answered
            )
            replies.items[answered], replies.missed[answered] = found
        self._record_hits(replies, targets)
        return replies

    def _known_prompts(self) -> Prompts | None:
        """Say what is known of prompts before the model generates any."""
        config, known = self._config, self._known
        if not config.prompts or (config.prompt_source == "generated" and config.top_p is None):
            return None
        numbers = None
        if config.top_p is not None:
            sizes = np.diff(known.sequences.starts).tolist()
            pairs = zip(known.units, sizes, strict=True)
            numbers = [chances(unit, np.arange(n), config.prompts, config.seed) for unit, n in pairs]
        return Prompts(self._other_prompts(), numbers)

    def _other_prompts(self) -> list[Longs]:
        """Give the prompts of another source, [items, K] for each unit; NONE: the model generates them."""
        config, known = self._config, self._known
        if config.prompt_source == "unclicked":
            if not any((note != NONE).any() for note in known.notes):
                raise InputError(
                    f"arm {config.name}: prompt_source: unclicked needs behaviours of other kinds than "
                    f"history_kinds, the data have none"
                )
            return known.notes
        source, catalogue = config.prompt_source, Catalogue.of(self._counts)
        return [
            of_catalogue(source, catalogue, unit, np.arange(len(one)), one, config.prompts, config.seed)
            for unit, one in zip(known.units, known.sequences.each(), strict=True)
        ]

    def _answers(self, fold: int, prefixes: list[Longs], targets: Longs, places: Longs) -> Replies:
        """Let a model that is trained on the other folds answer prefixes, which end at some places."""
        config = self._config
        generator = self._generator(fold)
        with seeded(config.seed, config.threads), torch.inference_mode():
            recall = Recall(generator, config.plan, torch.from_numpy(self._counts == 0).to(device()))
            return generate(recall, config.plan, prefixes, targets, self._known_up_to(places))

    def _known_up_to(self, places: Longs) -> Prompts | None:
        """Say what is known of prompts to prefixes that end at some places."""
        if self._prompts is None:
            return None
        starts = self._known.sequences.starts
        numbers = np.searchsorted(starts, places, side="right") - 1
        ends = (places - starts[numbers] + 1).tolist()
        length = self._config.length
        rows = zip(numbers.tolist(), ends, strict=True)
        return self._prompts.part([(number, max(0, end - length), end) for number, end in rows])

    def _generator(self, fold: int) -> Conversation:
        """Train a model on the windows of all sequences but those of a fold."""
        config = self._config
        others = self._cut.windows[self._cut.windows[:, 2] % config.folds != fold]
        with seeded(config.seed + fold + 1, config.threads):
            generator = Conversation(self._shape, Parts(None, segments=False, ahead=config.ahead))
        self._tell_next(generator, Split(others, self._cut.held_out[:0]), f"fold{fold + 1}")
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
    for of in sequences.each():
        prefixes += [of[max(0, at + 1 - length) : at + 1] for at in range(len(of))]
    return prefixes, targets


def _record(stage: str, outcome: Outcome) -> None:
    """Record what a stage came to."""
    record_figures({f"{stage}_{name}": value for name, value in outcome.recorded.items()})
