"""The lab's settings: environment `ARMLIFT_*`, then `armlift.toml`, then these defaults."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from armlift.arm import Name
from armlift.complaints import Location, first_complaint
from armlift.days import Calendar
from armlift.durations import LATENESS, Duration
from armlift.errors import InputError
from armlift.events import IMPRESSION_KIND, KINDS
from armlift.yamlfile import read_toml

FILE = "armlift.toml"
PREFIX = "ARMLIFT_"
_SERVER = r"(?:[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}"
_KAFKA_URL = re.compile(rf"kafka://(?P<servers>{_SERVER}(?:,{_SERVER})*)/(?P<topic>[A-Za-z0-9._-]{{1,249}})")
_SPARK_LOCAL = re.compile(r"local(\[([1-9][0-9]*|\*)\])?")
_SPARK_SERVERS = re.compile(rf"(?:spark|sc)://(?P<servers>{_SERVER}(?:,{_SERVER})*)")


def check_database_url(url: str) -> str:
    """Take the URL of an SQLite file or a PostgreSQL database; raises ValueError, which shows no password."""
    scheme, sign, rest = url.partition("://")
    if not sign or scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError(
            f"{scheme + sign!r} is no database, must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        )
    if scheme == "sqlite" and not rest.removeprefix("/"):
        raise ValueError(f"{url!r} names no file, must be like sqlite:///armlift.db")
    return url


def check_stream_url(url: str) -> str:
    """Take the URL of an event stream; raises ValueError, which shows no password."""
    scheme, sign, rest = url.partition("://")
    if scheme not in ("local", "kafka") or not rest:
        raise ValueError(f"{scheme + sign!r} is no stream, must be local://FOLDER or kafka://HOST:PORT/TOPIC")
    if scheme == "kafka":
        kafka_address(url)
    return url


def kafka_address(url: str) -> tuple[list[str], str]:
    """Split kafka://HOST:PORT[,HOST:PORT]/TOPIC into brokers and topic; raises ValueError where it cannot."""
    if "@" in url:
        raise ValueError(
            "holds user or password, must be kafka://HOST:PORT/TOPIC and kafka.user, kafka.password"
        )
    found = _KAFKA_URL.fullmatch(url)
    if found is None or found["topic"] in (".", ".."):
        raise ValueError(f"{url!r} names no topic, must be like kafka://HOST:PORT[,HOST:PORT]/TOPIC")
    return found["servers"].split(","), found["topic"]


def _check_timezone(name: str) -> str:
    try:
        Calendar(name)
    except InputError as error:
        raise ValueError(str(error).removeprefix("timezone: ")) from error
    return name


def _secret_text(value: object) -> object:
    # pydantic's own complaint would show the value.
    if not isinstance(value, str | SecretStr):
        raise ValueError("must be text, in quotes")
    return value


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
            raise ValueError(f"{IMPRESSION_KIND!r} is reserved for items shown, must not stand here")
        return names


class KafkaSettings(BaseModel):
    """How a kafka:// stream is reached, and what a topic that armlift makes is like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(default=4, ge=1, le=10_000, description="Of a topic that armlift makes.")
    retention_days: float = Field(default=30, gt=0, le=36_500, description="Of a topic that armlift makes.")
    create_topic: bool = Field(default=True, description="Make the topic where it is not there.")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    user: str = Field(default="", description="For SASL.")
    password: Annotated[SecretStr, BeforeValidator(_secret_text)] = Field(
        default=SecretStr(""), description=f"For SASL; better in {PREFIX}KAFKA__PASSWORD than in a file."
    )
    ca_file: str = Field(default="", description="A PEM file of the lab; the system's authorities if empty.")


def _argon2(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("$argon2"):
        raise ValueError("is no hash, must be what `armlift password NAME` prints")
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < LEAST_SECRET:
        raise ValueError(f"is too short, must have at least {LEAST_SECRET} characters")
    return value


LEAST_SECRET = 32
"""Characters of a secret that signs."""
Hash = Annotated[SecretStr, BeforeValidator(_secret_text), AfterValidator(_argon2)]
Somebody = Annotated[str, Field(min_length=1, max_length=200)]


class DashboardSettings(BaseModel):
    """Who may look at the pages of `armlift dashboard`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sign_in: Literal["none", "password", "oidc"] = Field(
        default="none", description="None: whoever reaches the pages is an owner."
    )
    owners: tuple[Somebody, ...] = Field(
        default=(), description="Names, or e-mail addresses for oidc; `*@example.org` is a whole domain."
    )
    viewers: tuple[Somebody, ...] = Field(
        default=(), description="As owners; they see no logs and nothing of single units."
    )
    passwords: dict[Somebody, Hash] = Field(
        default_factory=dict, description="By name, what `armlift password NAME` prints."
    )
    secret: Annotated[SecretStr, BeforeValidator(_secret_text), AfterValidator(_long_enough)] = Field(
        default=SecretStr(""),
        description=f"Signs sessions; better in {PREFIX}DASHBOARD__SECRET. Empty: made and kept in the lab.",
    )


