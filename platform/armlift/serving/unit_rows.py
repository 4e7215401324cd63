"""What the database holds of units: the newest of what they did, whom they met first, their attributes.

All of it is found by indexes: of a unit with a long history the newest days are read, not the rest. On
PostgreSQL the partitions of the last days are looked at first, and the others for those units alone that were
quiet; plans are kept, as making one over all partitions takes longer than running it.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Select,
    String,
    TableValuedAlias,
    bindparam,
    cast,
    collate,
    func,
    not_,
    select,
    text,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import JSON

from armlift.days import utc_day, utc_now
from armlift.events import MOST_DAYS_AFTER, MOST_DAYS_BEFORE
from armlift.store.database import reading
from armlift.store.tables import aliases, exposures, feedback, unit_attributes

RECENT_DAYS = 14
"""Days that are looked at first."""
_BETWEEN = "|"
_NEVER = 1 << 30
_PLANS = "SELECT set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)"


class Did(NamedTuple):
    """One behaviour, in the order histories are sorted by, and the 16 bytes of its event's id."""

    ts: int
    item: str
    kind: str
    value: float
    event: bytes


class Met(NamedTuple):
    """An exposure; the least of several is the first: of one moment, the arm that sorts first."""

    ts: int
    arm: str
    phase: int
    generation: int


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """What is stored of a unit: the ids that count as it, and what they did, oldest first, and met."""

    ids: tuple[str, ...]
    did: list[Did]
    met: dict[str, Met]
    attributes: dict[str, str]


class Merge(NamedTuple):
    """An id was merged into a unit at a time (UTC milliseconds)."""

    anonymous_id: str
    ts: int
    unit_id: str


Names = Callable[[ColumnElement[str]], ColumnElement[str]]
"""How names are sorted: as Python does, by their bytes."""
Merges = Callable[[str, Iterable[str]], Iterable[Merge]]
"""Gives the merges of and into some ids of a run."""


class Found(NamedTuple):
    """What was read for some ids: the unit that each counts as, and what is stored of these units."""

    unit_of: Mapping[str, str]
    stored: Mapping[str, Stored]


class UnitRows:
    """Reads units, the newest `limit` behaviours of each."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine, self._limit = engine, limit
        self._partitioned = engine.dialect.name == "postgresql"
        ids, names = _ids(self._partitioned), _bytewise if self._partitioned else _as_it_is
        self._merged, self._met, self._told = _merged(ids), _met(ids, names), _told(ids)
        self._did = (
            _recent_of_many(ids, names) if self._partitioned else _newest_first(bindparam("id"), names)
        )

    def read(self, run: str, ids: Sequence[str], told: Merges) -> Found:
        """Read the units that some ids of a run count as, all at one moment of the database.

        `told` gives merges that may not be stored yet. Raises what the database raises.
        """
        with reading(self._engine) as connection:
            if self._partitioned:
                connection.execute(text(_PLANS))
            unit_of, members = self._members(connection, run, ids, told)
            everyone = sorted({one for some in members.values() for one in some})
            values = {"run": run, "ids": json.dumps(everyone)}
            did = self._behaviours(connection, values, everyone)
            met = connection.execute(self._met, values).all()
            attributes = connection.execute(self._told, values | {"ids": json.dumps([*members])}).all()
            connection.commit()  # psycopg forgets its prepared statements, and so their plans, at a rollback
        stored = {unit: Stored(some, self._newest(did, some), {}, {}) for unit, some in members.items()}
        units = {one: stored[unit] for unit, some in members.items() for one in some}
        for one, experiment, written in met:
            if written is not None:
                ts, phase, generation, arm = written.split(_BETWEEN, 3)
                first = Met(int(ts), arm, int(phase), int(generation))
                units[one].met[experiment] = min(first, units[one].met.get(experiment, first))
        for unit, attribute, value in attributes:
            if value is not None:
                stored[unit].attributes[attribute] = value
        return Found(unit_of, stored)

    def _members(
        self, connection: Connection, run: str, ids: Sequence[str], told: Merges
    ) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Find the unit that each id counts as, and all ids that count as one of these units.

        The rule is that of `aliases`: the first merge of an id counts, and is not followed further.
        """
        first: dict[str, tuple[int, str]] = {}
        named: defaultdict[str, set[str]] = defaultdict(set)
        seen: set[str] = set()

        def learn(some: Iterable[str]) -> None:
            new = set(some) - seen
            if not new:
                return
            seen.update(new)
            rows = connection.execute(self._merged, {"run": run, "ids": json.dumps(sorted(new))})
            for merge in (*(Merge(*row) for row in rows), *told(run, new)):
                into = (merge.ts, merge.unit_id)
                first[merge.anonymous_id] = min(into, first.get(merge.anonymous_id, into))
                named[merge.unit_id].add(merge.anonymous_id)

        learn(ids)
        unit_of = {one: first[one][1] if one in first else one for one in ids}
        learn(unit_of.values())
        learn([one for unit in unit_of.values() for one in named[unit]])
        # An id's own merge into a unit that was not asked for may have been read last.
        members = {}
        for unit in unit_of.values():
            some = (one for one in {unit} | named[unit] if (first[one][1] if one in first else one) == unit)
            members[unit] = tuple(sorted(some))
        return unit_of, members

    def _behaviours(
        self, connection: Connection, values: Mapping[str, Any], ids: Sequence[str]
    ) -> dict[str, list[Did]]:
        """Read the newest behaviours of each of some ids."""
        did: dict[str, list[Did]] = {one: [] for one in ids}
        if not self._partitioned:
            for one in ids:
                rows = connection.execute(self._did, {"run": values["run"], "id": one, "limit": self._limit})
                did[one] = [_did(*row) for row in rows.all()]
            return did
        start = utc_day(utc_now()) - RECENT_DAYS
        days = {"first": start, "end": _NEVER, "requested": start - MOST_DAYS_AFTER - 1, "until": _NEVER}
        self._of_days(connection, values, days, did)
        quiet = [one for one, some in did.items() if len(some) < self._limit]
        if quiet:
            days = {"first": -_NEVER, "end": start, "requested": -_NEVER}
            days["until"] = start + MOST_DAYS_BEFORE + 1
            self._of_days(connection, {**values, "ids": json.dumps(quiet)}, days, did)
        return did

    def _of_days(
        self, connection: Connection, values: Mapping[str, Any], days: Mapping[str, int],
        did: Mapping[str, list[Did]],
    ) -> None:  # fmt: skip
        for one, *row in connection.execute(self._did, {**values, **days, "limit": self._limit}).all():
            did[one].append(_did(*row))

    def _newest(self, did: Mapping[str, list[Did]], ids: Sequence[str]) -> list[Did]:
        return sorted(one for some in ids for one in did[some])[-self._limit :]


