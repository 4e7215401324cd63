"""The mapping of an import: which columns hold what, and what arms and kinds are called there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from armlift.arm import Name
from armlift.complaints import choices
from armlift.errors import InputError
from armlift.segments import segment_name
from armlift.tabular import Tabular
from armlift.yamlfile import Source, read_yaml

Column = Annotated[str, Field(min_length=1)]
Optional = Annotated[Column | None, Field(description="Absent: the column of this name, if there is one.")]
Epoch = Literal["s", "ms", "us", "ns"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExposureColumns(_Part):
    """The columns of exposures: a unit, when it met its arm, and which arm."""

    unit_id: Column = "unit_id"
    ts: Column = "ts"
    arm: Column = "arm"
    attributes: dict[str, Column] = Field(
        default={}, description="The column of an attribute, by its name; absent: the column of this name."
    )
    phase: Optional = None
    arm_version: Optional = None
    forced: Optional = None


class EventColumns(_Part):
    """The columns of events: a unit, when it did something, and what; without a value each counts 1."""

    unit_id: Column = "unit_id"
    ts: Column = "ts"
    kind: Column = "kind"
    value: Optional = None


class ImportMapping(_Part):
    """How the columns of an import are read."""

    exposures: ExposureColumns = ExposureColumns()
    events: EventColumns = EventColumns()
    arms: dict[str, Name] = Field(default={}, description="The experiment's arm, by what the source says.")
    kinds: dict[str, str] = Field(default={}, description="The lab's kind, by what the source says.")
    epoch: Epoch = Field(default="ms", description="The unit of times that are numbers, since 1970.")


class Mapping:
    """A mapping, and the file it stands in, if any."""

    def __init__(self, path: Path | None = None) -> None:
        self._source: Source | None = None if path is None else read_yaml(path)
        self.content = ImportMapping() if self._source is None else self._source.validate(ImportMapping)

    def check(self, arms: Sequence[str], kinds: Sequence[str], segments: Sequence[str]) -> None:
        """Raise InputError for an arm or segment the experiment lacks, or a kind the lab does not declare."""
        for attribute in self.content.exposures.attributes:
            if attribute not in segments:
                text = "is not in `analysis.segments` of the experiment"
                if segments:
                    text += f", must be one of {', '.join(segments)}"
                raise self._error(("exposures", "attributes", attribute), text)
        for part, known in (("arms", arms), ("kinds", kinds)):
            for told, name in getattr(self.content, part).items():
                if name not in known:
                    raise self._error((part, told), f"{name!r} {choices(name, known)}")

    def columns(
        self, part: Literal["exposures", "events"], table: Tabular, segments: Sequence[str] = ()
    ) -> dict[str, str]:
        """Give the columns of a table by what they hold; raises InputError that names one it lacks.

        Those of segments are under their `segment_name`.
        """
        there = table.columns()
        found = {}
        named = self.content.exposures.attributes
        for attribute in segments:
            column = named.get(attribute, attribute)
            if column not in there:
                text = f"{table.name} has no column {column!r}, {choices(column, there)}"
                raise self._error((part, "attributes", attribute), text)
            found[segment_name(attribute)] = column
        for name, column in getattr(self.content, part):
            if name == "attributes":
                continue
            if column is not None and column not in there:
                text = f"{table.name} has no column {column!r}, {choices(column, there)}"
                raise self._error((part, name), text)
            if column is not None or name in there:
                found[name] = column or name
        return found

    def _error(self, location: tuple[str, ...], text: str) -> InputError:
        if self._source is None:
            return InputError(f"{text}; name the column of {location[-1]} in --map FILE")
        return self._source.error(location, text)
