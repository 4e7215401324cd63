"""What the API takes and gives, as OpenAPI shows it."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from armlift.arm import Name
from armlift.events import LATEST
from armlift.items import MOST_TEXT

MOST_ITEMS = 500
"""Items of a slate at most."""
MOST_CONTEXT = 50
"""Attributes a request may bring."""


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL, must not")
    return text


Text = Annotated[
    str,
    Field(min_length=1, max_length=MOST_TEXT, pattern=r"^[^\u0000]+$"),
    AfterValidator(_storable),
]
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""32 hexadecimal digits that begin with the request's time."""
Whole = Annotated[StrictInt, Field(ge=-(1 << 63), lt=1 << 63)]
Value = StrictStr | Whole | FiniteFloat | StrictBool
ShortText = Annotated[str, Field(max_length=MOST_TEXT, pattern=r"^[^\u0000]*$")]
ShortValue = ShortText | Whole | FiniteFloat | StrictBool
Why = Annotated[str, Field(max_length=1_000, pattern=r"^[^\u0000]*[^\u0000\s][^\u0000]*$")]
"""A text that says something."""
Context = Annotated[dict[Text, Value], Field(max_length=MOST_CONTEXT)]
Millis = Annotated[int, Field(ge=0, le=LATEST)]
Count = Annotated[int, Field(ge=0, lt=1 << 31)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RecommendRequest(_Part):
    """A unit asks for items, in an experiment or in whichever experiment of a layer takes it in."""

    unit_id: Text
    experiment: Name | None = None
    layer: Name | None = None
    k: int = Field(default=10, ge=1, le=MOST_ITEMS, description="Items at most.")
    context: Context = Field(
        default={}, description="Attributes for audiences and filters; they win over stored ones."
    )
    force: Name | None = Field(
        default=None, description="An arm for this call alone, to look at it; analysis leaves it out."
    )
    request_id: Identity | None = Field(
        default=None,
        description="A UUIDv7 in hexadecimal; that of a call that got no answer makes it the same call. Its "
        "time must be within an hour of now, unless the key's scopes hold `simulate`.",
    )

    @model_validator(mode="after")
    def _of_one(self) -> "RecommendRequest":
        if (self.experiment is None) == (self.layer is None):
            raise ValueError("experiment: must stand here, or layer, and not both")
        if self.force is not None and self.experiment is None:
            raise ValueError("force: must stand beside experiment, whose arm it names")
        return self


class Recommended(_Part):
    """An item of a slate, with what its impression must tell."""

    item_id: str
    position: int
    step: int
    score: float | None
    propensity: float | None


class RecommendAnswer(_Part):
    """A slate, and what its events must tell."""

    request_id: Identity
    ts: int = Field(description="The request's time, UTC milliseconds.")
    run: str
    unit_id: str
    experiment: str | None
    arm: str
    arm_version: str
    phase: int
    generation: int
    rule: str = Field(description="Which rule gave the arm.")
    exposed: bool = Field(description="Whether the unit takes part; if so its exposure is kept already.")
    exposure: str | None = Field(description="The id of the exposure that this call added.")
    fallback: str | None = Field(description="Why another arm answered in this one's name, if one did.")
    items: list[Recommended]


class AssignmentAnswer(_Part):
    """What a unit gets in an experiment; asking does not expose it."""

    unit_id: str
    experiment: str
    run: str
    arm: str
    phase: int
    generation: int
    rule: str
    exposed: bool = Field(description="Whether it takes part once it meets the arm.")


class AssignmentsAnswer(_Part):
    """A unit's assignment in each experiment that was asked for."""

    assignments: list[AssignmentAnswer]


class ExposureEvent(_Part):
    """A unit met its arm outside /v1/recommend."""

    type: Literal["exposure"]
    ts: Millis
    unit_id: Text
    experiment: Name
    arm: Name
    arm_version: Text
    generation: Count = 0
    phase: Count = 0
    forced: bool = False
    fallback: bool = False


class ImpressionEvent(_Part):
    """An item of a slate was shown."""

    type: Literal["impression"]
    request_id: Identity
    unit_id: Text
    item_id: Text
    arm: Text
    arm_version: Text
    position: Count
    step: Count = 0
    score: FiniteFloat | None = None
    propensity: Annotated[float, Field(gt=0, le=1)] | None = None
    fallback: bool = False
    ts: Millis | None = Field(default=None, description="UTC milliseconds; absent: now.")


class FeedbackEvent(_Part):
    """A unit did something with an item; the n-th time has ordinal n, from 0."""

    type: Literal["feedback"]
    request_id: Identity
    unit_id: Text
    item_id: Text
    kind: Text
    value: FiniteFloat = 1.0
    ordinal: Count = 0
    ts: Millis | None = Field(default=None, description="UTC milliseconds; absent: now.")


class AliasEvent(_Part):
    """An anonymous id turned out to be a unit."""

    type: Literal["alias"]
    ts: Millis
    unit_id: Text
    anonymous_id: Text


AnyEvent = Annotated[
    ExposureEvent | ImpressionEvent | FeedbackEvent | AliasEvent, Field(discriminator="type")
]


class EventBatch(_Part):
    """Events of one run; sent again, they are the same events."""

    run: Text = Field(default="live", description="As the answer to a request told it.")
    events: list[AnyEvent] = Field(min_length=1)


class Accepted(_Part):
    """So many events are kept, whatever fails from now on."""

    accepted: int


class Reason(_Part):
    """Why an experiment is changed."""

    reason: Why = "by the API"


class RampRequest(Reason):
    """A new phase that begins now."""

    traffic: Annotated[float, Field(ge=0, le=1)]
    weights: dict[Name, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None


class ExperimentAnswer(_Part):
    """How an experiment stands."""

    experiment: str
    run: str
    state: Literal["running", "paused", "stopped"]
    version: int
    hash: str
    arms: dict[str, float]
    control: str
    layer: str
    phase: int | None = Field(description="The phase it is in; null before the first.")
    traffic: float
    changes: list[str] = Field(default=[], description="What a new version of its file changed.")


class ExperimentsAnswer(_Part):
    """All experiments that were ever started."""

    experiments: list[ExperimentAnswer]


class ItemRow(_Part):
    """An item that may be shown, or not, and what filters look at."""

    item_id: Text
    available: bool = True
    attributes: Annotated[dict[Text, ShortValue], Field(max_length=100)] = {}


class ItemBatch(_Part):
    """Items, as they are now."""

    items: list[ItemRow] = Field(min_length=1)


class Failure(_Part):
    """One thing that is wrong."""

    code: str
    message: str
    id: str | None = None


class ErrorAnswer(_Part):
    """Why there is no other answer."""

    error: Failure


class Health(_Part):
    """Whether it can answer, and what is amiss."""

    status: Literal["ok", "degraded", "unavailable"]
    reasons: list[str]
