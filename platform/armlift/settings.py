"""The lab's settings: environment `ARMLIFT_*`, then `armlift.toml`, then these defaults."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from armlift.arm import Name
from armlift.days import Calendar
from armlift.errors import InputError
from armlift.events import IMPRESSION_KIND, KINDS
from armlift.yamlfile import read_toml

FILE = "armlift.toml"


class HoldoutSettings(BaseModel):
    """The share of units kept out of every experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = "lab"
    share: float = Field(default=0.0, ge=0, le=1)


class KindSettings(BaseModel):
    """The feedback kinds events may bear."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")], ...] = KINDS

    @field_validator("names")
    @classmethod
    def _not_reserved(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if IMPRESSION_KIND in names:
            raise ValueError(f"{IMPRESSION_KIND!r} is reserved for items shown")
        return names


class Settings(BaseSettings):
    """What changes between a laptop and production: three URLs; and the lab's own choices."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="ARMLIFT_", env_nested_delimiter="__"
    )

    database_url: str = Field(default="sqlite:///armlift.db", description="Any SQLAlchemy URL.")
    stream_url: str = Field(
        default="local://stream", description="local://FOLDER or kafka://HOST:PORT/TOPIC."
    )
    artefact_url: str = Field(default="models", description="A folder or any fsspec URL.")
    timezone: str = Field(default="UTC", description="Defines the day everywhere.")
    default_arm: Name = Field(default="popularity", description="Serves whoever takes no part.")
    holdout: HoldoutSettings = HoldoutSettings()
    kinds: KindSettings = KindSettings()
    history_limit: int = Field(
        default=200, ge=1, description="Behaviours an arm is shown of a unit, at most."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            Calendar(name)
        except InputError as error:
            raise ValueError(str(error).removeprefix("timezone: ")) from error
        return name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file's values, which come in as arguments."""
        return env_settings, init_settings


def read_settings(folder: Path) -> Settings:
    """Read a lab's settings; raises InputError with file, line and key, or the environment variable."""
    source = read_toml(folder / FILE)
    data = source.data
    assert isinstance(data, dict)
    try:
        return Settings(**data)
    except ValidationError as error:
        variable = "ARMLIFT_" + "__".join(str(step).upper() for step in error.errors()[0]["loc"])
        if _from_environment(data, error):
            first = error.errors(include_url=False)[0]
            raise InputError(f"{variable}: {first['input']!r} {first['msg'].lower()}") from error
        raise source.complaint(error, Settings) from error


def _from_environment(data: dict[str, object], error: ValidationError) -> bool:
    """Tell whether the value complained about came from the environment, not from the file."""
    value: object = data
    for step in error.errors()[0]["loc"]:
        if not isinstance(value, dict) or step not in value:
            return error.errors()[0]["type"] != "missing"
        value = value[step]
    return False
