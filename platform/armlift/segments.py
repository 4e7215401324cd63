"""Segments: the units of a run that share a value of an attribute, such as `country=de`.

An experiment names the attributes by which its arms are compared once more. A unit's value is the one it came
with: what is told later, an arm may have moved. Units of which none is known are a segment as well.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from armlift.errors import InputError
from armlift.forgotten import writing_units
from armlift.store.sink import insert_or
from armlift.store.tables import unit_attributes

UNKNOWN = "-"
"""The value of units of which none is known."""
MOST_VALUES = 50
"""Values an attribute may have: of more, few would have enough units."""
LONGEST = 200
"""Characters a value may have."""
_TOLD = 5_000
"""Rows that are written at a time."""


class Segment(NamedTuple):
    """The units that have a value of an attribute."""

    attribute: str
    value: str

    def __str__(self) -> str:
        return f"{self.attribute}={self.value}"


def segment_name(attribute: str) -> str:
    """Name the column of a frame that holds units' values of an attribute."""
    return f"segment {attribute}"


def value_of(run: str, attribute: str, unit: ColumnElement[str]) -> ColumnElement[str]:
    """Give a unit's value of an attribute, UNKNOWN where none is stored."""
    a = unit_attributes.c
    told = select(a.value).where(a.run == run, a.attribute == attribute, a.unit_id == unit)
    return func.coalesce(told.scalar_subquery(), UNKNOWN)


def tell(connection: Connection, run: str, attribute: str, values: Iterable[tuple[str, int, str]]) -> None:
    """Store units' values, each with the time (UTC milliseconds) it was told: a unit's earliest counts.

    Of one time the value counts that sorts first, so that their order does not matter. What was told of
    units before they were forgotten is left out.
    """
    forgotten = writing_units(connection)
    earliest: dict[str, tuple[int, str]] = {}
    for unit, ts, value in values:
        if not forgotten.covers(unit, ts):
            earliest[unit] = min(earliest.get(unit, (ts, value)), (ts, value))
    rows = [
        {"run": run, "attribute": attribute, "unit_id": unit, "ts": ts, "value": value}
        for unit, (ts, value) in earliest.items()
    ]
    statement = insert_or(connection, unit_attributes)
    old, new = unit_attributes.c, statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=list(unit_attributes.primary_key.columns),
        set_={"ts": new.ts, "value": new.value},
        where=or_(new.ts < old.ts, and_(new.ts == old.ts, new.value < old.value)),
    )
    for start in range(0, len(rows), _TOLD):
        connection.execute(statement, rows[start : start + _TOLD])


def check_values(values: Mapping[str, Collection[str]]) -> None:
    """Raise InputError for an attribute with too many values, or one that no table can hold."""
    for attribute, some in values.items():
        if len(some) > MOST_VALUES:
            raise InputError(
                f"segments: {attribute!r} has {len(some):,} values, must have at most {MOST_VALUES}"
            )
        for value in some:
            if len(value) > LONGEST or "\0" in value:
                raise InputError(
                    f"segments: {attribute!r} has the value {value[:40]!r}..., must have at most {LONGEST} "
                    "characters, none of them NUL"
                )
