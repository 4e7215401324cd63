"""The stages of RecGPT's training: the decoder, models that generate prompts, and the decoder with prompts.

Prompts for training are cross-fitted: the sequences are dealt out into folds, and those of a fold are
answered by a model that was trained on the others. A model that had seen them would know the next items by
heart, and write them into its prompts.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from armlift.artefacts import Tensors
from armlift.errors import InputError
from armlift.fitting import record_figures, recorded_figures
from armlift_arms import scratch, together
from armlift_arms.conversation import Conversation, Parts
from armlift_arms.finetune import FineTune
from armlift_arms.known import Computed, Known
from armlift_arms.loop import Outcome, device, run, seeded
from armlift_arms.neural import Warm, start_from, weights_of
from armlift_arms.next_item import NextItem, next_item_losses
from armlift_arms.prefixes import Prefixes, following
from armlift_arms.recall import Known as Prompts
from armlift_arms.recall import Plan, Recall, Replies, generate
from armlift_arms.recgpt import RecGptConfig
from armlift_arms.sources import NONE, Catalogue, chances, of_catalogue
from armlift_arms.windows import Longs, Split, split, windows_of_others


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
    for of in (*known.sequences, known.notes, known.units.text, known.units.starts):
        for part in scratch.parts(len(of)):
            hashed.update(of[part].data)
    hashed.update("\n".join(known.items.ids).encode())
    return hashed.hexdigest()


_LOSSES = 2_000
"""Held-out rows whose loss is taken, at most."""
_ANSWERED = 2**14
"""Behaviours whose prompts are generated at a time."""


class _Stages:
    """The data of one training."""

    def __init__(self, config: RecGptConfig, known: Known, cut: Split, warm: Warm | None) -> None:
        self._config, self._known, self._cut, self._warm = config, known, cut, warm
        self._shape = config.shape(len(known.items))
        self._counts = known.sequences.counts(len(known.items))
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
        rows, items = self._cut.held_out[:_LOSSES], self._known.sequences.items
        if not len(rows):
            return None
        model.eval()
        prefixes = [items[start:end].astype(np.int64) for start, end, _ in rows.tolist()]
        return float(next_item_losses(model.decoder, prefixes, items[rows[:, 1]].astype(np.int64)).mean())

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
        none = Replies.none(len(self._known.sequences.items))
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
        plan, n = self._config.plan, len(self._known.sequences.items)
        if not plan.generated:
            return Replies.none(n)
        replies = Replies(
            scratch.zeros((n, plan.generated), np.int32), scratch.zeros((n, len(plan.recall)), np.bool_)
        )
        for fold in range(self._config.folds):
            self._answer(fold, replies)
        self._record_hits(replies)
        return replies

    def _known_prompts(self) -> Prompts | None:
        """Say what is known of prompts before the model generates any."""
        config, known = self._config, self._known
        if not config.prompts or (config.prompt_source == "generated" and config.top_p is None):
            return None
        numbers = None
        if config.top_p is not None:

            def drawn(number: int) -> npt.NDArray[np.float64]:
                positions = np.arange(len(known.sequences.at(number)))
                return chances(known.units[number], positions, config.prompts, config.seed)

            numbers = Computed(drawn)
        return Prompts(self._other_prompts(), numbers)

    def _other_prompts(self) -> Computed[Longs]:
        """Give the prompts of another source, [items, K] for each unit; NONE: the model generates them."""
        config, known = self._config, self._known
        if config.prompt_source == "unclicked":
            if not any((known.notes[part] != NONE).any() for part in scratch.parts(len(known.notes))):
                raise InputError(
                    f"arm {config.name}: prompt_source: unclicked needs behaviours of other kinds than "
                    f"history_kinds, the data have none"
                )
            return Computed(known.notes_of)
        source, catalogue = config.prompt_source, Catalogue.of(self._counts)

        def prompts(number: int) -> Longs:
            unit, items = known.units[number], known.sequences.at(number)
            return of_catalogue(
                source, catalogue, unit, np.arange(len(items)), items, config.prompts, config.seed
            )

        return Computed(prompts)

    def _answer(self, fold: int, replies: Replies) -> None:
        """Let a model that is trained on the other folds answer every prefix of the units of a fold."""
        config, sequences = self._config, self._known.sequences
        generator = self._generator(fold)
        with seeded(config.seed, config.threads), torch.inference_mode():
            recall = Recall(generator, config.plan, torch.from_numpy(self._counts == 0).to(device()))
            for places in self._places_of(fold, together.rank()):
                asked = Prefixes.at(sequences, places, config.length)
                known = None if self._prompts is None else self._prompts.part(asked.ranges)
                found = generate(recall, config.plan, asked.items, asked.targets, known)
                replies.items[places], replies.missed[places] = found
        if together.count() > 1:
            self._exchange(fold, replies)

    def _exchange(self, fold: int, replies: Replies) -> None:
        """Give every process what each of them has answered to the units of a fold."""
        for process in range(together.count()):
            for places in self._places_of(fold, process):
                for of in replies:
                    of[places] = together.sent(of[places], process, device())

    def _places_of(self, fold: int, process: int) -> Iterator[Longs]:
        """Give the behaviours of the units of a fold that a process answers, some at a time."""
        starts, n = self._known.sequences.starts, len(self._known.sequences.items)
        for part in islice(scratch.parts(n, _ANSWERED), process, None, together.count()):
            places = np.arange(part.start, part.stop)
            numbers = np.searchsorted(starts, places, side="right") - 1
            yield places[numbers % self._config.folds == fold]

    def _generator(self, fold: int) -> Conversation:
        """Train a model on the windows of all sequences but those of a fold."""
        config = self._config
        others = windows_of_others(self._cut.windows, fold, config.folds)
        with seeded(config.seed + fold + 1, config.threads):
            generator = Conversation(self._shape, Parts(None, segments=False, ahead=config.ahead))
        self._tell_next(generator, Split(others, self._cut.held_out[:0]), f"fold{fold + 1}")
        return generator.eval()

    def _record_hits(self, replies: Replies) -> None:
        """Record how often a prompt is the next item, where it trains and where it validates."""
        sequences, held_out = self._known.sequences, self._cut.held_out[:, 1] - 1
        counted = np.zeros((2, 2), dtype=np.int64)
        for part in scratch.parts(len(sequences.items)):
            places = np.arange(part.start, part.stop)
            targets = following(sequences, places)
            hits = (replies.items[part, : self._config.prompts] == targets[:, None]).any(axis=1)
            validates = np.isin(places, held_out)
            for row, which in enumerate(((targets >= 0) & ~validates, validates)):
                counted[row] += hits[which].sum(), which.sum()
        for name, (hit, of) in zip(("train", "validation"), counted.tolist(), strict=True):
            if of:
                record_figures({f"prompt_hits_{name}": hit / of})


def _record(stage: str, outcome: Outcome) -> None:
    """Record what a stage came to."""
    record_figures({f"{stage}_{name}": value for name, value in outcome.recorded.items()})
