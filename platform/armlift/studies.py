"""Studies: questions about an arm, answered by evaluating settings of it on the same units.

A setting is a change to the arm's definition, made before it is trained or, for the same weights, after; or
it is another arm. `trials` tries them. Which studies an arm answers is told by its package, under the
entry-point group `armlift.studies`: the name is that of the model, the value a function from the arm's
definition to its studies.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol

from armlift.arm import Arm, ArmConfig, Slate
from armlift.errors import InputError
from armlift.evaluation import Floats
from armlift.findings import Answer, default_answer
from armlift.heldout import Asked, HeldOut

Changes = Mapping[str, object]
View = Callable[[Iterator[Asked]], Iterator[Asked]]


class Outcome(NamedTuple):
    """What one setting came to with one seed.

    `measures` are values a unit, float64 [units], NaN where it has none; `figures` are other numbers.
    """

    units: tuple[str, ...]
    measures: Mapping[str, Floats]
    figures: Mapping[str, float]
    version: str


class Observer(Protocol):
    """Watches an evaluation for what HR and NDCG do not tell."""

    def see(self, asked: Sequence[Asked], slates: Sequence[Slate]) -> None:
        """Look at a batch: what was asked, and the slates of 20 that answer."""
        ...

    def outcome(self) -> tuple[Mapping[str, Floats], Mapping[str, float]]:
        """Give measures, one value a unit in the order they were seen, and figures."""
        ...


class Source(Protocol):
    """Where a study's data come from."""

    @property
    def kinds(self) -> frozenset[str]:
        """Name the kinds of feedback it tells of."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Tell what must be known of the data that were asked for."""
        ...

    def data(self, kinds: Iterable[str]) -> HeldOut | None:
        """Hold an item of one of these kinds out a unit; None where it does not tell of any."""
        ...


class Fits(Protocol):
    """Fits arms once: see `FittedArms`."""

    @property
    def url(self) -> str:
        """Say where artefacts are kept."""
        ...

    def known(self, config: ArmConfig, data_hash: str) -> Arm | None:
        """Load the arm fitted on data of this hash, if there is one."""
        ...

    def fit(self, config: ArmConfig, data: HeldOut) -> Arm:
        """Fit an arm and keep it."""
        ...


Observe = Callable[[Arm, HeldOut, Arm], Observer]
"""Makes an observer of an arm, the data, and the arm of the study's first setting."""
Measure = Callable[[ArmConfig, HeldOut], Outcome]


@dataclass(frozen=True)
class Setting:
    """One setting of a study.

    `train` are changes to the definition that the arm is trained by, `serve` those that follow, on the same
    weights. `arm` is another arm of the lab in the arm's place. `base` is the setting it is compared with.
    `kind` is the feedback that is learnt and asked for, instead of the arm's own kinds. `view` changes what
    is asked. Where `may_lack` is set, data that the fit refuses are no error: there is no data. `measure`
    stands in the place of fitting and evaluating.
    """

    name: str
    train: Changes = field(default_factory=dict)
    serve: Changes = field(default_factory=dict)
    arm: str | None = None
    base: str | None = None
    kind: str | None = None
    view: View | None = None
    may_lack: bool = False
    observe: Observe | None = None
    measure: Measure | None = None


@dataclass(frozen=True)
class Study:
    """A question, and the settings that answer it.

    They are compared by `metric`; where they are `ordered`, more and more of one thing, it is also told from
    where on more stops helping. `figures` chooses from those of the manifests. A study that is `grouped`
    is answered for groups of units too.
    """

    question: str
    settings: Callable[[Source], Sequence[Setting]]
    metric: str = "NDCG@10"
    lower_is_better: bool = False
    ordered: bool = False
    grouped: bool = False
    figures: Callable[[Mapping[str, float]], Mapping[str, float]] | None = None
    answer: Answer = default_answer
    notes: tuple[str, ...] = ()


class Group(NamedTuple):
    """Some units by a name such as `history length: 5-6`."""

    name: str
    units: frozenset[str]


Grouping = Callable[[HeldOut, Sequence[str]], list[Group]]
"""Sorts the units of some data, of behaviours of some kinds, into groups."""


class Bench(NamedTuple):
    """What studies are run with: data, the lab's arms by name, fitted arms, and whom to tell."""

    source: Source
    arms: Mapping[str, ArmConfig]
    fitted: Fits
    tell: Callable[[str], None] = lambda text: None


def studies_of(config: ArmConfig) -> Mapping[str, Study]:
    """Find the studies an arm answers, by their names; none if its package tells of none."""
    found = [entry for entry in entry_points(group="armlift.studies") if entry.name == config.model]
    if not found:
        return {}
    studies: Mapping[str, Study] = found[0].load()(config)
    return studies


def study_of(config: ArmConfig, name: str) -> Study:
    """Find one study of an arm; raises InputError that lists those it answers."""
    known = studies_of(config)
    if not known:
        raise InputError(f"--study {name}: arm {config.name} (model {config.model}) answers no study")
    if name not in known:
        raise InputError(f"--study {name}: must be one of those of arm {config.name}: {', '.join(known)}")
    return known[name]