def _did(ts: int, item: str, kind: str, value: float, event_id: str) -> Did:
    return Did(ts, item, kind, value, bytes.fromhex(event_id))


def _bytewise(name: ColumnElement[str]) -> ColumnElement[str]:
    return collate(name, "C")


def _as_it_is(name: ColumnElement[str]) -> ColumnElement[str]:
    return name


def _ids(postgresql: bool) -> TableValuedAlias:
    """Give the ids as rows: one parameter, however many they are, so that a statement stays the same."""
    given = bindparam("ids", type_=String)
    found = func.json_array_elements_text(cast(given, JSON)) if postgresql else func.json_each(given)
    return found.table_valued(Column("value", String), name="ids")


def _merged(ids: TableValuedAlias) -> CompoundSelect[Any]:
    """Give the merges of some ids and into them."""
    a, some = aliases.c, select(ids.c.value)
    parts = [
        select(a.anonymous_id, a.ts, a.unit_id).where(a.run == bindparam("run"), column.in_(some))
        for column in (a.anonymous_id, a.unit_id)
    ]
    return union(*parts)


def _names(column: Column[Any]) -> Any:
    """Give the different values that a column has in a run, one look in the index for each."""
    table = column.table
    least = select(func.min(column).label("name")).where(table.c.run == bindparam("run"))
    names = least.cte(f"names_of_{column.name}", recursive=True)
    above = select(func.min(column)).where(table.c.run == bindparam("run"), column > names.c.name)
    return names.union_all(select(above.scalar_subquery()).where(names.c.name.is_not(None)))


def _met(ids: TableValuedAlias, names: Names) -> Select[Any]:
    """Give each id's first exposure in each experiment that was not forced, as text; NULL where none was.

    As the value of one look in the index for each, which no planner turns into a look at all exposures.
    """
    e, experiments = exposures.c, _names(exposures.c.experiment)
    parts = (cast(e.ts, String), cast(e.phase, String), cast(e.generation, String), e.arm)
    first = (
        select(reduce(lambda left, right: left + _BETWEEN + right, parts))
        .where(e.run == bindparam("run"), e.experiment == experiments.c.name, e.unit_id == ids.c.value)
        .where(not_(e.forced))
        .order_by(e.ts, names(e.arm))
        .limit(1)
    )
    found = experiments.join(ids, true())
    return select(ids.c.value, experiments.c.name, first.scalar_subquery()).select_from(found)


def _told(ids: TableValuedAlias) -> Select[Any]:
    """Give the attributes of units; NULL where none was told."""
    a, attributes = unit_attributes.c, _names(unit_attributes.c.attribute)
    value = select(a.value).where(
        a.run == bindparam("run"), a.attribute == attributes.c.name, a.unit_id == ids.c.value
    )
    found = attributes.join(ids, true())
    return select(ids.c.value, attributes.c.name, value.scalar_subquery()).select_from(found)


def _newest_first(unit: ColumnElement[str], names: Names) -> Select[Any]:
    """Give an id's newest behaviours."""
    f = feedback.c
    return (
        select(f.ts, f.item_id, f.kind, f.value, f.event_id)
        .where(f.run == bindparam("run"), f.unit_id == unit)
        .order_by(
            *(f.day.desc(), f.ts.desc(), names(f.item_id).desc(), names(f.kind).desc()),
            *(f.value.desc(), f.event_id.desc()),
        )
        .limit(bindparam("limit"))
    )


def _recent_of_many(ids: TableValuedAlias, names: Names) -> Select[Any]:
    """Give the newest behaviours of each of some ids on some days, from partitions of some request days."""
    f = feedback.c
    newest = _newest_first(ids.c.value, names).where(
        f.day >= bindparam("first"),
        f.day < bindparam("end"),
        f.request_day >= bindparam("requested"),
        f.request_day < bindparam("until"),
    )
    each = newest.lateral("newest")
    return select(ids.c.value, *each.c).select_from(ids.join(each, true()))
