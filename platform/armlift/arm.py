"""The contract every recommender keeps, and how arms are found.

An arm is a class with a configuration (pydantic, unknown keys refused). It is announced under the entry-point
group `armlift.arms`, so that an outside package adds one without touching this one:

    [project.entry-points."armlift.arms"]
    mine = "my_package.mine:Mine"

and a lab uses it with `model: mine` in its YAML file.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from armlift.errors import InputError

Capability = Literal["trainable", "warm", "prompts", "candidates", "propensity"]
"""`trainable`: what it is fitted on decides its slates; `warm`: `fit` goes on from an artefact's weights;
`prompts`: it uses a unit's stored prompts; `candidates`: it orders what it is given; `propensity`: it tells
the probability of each choice."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""Names of arms, experiments, layers and metrics: lower case, digits, `_` and `-`."""


class Behaviour(NamedTuple):
    """One thing a unit did: an item, the kind of feedback, its value, and when (UTC milliseconds)."""

    item: str
    kind: str
    value: float
    ts: int


class History(NamedTuple):
    """What a unit did, oldest first."""

    unit: str
    behaviours: Sequence[Behaviour]


class Prompt(NamedTuple):
    """An item a model said to a unit, in answer to the behaviour at `position` of its history.

    `step` counts the prompts to one behaviour from 0. `stored` tells that it was read, not generated anew.
    """

    position: int
    step: int
    item: str
    score: float = 0.0
    stored: bool = False


class Request(NamedTuple):
    """One call for at most `k` recommendations at a time `ts` (UTC milliseconds).

    With `candidates` the arm orders these and masks nothing; without, it recalls from its catalogue what the
    unit has not met. `prompts` are the unit's stored personalised prompts, for arms that use them; those to
    behaviours the history no longer has, or of items the catalogue lacks, are generated anew.
    """

    request_id: str
    unit: str
    ts: int
    k: int
    history: Sequence[Behaviour] = ()
    candidates: Sequence[str] | None = None
    prompts: Sequence[Prompt] | None = None
    context: Mapping[str, object] | None = None
    attributes: Mapping[str, object] | None = None


class Slate(NamedTuple):
    """The answer to a request: four sequences of one length, at most k, best first.

    `steps` holds the recall step of each item (0 is the first), `propensities` the probability with which the
    policy put the item there given the items before it, or None where that is not known. `fallback` says that
    the arm could not answer and another policy did in its name. `prompts` are those the model had in view.
    """

    items: Sequence[str]
    scores: Sequence[float]
    steps: Sequence[int]
    propensities: Sequence[float | None]
    fallback: bool = False
    prompts: Sequence[Prompt] = ()


@dataclass(frozen=True)
class ItemTable:
    """The catalogue an arm is fitted on: item ids in ascending order, and columns of equal length.

    Ids sort as strings; a lower index is therefore a lower id, which is how ties are broken.
    """

    ids: Sequence[str]
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


class Exploration(BaseModel):
    """How a slate departs from the best order, with the probability of each choice known.

    `epsilon`: each explored slot takes, with probability `epsilon`, a uniform draw of the remaining items,
    else the best of them. `softmax`: each explored slot draws from exp(score / temperature) over the
    remaining items. `plackett_luce`: the same in every slot. The explored slots are the last `slots` of the
    slate; all of them when `slots` is absent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["epsilon", "softmax", "plackett_luce"]
    epsilon: float = Field(default=0.1, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    slots: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _only_what_the_kind_uses(self) -> Self:
        unused = {"epsilon": ("temperature",), "softmax": ("epsilon",), "plackett_luce": ("epsilon", "slots")}
        for key in unused[self.kind]:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no meaning for {self.kind}")
        return self


class ArmConfig(BaseModel):
    """What every arm definition holds; each model adds its own hyper-parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="The arm's name; its file is arms/NAME.yaml.")
    model: str = Field(description="The recommender, as announced under the entry-point group armlift.arms.")
    description: str = ""
    history_kinds: tuple[str, ...] = Field(
        default=("click", "like", "follow", "comment", "forward", "long_view"),
        min_length=1,
        description="Which feedback makes a behaviour of the history.",
    )
    exploration: Exploration | None = None
    seed: int = Field(default=0, ge=0)


@runtime_checkable
class Arm(Protocol):
    """A recommender: fitted on histories, saved as an artefact, asked for slates.

    A class is called with its configuration, an instance of its `config_class`. Randomness comes from
    (config.seed, request_id), never from the order of a batch; ties go by item id.
    """

    config_class: ClassVar[type[ArmConfig]]
    capabilities: ClassVar[frozenset[Capability]]
    version: str

    @property
    def config(self) -> ArmConfig:
        """Give the definition the arm was made of; a model may narrow its type."""
        ...

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Learn from behaviours before `until` (UTC milliseconds), from the artefact `warm` on if given."""
        ...

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order."""
        ...

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, weights and configuration, in an existing folder (see `artefacts`)."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that `save` wrote; the loaded arm gives the same slates."""
        ...


@cache
def arm_classes() -> dict[str, type[Arm]]:
    """Find every installed recommender by the name its entry point gives it; classes are loaded here."""
    return {entry.name: entry.load() for entry in entry_points(group="armlift.arms")}


def new_arm(config: ArmConfig) -> Arm:
    """Make an arm of its definition; it is not fitted yet."""
    make: Callable[[ArmConfig], Arm] = arm_class(config.model)
    return make(config)


def arm_class(model: str) -> type[Arm]:
    """Find one recommender; raises InputError that lists the installed ones."""
    found = {entry.name: entry for entry in entry_points(group="armlift.arms")}
    if model not in found:
        raise InputError(f"model: {model!r} is not installed, must be one of {', '.join(sorted(found))}")
    loaded: type[Arm] = found[model].load()
    return loaded
