"""Erasure: the rows of units go from every table that names units.

It goes in small transactions, each a part of a table; broken off and done again it comes to the same. What
says which ids are one unit goes last, so that they can be found again until everything else of them has gone.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
)

from armlift.aliases import merged_into
from armlift.days import Calendar
from armlift.naming import names_in
from armlift.rollup import hold, roll_up_all
from armlift.runs import Subjects
from armlift.store import tables
from armlift.store.database import reading, writing
from armlift.store.tables import touched_cells, unit_days

PAGE = 200
"""Dead letters that are read at a time."""
TOGETHER = 500
"""Ids named in one statement."""
Counts = Mapping[str, int]
"""Rows, by table."""


class Place(NamedTuple):
    """Where a table names a unit, and the column that tells when a row was written (None: not told)."""

    table: Table
    column: str
    time: str | None


EVENTS = tuple(
    Place(table, "unit_id", "ts") for table in (tables.exposures, tables.impressions, tables.feedback)
)
OTHERS = (
    Place(tables.unit_attributes, "unit_id", "ts"),
    Place(tables.prompts, "unit_id", "ts"),
    Place(tables.prompt_ratings, "unit_id", None),
)
COUNTED = (Place(unit_days, "unit_id", None), Place(touched_cells, "unit_id", None))
"""What the rollup computes, and what it has yet to."""
ALIASES = (Place(tables.aliases, "anonymous_id", "ts"), Place(tables.aliases, "unit_id", "ts"))
PLACES = (*EVENTS, *OTHERS, *COUNTED, *ALIASES)
LETTERS = tables.dead_letters
"""Its bytes may name units."""


def ids_of(connection: Connection, unit: str) -> list[str]:
    """Find all ids that are one unit with an id, in any run: what it was merged into, and what into that."""
    a = tables.aliases.c
    found, fresh = {unit}, {unit}
    while fresh:
        some = list(fresh)[:TOGETHER]
        named = (
            select(a.run, a.anonymous_id).where(or_(a.anonymous_id.in_(some), a.unit_id.in_(some))).distinct()
        )
        pairs = named.subquery().c
        merges = select(pairs.anonymous_id, merged_into(pairs.run, pairs.anonymous_id))
        both = [set(pair) for pair in connection.execute(merges) if found & set(pair)]
        fresh = (fresh - set(some)) | (set().union(*both) - found)
        found |= fresh
    return [unit, *sorted(found - {unit})]


def count(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Count the rows that name some ids, by table; tables without any are left out."""
    found = Counter[str]()
    for place in (*EVENTS, *OTHERS, *COUNTED):
        for where in _parts(connection, place, ids):
            found[place.table.name] += _number(connection, place.table, where)
    aliases = or_(*(tables.aliases.c[place.column].in_(ids) for place in ALIASES))
    found[tables.aliases.name] = _number(connection, tables.aliases, aliases)
    for page in _letters(connection):
        found[LETTERS.name] += sum(bool(names_in(bytes(raw)) & {*ids}) for *_, raw in page)
    return dict(+found)


def definitions_with(connection: Connection, ids: Collection[str]) -> list[str]:
    """Name the experiments whose definition forces one of some ids into an arm: people wrote that."""
    e = tables.experiments.c
    found = connection.execute(select(e.experiment, e.definition)).all()
    return sorted({name for name, definition in found if {*ids} & _forced(definition)})


def erase(
    engine: Engine, ids: Sequence[str], calendar: Calendar, *, until: int | None = None
) -> dict[str, int]:
    """Erase all rows that name some ids but those that say which ids are one; gives how many, by table.

    With `until` (UTC ms) only what happened up to then: days that remain are computed again.
    """
    gone = Counter[str]()
    for place in (*EVENTS, *OTHERS):
        gone[place.table.name] += _erase(engine, place, ids, until)
    gone += _erase_counted(engine, ids, None if until is None else calendar.day(until))
    gone[LETTERS.name] += erase_letters(engine, lambda named: bool(named & {*ids}))
    return dict(+gone)


def erase_aliases(engine: Engine, ids: Sequence[str], *, until: int | None = None) -> dict[str, int]:
    """Erase what says which ids are one unit; gives how many rows, by table."""
    rows = sum(_erase(engine, place, ids, until) for place in ALIASES)
    return {tables.aliases.name: rows} if rows else {}


def units(connection: Connection) -> Iterator[str]:
    """Name every id that any table names, some of them more than once."""
    for place in PLACES:
        column = place.table.c[place.column]
        yield from connection.execution_options(yield_per=10_000).execute(select(column).distinct()).scalars()


def _erase(engine: Engine, place: Place, ids: Sequence[str], until: int | None) -> int:
    """Erase a table's rows, part by part; events of each request day by themselves."""
    with reading(engine) as connection:
        parts = [
            and_(where, *_until(place, until), *day)
            for where in _parts(connection, place, ids)
            for day in _days(connection, place.table, where)
        ]
    rows = 0
    for where in parts:
        with writing(engine) as connection:
            rows += connection.execute(delete(place.table).where(where)).rowcount
    return rows


