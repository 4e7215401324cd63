"""What the neural arms share: configuration, training data, warm starts, and answers from scores.

PyTorch is imported where it is used: naming an arm and its configuration must not wait for it.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from armlift.arm import ArmConfig, Behaviour, Capability, History, ItemTable, Request, Slate
from armlift.artefacts import Tensors, pack_strings, read_weights, unpack_strings
from armlift.errors import InputError
from armlift.slates import FixedOrder, Ranking, depth_of, rank, seen_items, slate_of, top_k
from armlift_arms.known import Known, known_items, read_known
from armlift_arms.tables import TableArm
from armlift_arms.windows import Longs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from armlift_arms.loop import Recipe

Singles = npt.NDArray[np.float32]

_WEIGHTS = "model."  # what the names of a model's tensors begin with


class NeuralConfig(ArmConfig):
    """What the definition of every neural arm holds."""

    dim: int = Field(default=64, ge=1, le=4096, description="Width of item vectors and states.")
    length: int = Field(default=50, ge=1, le=4096, description="How many of a unit's last items are read.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Share of activations left out in training.")
    item_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of input items left out whole in training."
    )
    temperature: float | None = Field(
        default=0.05,
        gt=0,
        allow_inf_nan=False,
        description="Scores are cosines over this; null: scores are dot products.",
    )
    negatives: int = Field(
        default=1024, ge=1, le=1_000_000, description="Items drawn, by popularity, for the loss of a batch."
    )
    batch_tokens: int = Field(default=512, ge=1, description="Most positions of a batch, padding included.")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Step size of Adam.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of Adam.")
    averaging: float = Field(
        default=2.0, ge=0, description="Epochs over which weights are averaged; 0: the last weights are used."
    )
    epochs: int = Field(default=200, ge=1, description="Most passes over the data.")
    patience: int = Field(
        default=10, ge=1, description="Epochs without a better validation NDCG@10 that end training."
    )
    validation_share: float = Field(
        default=0.33, ge=0, le=1, description="Share of units whose last item is held out to validate."
    )
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of training.")

    @property
    def recipe(self) -> "Recipe":
        """Say how training goes."""
        from armlift_arms.loop import Recipe

        return Recipe(**self.model_dump(include=set(Recipe._fields)))


Config = TypeVar("Config", bound=NeuralConfig)


class Asked(NamedTuple):
    """A request, the indices of the last known items of its history, and where in the history each stands."""

    request: Request
    sequence: Longs
    positions: Longs


class Warm(NamedTuple):
    """Weights to start from, and where their rows go: (rows of the new table, rows of the old one)."""

    weights: Tensors
    item_rows: tuple[Longs, Longs]
    unit_rows: tuple[Longs, Longs]


class NeuralArm(TableArm[Config]):
    """An arm that scores the catalogue by what the unit met last, with a model trained on sequences.

    Adjacent behaviours on one item count once. An item nobody met in training scores as the lowest of the
    others; candidates outside the catalogue get that score too and rank behind all. A unit that met no item
    known from training is given popularity: the logarithm of each item's share of behaviours, one added to
    each count.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"trainable", "warm", "candidates", "propensity"}
    )

    @abstractmethod
    def _train(self, known: Known, warm: Warm | None) -> Tensors:
        """Train on sequences; gives the weights, none if there is nothing to learn."""

    @abstractmethod
    def _load(self, weights: Tensors) -> None:
        """Answer from now on with these weights; there may be none."""

    @abstractmethod
    def _rankings(self, asked: Sequence[Asked]) -> list[Ranking]:
        """Rank for requests whose sequences are not empty, in their order."""

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Train on behaviours before `until`, from the weights of `warm` on if given.

        What is known of units lies on disk meanwhile, so that histories may be larger than memory. Of a share
        of the units the last item is held out to say when to stop.
        """
        known = self._known(histories, items, until)
        counts = known.sequences.counts(len(items))
        weights = (
            self._train(known, None if warm is None else self._warm(warm, known)) if counts.any() else {}
        )
        unit_bytes, unit_offsets = pack_strings(known.units if self._knows_units() else [])
        tensors = {_WEIGHTS + name: tensor for name, tensor in weights.items()}
        self._learn(
            items,
            until,
            {"counts": counts, "unit_bytes": unit_bytes, "unit_offsets": unit_offsets, **tensors},
        )

    def _note(self, behaviours: Sequence[Behaviour], positions: Longs, index_of: Mapping[str, int]) -> Longs:
        """Note what training needs of a history beside the items at some positions, [n, K]."""
        return np.zeros((len(positions), 0), dtype=np.int64)

    def _knows_units(self) -> bool:
        """Tell whether the model has something of its own for each unit."""
        return False

    def _known(self, histories: Iterable[History], items: ItemTable, until: int) -> Known:
        kinds = self.config.history_kinds
        return read_known(histories, items, until=until, kinds=kinds, note=self._note)

    def _warm(self, folder: Path, known: Known) -> Warm:
        """Read an artefact to start from, and find its rows in the new tables."""
        _, tensors = read_weights(folder, self.config_class)
        ids = unpack_strings(tensors["item_bytes"], tensors["item_offsets"])
        units = unpack_strings(tensors["unit_bytes"], tensors["unit_offsets"])
        # Row 0 of a table of units is the unknown one's.
        new_units, old_units = _common(known.units if units else [], units)
        shared = np.zeros(1, dtype=np.int64)
        unit_rows = (np.append(shared, new_units + 1), np.append(shared, old_units + 1))
        return Warm(_weights(tensors), _common(known.items.ids, ids), unit_rows)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order."""
        asked = [self._asked(request) for request in requests]
        rankings = iter(self._ranked([one for one in asked if len(one.sequence)]))
        return [
            slate_of(
                next(rankings) if len(one.sequence) else self._by_popularity(one.request),
                one.request,
                self.config,
            )
            for one in asked
        ]

    def _ranked(self, asked: Sequence[Asked]) -> list[Ranking]:
        if not asked:
            return []
        from armlift_arms.serving import on_all_threads

        return on_all_threads(self._rankings, asked)

    def _answer(self, request: Request) -> Slate:
        return self.recommend([request])[0]

    def _asked(self, request: Request) -> Asked:
        """Read the last `length` known items of a request's history; none without a model."""
        tokens: list[tuple[int, int]] = []
        if self._trained:
            kinds = self.config.history_kinds
            history = request.history
            tokens = [*known_items(history, self._met_index, kinds)][-self.config.length :]
        laid = np.array(tokens, dtype=np.int64).reshape(-1, 2)
        return Asked(request, laid[:, 0], laid[:, 1])

    def _best(self, request: Request, scores: Singles, depth: int, hidden: Sequence[int]) -> Ranking:
        """Rank the `depth` best of a request's candidates, or of the catalogue, but the `hidden` indices."""
        if len(self._unmet):
            scores = scores.copy()
            scores[self._unmet] = np.inf
            scores[self._unmet] = scores.min()
        if request.candidates is None:
            best = top_k(scores, depth, hidden)
            return Ranking([self._ids[index] for index in best.tolist()], scores[best].tolist())
        known = (item for item in request.candidates if item in self._index_of)
        found = {item: float(scores[self._index_of[item]]) for item in known}
        return rank(request.candidates, found, unknown=float(scores.min()), depth=depth)

    def _seen(self, request: Request) -> list[int]:
        """Give the indices of what a unit has met, by whatever kind."""
        found = map(self._index_of.get, seen_items(request))
        return [index for index in found if index is not None]

    def _by_popularity(self, request: Request) -> Ranking:
        depth = depth_of(request, self.config)
        if request.candidates is None:
            return self._popular.best(depth, seen_items(request))
        return rank(request.candidates, self._popularity, unknown=self._least, depth=depth)

    def _read(self, ids: list[str], tensors: Tensors) -> None:
        counts: Longs = tensors["counts"]
        self._ids = ids
        self._index_of = {item: index for index, item in enumerate(ids)}
        self._met = counts > 0
        self._unmet = np.flatnonzero(~self._met)
        self._met_index = {item: index for item, index in self._index_of.items() if self._met[index]}
        popularity = np.log((counts + 1.0) / (counts.sum() + len(ids))) if ids else np.zeros(0)
        self._popularity: dict[str, float] = dict(zip(ids, popularity.tolist(), strict=True))
        self._popular = FixedOrder(ids, popularity)
        self._least = float(popularity.min(initial=0.0))
        units = unpack_strings(tensors["unit_bytes"], tensors["unit_offsets"])
        self._unit_rows = {unit: row for row, unit in enumerate(units, 1)}
        weights = _weights(tensors)
        self._trained = bool(weights)
        self._load(weights)


