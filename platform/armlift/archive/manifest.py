"""Manifests: which files an archived day of a run consists of; and where files lie.

    exposures/run=RUN/day=DAY/experiment=NAME/HASH.parquet
    impressions/run=RUN/day=DAY/HASH.parquet                 feedback likewise
    manifests/run=RUN/day=DAY.json                           written last: a day without one is not archived

RUN and NAME are percent-encoded. HASH begins the sha256 of the file's bytes, so that what stands under a name
never changes. Files that no manifest names do not count.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from armlift.errors import InputError

MANIFESTS = "manifests"
_EPOCH = date(1970, 1, 1)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(_Part):
    """A Parquet file: its path in the archive, and what is in it."""

    path: str
    rows: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(_Part):
    """A day of a run as it is archived.

    A table that is not named was gone from the database before the day was archived; one without files had no
    rows.
    """

    schema_version: Literal[1] = 1
    run: str
    day: date
    tables: dict[str, tuple[StoredFile, ...]]
    written: datetime

    @property
    def path(self) -> str:
        """Give where it lies."""
        return manifest_path(self.run, day_number(self.day))

    @property
    def files(self) -> list[StoredFile]:
        """List the files of all tables."""
        return [file for files in self.tables.values() for file in files]

    @property
    def rows(self) -> dict[str, int]:
        """Count the rows, by table."""
        return {table: sum(file.rows for file in files) for table, files in self.tables.items()}


def parse(content: bytes) -> Manifest:
    """Read a manifest's content; raises InputError that says what is wrong with it."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"is not a manifest: {place}: {first['msg']}") from error


def made_of(run: str, day: int, tables: dict[str, tuple[StoredFile, ...]]) -> Manifest:
    """Make the manifest of a day, written now."""
    return Manifest(run=run, day=day_of(day), tables=tables, written=datetime.now(UTC))


def manifest_path(run: str, day: int) -> str:
    """Give where the manifest of a day (days since 1970-01-01, UTC) lies."""
    return f"{manifests_of(run)}/day={day_of(day)}.json"


def manifests_of(run: str) -> str:
    """Give the folder of a run's manifests."""
    return f"{MANIFESTS}/run={_quoted(run)}"


def run_and_day(path: str) -> tuple[str, int] | None:
    """Read run and day off a manifest's path; None for what is none."""
    parts = path.split("/")
    if len(parts) != 3 or not path.endswith(".json"):
        return None
    try:
        day = date.fromisoformat(parts[2].removeprefix("day=").removesuffix(".json"))
    except ValueError:
        return None
    return unquote(parts[1].removeprefix("run=")), day_number(day)


def folder_of(table: str, run: str, day: int, experiment: str | None) -> str:
    """Give where a day's files of a table lie, those of one experiment where the table names it."""
    folder = f"{table}/run={_quoted(run)}/day={day_of(day)}"
    return folder if experiment is None else f"{folder}/experiment={_quoted(experiment)}"


def day_of(day: int) -> date:
    """Give the date of a day counted from 1970-01-01."""
    return _EPOCH + timedelta(days=day)


def day_number(day: date) -> int:
    """Count a date's days from 1970-01-01."""
    return (day - _EPOCH).days


def _quoted(name: str) -> str:
    return quote(name, safe="")
