"""What simulated users and their videos are made of: the part `simulation` of an experiment."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

Factor = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class SimulationSettings(BaseModel):
    """Everything that decides how simulated users behave, beside their number, the days and the seed.

    Effects on a click are in its log odds. Levels are fitted so that, with all these effects, uniform draws
    of the videos and the app's own policy have the published click and long-view rates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_day: date = Field(default=date(2022, 4, 22), description="The first day of the experiment.")
    history_days: int = Field(
        default=7,
        ge=1,
        le=60,
        description="Days before, when the app's own policy shows; arms learn from them.",
    )
    training_users: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Arms learn from the past of so many users at most."
    )
    retrain: Literal["never", "nightly"] = Field(
        default="never", description="Whether arms are fitted anew after every day, on what there is by then."
    )

    sessions_per_day: float = Field(default=2.0, gt=0, le=12, description="Mean sessions of a user in a day.")
    rows_per_session: float = Field(
        default=12.0, ge=1, le=300, description="Mean impressions of a session under the app's own policy."
    )
    weekdays: tuple[Factor, Factor, Factor, Factor, Factor, Factor, Factor] = Field(
        default=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        description="What each weekday, from Monday on, multiplies the sessions by.",
    )
    user_spread: float = Field(
        default=0.9, ge=0, le=3, description="Standard deviation of users' readiness to click."
    )

    videos: int = Field(default=3_000, ge=20, le=100_000, description="How many videos there are.")
    catalogue_seed: int = Field(default=0, ge=0, description="Seed of the videos.")
    taste_categories: int = Field(
        default=24, ge=2, le=500, description="How many categories the videos, and so the tastes, fall into."
    )
    popularity_exponent: float = Field(
        default=0.8,
        ge=0,
        le=2,
        description="The app's policy offers rank r in proportion to r to minus this.",
    )

    taste_strength: float = Field(default=3.0, ge=0, le=6, description="What a user's first taste adds.")
    evolution: Share = Field(
        default=0.5,
        description="Chance that a click moves the taste it served on to what follows it; 0: never.",
    )
    taste_drift: Share = Field(
        default=0.02, description="Chance that a taste is replaced by any other from one day to the next."
    )
    position_bias: float = Field(
        default=0.1,
        ge=0,
        le=3,
        description="A slot is looked at with the chance (1 + position) to minus this.",
    )
    fatigue: float = Field(
        default=1.0, ge=0, le=10, description="What each repeat of a video to a user costs."
    )
    novelty: FiniteFloat = Field(
        default=0.0,
        ge=-5,
        le=5,
        description="What an arm other than the control adds at a unit's first exposure.",
    )
    novelty_days: float = Field(
        default=3.0, gt=0, le=365, description="Days after which novelty has fallen to 1/e of that."
    )
    planted: dict[str, FiniteFloat] = Field(
        default_factory=dict, description="What an arm adds by itself, whatever it shows: a known effect."
    )
    stay: float = Field(
        default=0.5, ge=0, le=5, description="How much an item watched for long lowers the chance to leave."
    )
    loyalty: float = Field(
        default=0.5, ge=0, le=5, description="How much being satisfied raises the number of later sessions."
    )

    @field_validator("weekdays")
    @classmethod
    def _some_day(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not any(value):
            raise ValueError("are all 0, at least one must be > 0")
        return value

    @model_validator(mode="after")
    def _enough_videos(self) -> Self:
        if self.taste_categories > self.videos:
            raise ValueError(
                f"taste_categories: {self.taste_categories} must be at most videos, {self.videos}"
            )
        return self