class ServeSettings(BaseModel):
    """How `armlift serve` answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    require_keys: bool = Field(
        default=False, description="Ask for an API key; without, only this machine is served."
    )
    budget_ms: int = Field(
        default=100, ge=1, le=60_000, description="Milliseconds an arm may take; then the fallback answers."
    )
    fallback_arm: Name | None = Field(
        default=None, description="Answers where an arm does not; default: the default arm."
    )
    rehearsed_fallbacks: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of requests the fallback answers all the same, to rehearse.",
    )
    requests_per_second: int = Field(
        default=5_000, ge=1, le=1_000_000, description="Of one key; more are refused."
    )
    most_kilobytes: int = Field(default=1_024, ge=1, le=65_536, description="Of a request's body.")
    most_events: int = Field(default=1_000, ge=1, le=100_000, description="Of a batch.")
    spill_megabytes: int = Field(
        default=256, ge=1, le=1_000_000, description="Events kept on disk while the stream is away."
    )
    units_in_memory: int = Field(
        default=50_000, ge=1, le=10_000_000, description="Units whose histories are kept in memory."
    )


def _check_spark_url(url: str) -> str:
    if not (_SPARK_LOCAL.fullmatch(url) or _SPARK_SERVERS.match(url) or url == "yarn" or url[:6] == "k8s://"):
        raise ValueError(
            f"{url!r} is no Spark, must be local[N], local[*], spark://HOST:PORT, sc://HOST:PORT (Spark "
            "Connect), yarn or k8s://URL"
        )
    return url


class SparkSettings(BaseModel):
    """Where `--engine spark` computes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_check_spark_url)] = Field(
        default="local[*]", description="local[N] or local[*], a cluster's master, or sc://HOST:PORT."
    )
    memory: str = Field(
        default="2g",
        pattern=r"^[1-9][0-9]*[kmgt]$",
        description="Of the driver, such as 500m or 8g; on local[...] it does all the work.",
    )
    conf: dict[str, str] = Field(
        default_factory=dict, description="Settings of Spark by name, such as spark.executor.memory."
    )

    @property
    def local(self) -> bool:
        """Tell whether this machine does all the work."""
        return _SPARK_LOCAL.fullmatch(self.url) is not None

    @property
    def remote(self) -> bool:
        """Tell whether the session is a server's, by Spark Connect, so that no Java is needed here."""
        return self.url.startswith("sc://")

    @property
    def servers(self) -> list[tuple[str, int]]:
        """List the hosts and ports of which one must answer; empty where Spark looks for itself."""
        found = _SPARK_SERVERS.match(self.url)
        parts = [one.rpartition(":") for one in found["servers"].split(",")] if found else []
        return [(host.strip("[]"), int(port)) for host, _, port in parts]


class SettingsFile(BaseModel):
    """What `armlift.toml` may hold: four URLs that change between a laptop and production, and choices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database_url: Annotated[str, AfterValidator(check_database_url)] = Field(
        default="sqlite:///armlift.db", description="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
    )
    stream_url: Annotated[str, AfterValidator(check_stream_url)] = Field(
        default="local://stream", description="local://FOLDER or kafka://HOST:PORT/TOPIC."
    )
    artefact_url: str = Field(default="models", min_length=1, description="A folder or any fsspec URL.")
    archive_url: str = Field(default="archive", min_length=1, description="A folder or any fsspec URL.")
    timezone: Annotated[str, AfterValidator(_check_timezone)] = Field(
        default="UTC", description="Defines the day everywhere."
    )
    default_arm: Name = Field(default="popularity", description="Serves whoever takes no part.")
    holdout: HoldoutSettings = HoldoutSettings()
    kinds: KindSettings = KindSettings()
    kafka: KafkaSettings = KafkaSettings()
    dashboard: DashboardSettings = DashboardSettings()
    serve: ServeSettings = ServeSettings()
    spark: SparkSettings = SparkSettings()
    lateness: Duration = Field(
        default=LATENESS, description="How long after it happened an event may arrive without being late."
    )
    history_limit: int = Field(
        default=200, ge=1, description="Behaviours an arm is shown of a unit, at most."
    )


class Settings(SettingsFile, BaseSettings):
    """The settings in force."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

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
    source.validate(SettingsFile)
    _refuse_misspelt()
    try:
        return Settings(**source.data)  # type: ignore[arg-type]  # SettingsFile has just checked it
    except SettingsError as error:
        # The message names the field alone; a variable of it holds what is not JSON.
        field = re.search(r'field "(\w+)"', str(error))
        variable = _variable((field[1],)) if field else PREFIX
        raise InputError(f'{variable}: is not JSON, must be like ["click"] or {{"share": 0.1}}') from error
    except ValidationError as error:
        # The file is right by itself, so this comes from the environment.
        complaint = first_complaint(error, Settings, EnvSettingsSource(Settings)())
        raise InputError(f"{_variable(complaint.location)}: {complaint.text}") from error


def setting_error(folder: Path, location: Location, text: str) -> InputError:
    """Build the error of a setting that does not fit the lab: with its variable, or its file and line."""
    variable = _variable(location)
    if variable in _variables():
        return InputError(f"{variable}: {text}")
    return read_toml(folder / FILE).error(location, text)


def _variables() -> list[str]:
    """List the environment variables of ours that are set; their case does not matter."""
    return sorted(name.upper() for name in os.environ if name.upper().startswith(PREFIX))


def _variable(location: Location) -> str:
    """Name the variable that gives a setting: the one set for it, its parent or a part of it."""
    name = PREFIX + "__".join(str(step).upper() for step in location if isinstance(step, str))
    known = [one for one in _variables() if one == name or f"{name}__".startswith(f"{one}__")]
    parts = [one for one in _variables() if one.startswith(f"{name}__")]
    return max(known, default=parts[0] if parts else name, key=len)


def _refuse_misspelt() -> None:
    """Refuse a variable that is nearly one of ours; others are somebody else's: Kubernetes sets some."""
    fields = list(SettingsFile.model_fields)
    for variable in _variables():
        name = variable.removeprefix(PREFIX).partition("__")[0].lower()
        for near in difflib.get_close_matches(name, fields, n=1, cutoff=0.8):
            if near != name:
                meant, allowed = (
                    ", ".join(PREFIX + one.upper() for one in them) for them in ([near], fields)
                )
                raise InputError(
                    f"{variable}: unknown variable, must be one of {allowed} (did you mean {meant}?)"
                )
