"""The experiment definition: arms, weights, a control, phases, an audience, metrics and an analysis plan.

A validator's message that begins with a key, as in `phases.1.start: ...`, stands at that key in the file.
"""

from datetime import date, datetime
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from armlift.arm import Name
from armlift.audience import Audience, parse_audience
from armlift.days import read_time
from armlift.errors import InputError
from armlift.hashing import digest
from armlift.simulation.settings import SimulationSettings

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Weights = dict[Name, Weight]


def exact(number: float) -> Fraction:
    """Give the decimal number that was written: 0.1 is a tenth, not its nearest binary fraction."""
    return Fraction(repr(number))


def _some_weight(weights: Weights) -> Weights:
    if not weights:
        raise ValueError("names no arm, must name one or more")
    if not sum(weights.values()) > 0:
        raise ValueError(f"weights {weights} are all 0, at least one must be > 0")
    return weights


CheckedWeights = Annotated[Weights, AfterValidator(_some_weight)]


def _written_time(value: object) -> object:
    try:
        return read_time(value) if isinstance(value, str) else value
    except InputError as error:
        raise ValueError(str(error)) from error


Time = Annotated[datetime | date, BeforeValidator(_written_time)]
"""ISO 8601, nothing else; a date alone means its first moment in the lab's time zone."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Layer(_Part):
    """The slice of a layer this experiment owns; experiments of one layer own slices that do not overlap."""

    name: Name = "default"
    slice: tuple[Share, Share] = (0.0, 1.0)

    @field_validator("slice")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError(f"{list(value)} is empty, must be [from, to] with from < to")
        return value


class Phase(_Part):
    """A period with constant traffic share. New `weights` start a new generation."""

    start: Time | None = Field(
        default=None, description="When it begins, in the lab's time zone; the first phase may leave it out."
    )
    traffic: Share = Field(default=1.0, description="Share of the eligible units that take part.")
    weights: CheckedWeights | None = Field(
        default=None, description="New weights; the arms are those of the experiment."
    )


class ExperimentMetrics(_Part):
    """Which metrics decide, which inform, and which must not get worse."""

    primary: tuple[Name, ...] = Field(min_length=1)
    secondary: tuple[Name, ...] = ()
    guardrails: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        seen: dict[str, str] = {}
        for role in ("primary", "secondary", "guardrails"):
            for index, name in enumerate(getattr(self, role)):
                if name in seen:
                    raise ValueError(
                        f"{role}.{index}: metric {name!r} stands twice, must have one role, has {seen[name]}"
                    )
                seen[name] = role
        return self

    @property
    def roles(self) -> dict[str, str]:
        """Map each metric to its role, in the order of the definition."""
        return (
            dict.fromkeys(self.primary, "primary")
            | dict.fromkeys(self.secondary, "secondary")
            | dict.fromkeys(self.guardrails, "guardrail")
        )


class Exclusion(_Part):
    """Units left out of all arms for doing more than people do, such as bots."""

    metric: Name = Field(description="A mean, of which a unit's total is looked at.")
    above: FiniteFloat = Field(description="Units whose total is larger are left out.")
    per: Literal["total", "day"] = Field(
        default="total", description="Whether all days since first exposure are added, or each is held to it."
    )


class AnalysisPlan(_Part):
    """How the experiment is judged; fixed when it starts."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Two-sided error rate of each family.")
    minimum_units: int = Field(
        default=30, ge=2, description="Units an arm needs before its comparison is judged."
    )
    planned_units: int | None = Field(
        default=None,
        ge=2,
        description="Units of all arms at which a live experiment is judged by its plain intervals; until "
        "then, or without a plan, by its always-valid ones.",
    )
    smallest_lift: float | None = Field(
        default=None,
        gt=0,
        lt=10,
        description="The smallest lift of the first primary metric worth shipping, a fraction such as 0.01.",
    )
    always_valid_units: int = Field(
        default=5000, ge=1, description="Units at which always-valid intervals are tightest."
    )
    segments: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), description="Attributes; arms are compared once more within each of their values."
    )

    exclusions: dict[Name, Exclusion] = Field(
        default_factory=dict, description="Rules by which units are left out, the same for all arms."
    )

    @field_validator("segments")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} stands twice, must stand once")
        return names


class ReplaySettings(_Part):
    """How a log is cut and grouped."""

    train_until: Time | None = Field(
        default=None,
        description="Earlier rows are history and training, later ones are replayed; default: half the days.",
    )
    session_gap: float = Field(
        default=30, gt=0, allow_inf_nan=False, description="Minutes without a row that end a session."
    )
    versions: dict[Name, str] = Field(
        default_factory=dict, description="Artefacts to use as they are, by arm; others are fitted."
    )


class Experiment(_Part):
    """One experiment; its file is experiments/NAME.yaml."""

    name: Name
    description: str = ""
    arms: CheckedWeights = Field(description="Each arm's weight; weights are relative to their sum.")
    control: Name
    layer: Layer = Layer()
    audience: str | None = Field(default=None, description="A condition on attributes; absent: everybody.")
    phases: tuple[Phase, ...] = Field(default=(Phase(),), min_length=1)
    forced: dict[str, Name] = Field(default_factory=dict, description="Units that always get a given arm.")
    training_data: Literal["pooled", "own", "weighted"] = "pooled"
    metrics: ExperimentMetrics
    analysis: AnalysisPlan = AnalysisPlan()
    replay: ReplaySettings = ReplaySettings()
    simulation: SimulationSettings = SimulationSettings()

    @field_validator("audience")
    @classmethod
    def _understood(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_audience(text)
            except InputError as error:
                raise ValueError(str(error).removeprefix("audience").lstrip(": ")) from error
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._arms_only("control", self.control)
        for unit, arm in self.forced.items():
            self._arms_only(f"forced.{unit}", arm)
        for arm in self.replay.versions:
            self._arms_only(f"replay.versions.{arm}", arm)
        for arm in self.simulation.planted:
            self._arms_only(f"simulation.planted.{arm}", arm)
        for index, phase in enumerate(self.phases):
            if phase.weights is not None and set(phase.weights) != set(self.arms):
                raise ValueError(
                    f"phases.{index}.weights: name {', '.join(phase.weights)}, "
                    f"must name the experiment's arms: {', '.join(self.arms)}"
                )
            if index and phase.start is None:
                raise ValueError(f"phases.{index}.start: is missing; only the first phase may leave it out")
        return self

    def _arms_only(self, key: str, arm: str) -> None:
        if arm not in self.arms:
            raise ValueError(f"{key}: {arm!r} is not an arm, must be one of {', '.join(self.arms)}")

    @property
    def parsed_audience(self) -> Audience | None:
        """Give the audience as a tree, None for everybody."""
        return parse_audience(self.audience) if self.audience is not None else None

    @property
    def challengers(self) -> list[str]:
        """List the arms other than the control."""
        return [arm for arm in self.arms if arm != self.control]

    @property
    def content_hash(self) -> str:
        """Name the content, defaults filled in: 32 hexadecimal digits. The order of arms is a part of it."""
        return digest(self.model_dump_json())