class OneStepArm(NeuralArm[Config]):
    """An arm that ranks by one score of each item."""

    @abstractmethod
    def _scored(self, sequences: Sequence[Longs]) -> "Iterator[tuple[Longs, Tensor]]":
        """Score the catalogue after sequences, some at a time: their places [n], and [n or more, N]."""

    def _rankings(self, asked: Sequence[Asked]) -> list[Ranking]:
        import torch

        found: dict[int, Ranking] = {}
        with torch.inference_mode():
            for places, scores in self._scored([one.sequence for one in asked]):
                for place, row in zip(places.tolist(), scores.cpu().numpy(), strict=False):
                    found[place] = self._ranking(asked[place].request, row)
        return [found[place] for place in range(len(asked))]

    def _ranking(self, request: Request, scores: Singles) -> Ranking:
        """Rank what a request may be given by scores of the catalogue, float32 [n]."""
        return self._best(request, scores, depth_of(request, self.config), self._seen(request))


def _weights(tensors: Tensors) -> Tensors:
    """Take the model's weights out of an arm's tensors."""
    return {name.removeprefix(_WEIGHTS): of for name, of in tensors.items() if name.startswith(_WEIGHTS)}


def _common(new: Sequence[str], old: Sequence[str]) -> tuple[Longs, Longs]:
    """Find the ids in both: their places among the new ones and among the old ones."""
    place_of = {name: place for place, name in enumerate(old)}
    pairs = [(place, place_of[name]) for place, name in enumerate(new) if name in place_of]
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def start_from(model: "nn.Module", warm: Warm | None) -> None:
    """Write the weights of an earlier model over those of a new one; new items and units keep their own.

    Raises InputError for weights of another model or shape.
    """
    import torch

    if warm is None:
        return
    state = model.state_dict()
    if unlike := sorted(state.keys() ^ warm.weights.keys()):
        raise InputError(
            f"warm start: {unlike[0]} is not in both models, the artefact must be of one with the same parts"
        )
    for name, new in state.items():
        rows = {"items.weight": warm.item_rows, "users.weight": warm.unit_rows}.get(
            name.split("decoder.")[-1]
        )
        old = torch.from_numpy(warm.weights[name])
        if new.shape[rows is not None :] != old.shape[rows is not None :]:
            raise InputError(
                f"warm start: {name} has the shape {tuple(old.shape)}, must fit {tuple(new.shape)}: "
                f"dim, layers, heads and length must be those of the artefact"
            )
        if rows is None:
            new.copy_(old)
        else:
            new[rows[0]] = old[rows[1]].to(new.device)


def weights_of(model: "nn.Module") -> Tensors:
    """Copy a model's weights."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def load_weights(model: "nn.Module", weights: Tensors) -> None:
    """Write weights over those of a model of the same shape, and make it ready to answer."""
    import torch

    from armlift_arms.loop import device

    model.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in weights.items()})
    model.to(device()).eval()