def _erase_counted(engine: Engine, ids: Sequence[str], last: int | None) -> Counter[str]:
    """Erase what the rollup computed, and let it compute anew what remains from a day on."""
    gone: Counter[str] = Counter()
    with writing(engine) as connection:
        # Whoever computes the rollup has read events that have gone meanwhile.
        hold(connection)
        marks = [] if last is None else _marks(connection, ids, last)
        earlier = () if last is None else (unit_days.c.day < last,)
        for place, days in zip(COUNTED, (earlier, ()), strict=True):
            for where in _parts(connection, place, ids):
                gone[place.table.name] += connection.execute(delete(place.table).where(where, *days)).rowcount
        if marks:
            connection.execute(insert(touched_cells), marks)
    if marks:
        roll_up_all(engine, Subjects())
    return gone


def _marks(connection: Connection, ids: Sequence[str], last: int) -> list[dict[str, Any]]:
    """Mark all days of units that have events left, and the day up to which theirs are gone."""
    marks = []
    for place in (*EVENTS, COUNTED[0]):
        t, day = place.table.c, None if place in EVENTS else last
        then = () if day is None else (t.day == last,)
        for where in _parts(connection, place, ids):
            for run, unit in connection.execute(select(t.run, t.unit_id).where(where, *then).distinct()):
                marks.append({"run": run, "unit_id": unit, "day": day})
    return marks


def _parts(connection: Connection, place: Place, ids: Sequence[str]) -> list[ColumnElement[bool]]:
    """Part a table's rows of some ids so that each part is found in an index."""
    named = place.table.c[place.column]
    groups = [ids[start : start + TOGETHER] for start in range(0, len(ids), TOGETHER)]
    return [
        and_(*prefix, named.in_(some))
        for prefix in _prefixes(connection, _before(place), ())
        for some in groups
    ]


def _before(place: Place) -> list[Column[Any]]:
    """Give the columns that stand before the unit's in the index that finds it soonest."""
    keys = [list(place.table.primary_key.columns), *(list(index.columns) for index in place.table.indexes)]
    column = place.table.c[place.column]
    found = [key[: key.index(column)] for key in keys if column in key]
    return min(found, key=len, default=[])


def _prefixes(
    connection: Connection, columns: Sequence[Column[Any]], given: tuple[ColumnElement[bool], ...]
) -> Iterator[tuple[ColumnElement[bool], ...]]:
    """Give the different values of an index's first columns, by one look in the index for each."""
    if not columns:
        yield given
        return
    column, *rest = columns
    last: tuple[ColumnElement[bool], ...] = ()
    while (value := connection.scalar(select(func.min(column)).where(*given, *last))) is not None:
        yield from _prefixes(connection, rest, (*given, column == value))
        last = (column > value,)


def _days(
    connection: Connection, table: Table, where: ColumnElement[bool]
) -> list[tuple[ColumnElement[bool], ...]]:
    """Part rows by their request day, where they have one: a partition's rows at a time."""
    if "request_day" not in table.c:
        return [()]
    day = table.c.request_day
    return [
        (day == one,)
        for one in connection.execute(select(day).where(where).distinct().order_by(day)).scalars()
    ]


def _until(place: Place, until: int | None) -> tuple[ColumnElement[bool], ...]:
    """Say what happened up to a time: events also by the time of their request."""
    if until is None or place.time is None:
        return ()
    early = place.table.c[place.time] <= until
    if "event_id" not in place.table.c:
        return (early,)
    return (or_(early, place.table.c.event_id < f"{until + 1:012x}"),)


def erase_letters(engine: Engine, ours: Callable[[set[str]], bool]) -> int:
    """Erase the dead letters whose names (a set) are `ours`; gives how many."""
    key, rows = list(LETTERS.primary_key.columns), 0
    with reading(engine) as connection:
        found = [
            tuple(place)
            for page in _letters(connection)
            for *place, raw in page
            if ours(names_in(bytes(raw)))
        ]
    for start in range(0, len(found), PAGE):
        with writing(engine) as connection:
            these = tuple_(*key).in_(found[start : start + PAGE])
            rows += connection.execute(delete(LETTERS).where(these)).rowcount
    return rows


def _letters(connection: Connection) -> Iterator[Sequence[Sequence[Any]]]:
    """Read the keys and bytes of all dead letters, page by page."""
    key = list(LETTERS.primary_key.columns)
    asked = select(*key, LETTERS.c.bytes).execution_options(yield_per=PAGE)
    yield from connection.execute(asked).partitions()


def _number(connection: Connection, table: Table, where: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(table).where(where)).scalar_one()


def _forced(definition: Mapping[str, Any]) -> set[str]:
    experiment = definition.get("experiment", definition)
    return set(experiment.get("forced") or ())
