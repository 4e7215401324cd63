"""RecGPT: recommendation as a conversation, with the model's own replies as prompts (arXiv 2404.08675).

A decoder is trained to tell the next item; models that did not see a unit generate prompts to its behaviours;
the decoder is trained on with these in view, and with vectors of its own for units and for who said what.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from armlift.arm import ArmConfig, Behaviour, Capability, Prompt, Request
from armlift.artefacts import Tensors
from armlift.slates import Ranking, depth_of
from armlift_arms.known import Known
from armlift_arms.neural import Asked, NeuralArm, Singles, Warm, load_weights
from armlift_arms.sasrec import DecoderConfig
from armlift_arms.sources import Catalogue, chances, of_catalogue, stored, unclicked
from armlift_arms.windows import Longs

if TYPE_CHECKING:
    from armlift_arms.conversation import Talk
    from armlift_arms.recall import Plan
    from armlift_arms.serving import Rows


class RecGptConfig(DecoderConfig):
    """The arm definition of `recgpt`."""

    patience: int = Field(
        default=5, ge=1, description="Epochs without a better validation NDCG@10 that end training."
    )
    recall: tuple[int, ...] = Field(
        default=(18, 2),
        min_length=1,
        max_length=20,
        description="Shares of the recall steps; for a slate of k they are scaled to sum to k.",
    )
    recall_as: Literal["reply", "behaviour"] = Field(
        default="reply",
        description="A step follows the first item of the one before as the model's own reply, or as if the "
        "unit had taken it; in answers, not in training.",
    )
    prompts: int = Field(default=1, ge=0, le=50, description="K, how many prompts answer a behaviour.")
    prompt_placement: Literal["tail", "every"] = Field(
        default="tail", description="Prompts are in view after the last behaviour alone, or after every one."
    )
    prompt_turns: int = Field(
        default=5, ge=1, le=4096, description="With `every`: of how many last behaviours prompts are in view."
    )
    decoding: Literal["autoregressive", "parallel"] = Field(
        default="autoregressive", description="Prompts are told one after another, or all in one pass."
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Prompts are drawn from the fewest items of this probability; null: the best is taken.",
    )
    prompt_source: Literal["generated", "unclicked", "random", "popular"] = Field(
        default="generated", description="What stands for prompts: what the model says, or a control."
    )
    user_vectors: bool = Field(default=False, description="Whether every unit has a vector of its own.")
    user_dropout: float = Field(
        default=0.9, ge=0, lt=1, description="Share of windows trained with the unknown unit's vector."
    )
    segments: bool = Field(default=True, description="Whether behaviours and prompts are told apart.")
    folds: int = Field(
        default=2,
        ge=2,
        le=20,
        description="Models that write prompts for training, each for its share of units.",
    )
    pretraining_epochs: int = Field(
        default=8, ge=0, description="Passes over the data before prompts are in view; 0: none."
    )
    later_weight: float = Field(
        default=0.1, ge=0, allow_inf_nan=False, description="What the loss of a later recall step counts."
    )

    @property
    def ahead(self) -> int:
        """Count the heads that tell the items after the next one."""
        return max(0, self.prompts - 1) if self.decoding == "parallel" else 0

    @property
    def plan(self) -> "Plan":
        """Say how a model of this definition answers."""
        from armlift_arms.recall import Plan

        turns = self.prompt_turns if self.prompt_placement == "every" else 1
        parallel, heard = self.decoding == "parallel", self.recall_as == "behaviour"
        return Plan(self.prompts, self.recall, turns, parallel, self.top_p, heard)


class RecGpt(NeuralArm[RecGptConfig]):
    """Answer a unit's last `length` items with prompts, then recall in steps; see `shares`.

    Scores are cosines over the temperature (or dot products) of the step that recalled an item, so they need
    not fall from one step to the next. A unit that training did not know has the unknown unit's vector.
    """

    config_class: ClassVar[type[ArmConfig]] = RecGptConfig
    capabilities: ClassVar[frozenset[Capability]] = NeuralArm.capabilities | {"prompts"}

    @property
    def plan(self) -> "Plan":
        """Say how requests are answered."""
        return self.config.plan

    def _train(self, known: Known, warm: Warm | None) -> Tensors:
        from armlift_arms.stages import train

        return train(self.config, known, warm)

    def _knows_units(self) -> bool:
        return self.config.user_vectors

    def _note(self, behaviours: Sequence[Behaviour], positions: Longs, index_of: Mapping[str, int]) -> Longs:
        if self.config.prompt_source != "unclicked":
            return super()._note(behaviours, positions, index_of)
        return unclicked(behaviours, positions, index_of, self.config.history_kinds, self.config.prompts)

    def _load(self, weights: Tensors) -> None:
        self._catalogue = Catalogue.of(self._tensors["counts"])
        if weights:
            import torch

            from armlift_arms.conversation import Conversation, Parts
            from armlift_arms.recall import Recall

            units = len(weights["users.weight"]) - 1 if self.config.user_vectors else None
            shape = self.config.shape(len(weights["decoder.items.weight"]))
            self._model = Conversation(shape, Parts(units, self.config.segments, self.config.ahead))
            load_weights(self._model, weights)
            closed = torch.from_numpy(~self._met).to(self._model.decoder.items.weight.device)
            with torch.inference_mode():
                self._recall = Recall(self._model, self.plan, closed)

    def _rankings(self, asked: Sequence[Asked]) -> list[Ranking]:
        import torch

        from armlift_arms.recall import Known

        steps = len(self.plan.recall)
        slates = [_Slate(self, request) for request, *_ in asked]
        units = np.array([self._unit_rows.get(request.unit, 0) for request, *_ in asked], dtype=np.int64)
        given = [self._given(one) for one in asked]
        known = Known(given, self._chances(asked))
        with torch.inference_mode():
            sequences = [one.sequence for one in asked]
            for rows, talk in self._recall.conversations(sequences, units, known):
                met = rows.tokens
                for step in range(steps):
                    scores = self._recall.scores(talk).cpu().numpy()
                    first = np.zeros(len(scores), dtype=np.int64)
                    for row, place in enumerate(rows.places.tolist()):
                        first[row] = slates[place].take(step, scores[row])
                    if step < steps - 1:
                        met = self._recall.go_on(talk, met, torch.from_numpy(first).to(met.device))
                self._show(rows, talk, asked, given, slates)
        return [slate.ranking() for slate in slates]

    def _given(self, one: Asked) -> Longs:
        """Give the prompts that are not generated, [length, K]: those stored, or those of another source."""
        config, request = self.config, one.request
        if config.prompt_source == "unclicked":
            kinds = config.history_kinds
            return unclicked(request.history, one.positions, self._met_index, kinds, config.prompts)
        if config.prompt_source == "generated":
            return stored(request.prompts or (), one.positions, self._met_index, config.prompts)
        place = (request.unit, one.positions, one.sequence)
        return of_catalogue(config.prompt_source, self._catalogue, *place, config.prompts, config.seed)

    def _chances(self, asked: Sequence[Asked]) -> list[npt.NDArray[np.float64]] | None:
        """Give the numbers that draw prompts, [length, K] each, if they are drawn."""
        if self.config.top_p is None:
            return None
        k, seed = self.config.prompts, self.config.seed
        return [chances(one.request.unit, one.positions, k, seed) for one in asked]

    def _show(
        self,
        rows: "Rows",
        talk: "Talk",
        asked: Sequence[Asked],
        given: Sequence[Longs],
        slates: "Sequence[_Slate]",
    ) -> None:
        """Tell the slates of some rows which prompts to their behaviours were in view."""
        width = rows.tokens.shape[1]
        for turn, step, items, scores in talk.prompts:
            values = zip(rows.places.tolist(), items.tolist(), scores.tolist(), strict=False)
            for place, item, score in values:
                at = turn - width + len(asked[place].sequence)
                if 0 <= at < len(asked[place].sequence):
                    position = int(asked[place].positions[at])
                    was_given = bool(given[place][at, step] >= 0)
                    prompt = Prompt(position, step, self._ids[item], score, was_given)
                    slates[place].prompts.append(prompt)


class _Slate:
    """A slate that grows by the items each recall step has its share of."""

    def __init__(self, arm: RecGpt, request: Request) -> None:
        self._arm = arm
        sizes = shares(request.k, arm.plan.recall)
        # Where any item may be drawn, the last step ranks all that is left.
        depth = depth_of(request, arm.config)
        self._sizes = sizes if depth == request.k else (*sizes[:-1], depth)
        self._hidden = arm._seen(request)
        self._left = request
        self._items: list[str] = []
        self._scores: list[float] = []
        self._steps: list[int] = []
        self.prompts: list[Prompt] = []

    def take(self, step: int, scores: Singles) -> int:
        """Take a step's share of the best that are left, by scores [n]; gives the index of the first."""
        arm = self._arm
        found = arm._best(self._left, scores, self._sizes[step], self._hidden)
        self._items += found.items
        self._scores += found.scores
        self._steps += [step] * len(found.items)
        indices = [arm._index_of[item] for item in found.items if item in arm._index_of]
        self._hidden = [*self._hidden, *indices]
        if self._left.candidates is not None:
            taken = set(found.items)
            left = [item for item in self._left.candidates if item not in taken]
            self._left = self._left._replace(candidates=left)
        return indices[0] if indices else int(scores.argmax())

    def ranking(self) -> Ranking:
        """Give what was taken."""
        return Ranking(self._items, self._scores, self._steps, self.prompts)


@lru_cache
def shares(k: int, recall: tuple[int, ...]) -> tuple[int, ...]:
    """Part a slate of k between steps as `recall` says, as near as can be; at least 1 each while k allows."""
    if k <= len(recall):
        return (1,) * k + (0,) * (len(recall) - k)
    exact = [k * share / sum(recall) for share in recall]
    sizes = [max(1, int(size)) for size in exact]
    while sum(sizes) != k:
        change = 1 if sum(sizes) < k else -1
        open_ = [step for step in range(len(recall)) if sizes[step] + change >= 1]
        # The step that is furthest below its exact share gains, the one furthest above loses.
        sizes[max(open_, key=lambda step: change * (exact[step] - sizes[step]))] += change
    return tuple(sizes)
