"""What a generated log is made of."""

from datetime import date
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from armlift.logs import published


class GeneratorSettings(BaseModel):
    """Everything that decides a generated log, byte for byte; the defaults are those of the published log.

    The videos come from `catalogue_seed` and the settings of videos alone, so that logs of other seeds share
    them. A log of more days begins with the log of fewer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0, description="Seed of users and of all that happens to them.")
    users: int = Field(default=200, ge=1, le=100_000, description="How many users there are.")
    days: int = Field(default=7, ge=1, le=366, description="How many days the log covers.")
    first_day: date = Field(default=date(2022, 4, 8), description="The first day, in `timezone`.")
    timezone: str = Field(default=published.TIMEZONE, description="Zone of days and hours.")
    sessions_per_day: float = Field(
        default=published.SESSIONS_PER_DAY, gt=0, le=12, description="Mean sessions of a user in a day."
    )
    rows_per_session: float = Field(
        default=published.ROWS_PER_SESSION, ge=1, le=300, description="Mean impressions of a session."
    )
    random_share: float = Field(
        default=published.RANDOM_SHARE,
        ge=0,
        le=1,
        description="Share of impressions that show a uniform draw of the pool.",
    )
    user_spread: float = Field(
        default=0.9, ge=0, le=3, description="Standard deviation of users' readiness to click, in log odds."
    )
    taste_strength: float = Field(
        default=2.0, ge=0, le=6, description="What a user's first taste adds to the log odds of a click."
    )
    taste_drift: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Chance that a taste of a user is replaced from one day to the next.",
    )
    catalogue_seed: int = Field(default=0, ge=0, description="Seed of the videos.")
    videos: int = Field(default=3_000, ge=2, le=1_000_000, description="How many videos there are.")
    random_pool: int | None = Field(
        default=None,
        ge=1,
        description="Random exposure draws from the first so many videos; all when absent.",
    )
    taste_categories: int = Field(
        default=46, ge=1, le=500, description="How many categories the videos, and so the tastes, fall into."
    )
    popularity_exponent: float = Field(
        default=0.8,
        ge=0,
        le=2,
        description="The video at rank r is offered in proportion to r to minus this.",
    )
    planted_lift: float = Field(
        default=0.0,
        ge=-0.9,
        le=1,
        description="The click probability of planted videos is multiplied by 1 plus this.",
    )
    planted_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of videos that are planted, whatever else they are."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not a time zone, must be a name such as Asia/Shanghai") from error
        return value

    @model_validator(mode="after")
    def _pool_of_videos(self) -> Self:
        if self.random_pool is not None and self.random_pool > self.videos:
            raise ValueError(f"random_pool is {self.random_pool}, must be at most videos, {self.videos}")
        return self

    @property
    def pool(self) -> int:
        """Give the number of videos that random exposure draws from."""
        return self.videos if self.random_pool is None else self.random_pool
