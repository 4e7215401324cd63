"""The experiment definition: arms, weights, a control, phases, an audience, metrics and an analysis plan."""

from datetime import date, datetime
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from armlift.arm import Name
from armlift.audience import Audience, parse_audience
from armlift.errors import InputError

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

    start: datetime | date | None = Field(
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
        names = [*self.primary, *self.secondary, *self.guardrails]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"metric {name!r} stands twice, must have one role")
        return self

    @property
    def roles(self) -> dict[str, str]:
        """Map each metric to its role, in the order of the definition."""
        return (
            dict.fromkeys(self.primary, "primary")
            | dict.fromkeys(self.secondary, "secondary")
            | dict.fromkeys(self.guardrails, "guardrail")
        )


class AnalysisPlan(_Part):
    """How the experiment is judged; fixed when it starts."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Two-sided error rate of each family.")
    minimum_units: int = Field(
        default=30, ge=2, description="Units an arm needs before its comparison is judged."
    )


class ReplaySettings(_Part):
    """How a log is cut and grouped."""

    train_until: datetime | date | None = Field(
        default=None,
        description="Earlier rows are history and training, later ones are replayed; default: half the days.",
    )
    session_gap: float = Field(default=30, gt=0, description="Minutes without a row that end a session.")
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

    @field_validator("audience")
    @classmethod
    def _understood(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_audience(text)
            except InputError as error:
                raise ValueError(str(error)) from error
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = ", ".join(self.arms)
        if self.control not in self.arms:
            raise ValueError(f"control {self.control!r} is not an arm, must be one of {names}")
        for unit, arm in self.forced.items():
            if arm not in self.arms:
                raise ValueError(f"forced {unit!r} gets {arm!r}, which is not an arm, must be one of {names}")
        for arm in self.replay.versions:
            if arm not in self.arms:
                raise ValueError(
                    f"replay.versions names {arm!r}, which is not an arm, must be one of {names}"
                )
        for index, phase in enumerate(self.phases):
            if phase.weights is not None and set(phase.weights) != set(self.arms):
                raise ValueError(f"phases.{index}.weights must name the experiment's arms: {names}")
            if index and phase.start is None:
                raise ValueError(f"phases.{index}.start is missing; only the first phase may leave it out")
        return self

    @property
    def parsed_audience(self) -> Audience | None:
        """Give the audience as a tree, None for everybody."""
        return parse_audience(self.audience) if self.audience is not None else None

    @property
    def challengers(self) -> list[str]:
        """List the arms other than the control."""
        return [arm for arm in self.arms if arm != self.control]
