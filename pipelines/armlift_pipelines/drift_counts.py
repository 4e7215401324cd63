"""What drift is told from: counts of a day's behaviours and of the days before, aggregated in SQL.

Behaviours are rows of `feedback`. Unit-days, a unit on a day on which it did something, are what units are
counted by, for a unit comes on some days of a window more than on one day. Only counts leave the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Integer, Subquery, Table, and_, case, cast, func, select

from armlift.days import utc_day
from armlift.events import MOST_DAYS_AFTER, MOST_DAYS_BEFORE
from armlift.segments import UNKNOWN
from armlift.store.tables import feedback, unit_attributes
from armlift_pipelines.shifts import Counts, Pair

HOUR_MS = 3_600_000
PLAY = "play"
"""The kind whose values are seconds."""


@dataclass(frozen=True)
class Span:
    """A day of a run and the `window` days before it; `kinds` are what counts, all where none is named.

    The day begins at `day` and ends before `until`, both UTC milliseconds; every day is as long as this one.
    """

    run: str
    day: int
    until: int
    window: int
    kinds: Sequence[str] | None = None

    @property
    def length(self) -> int:
        """Give a day's length in milliseconds."""
        return self.until - self.day

    @property
    def since(self) -> int:
        """Give the first moment of the window."""
        return self.day - self.window * self.length


def between(table: Table, run: str, since: int, until: int) -> ColumnElement[bool]:
    """Ask for the events of a run in a time; the days of their requests say which partitions hold them."""
    c = table.c
    days = utc_day(since) - MOST_DAYS_AFTER, utc_day(until) + MOST_DAYS_BEFORE
    return and_(c.run == run, c.ts >= since, c.ts < until, c.request_day.between(*days))


def pairs(connection: Connection, span: Span) -> list[Pair]:
    """Count the items by their behaviours on the day and before."""
    item = feedback.c.item_id
    items = select(item, *_periods(span)).where(_counted(span)).group_by(item).subquery()
    asked = select(items.c.n, items.c.m, func.count()).group_by(items.c.n, items.c.m)
    return sorted(Pair(int(n), int(m), int(count)) for n, m, count in connection.execute(asked))


def kinds(connection: Connection, span: Span) -> dict[str, Counts]:
    """Count behaviours by their kind."""
    asked = select(feedback.c.kind, *_periods(span)).where(_counted(span)).group_by(feedback.c.kind)
    return {kind: (int(n), int(m)) for kind, n, m in connection.execute(asked)}


def hours(connection: Connection, span: Span) -> dict[int, Counts]:
    """Count by the hour of the day (UTC) the hours in which a unit did something; a session is one or two."""
    f = feedback.c
    slots = (
        select(f.unit_id, (f.ts // HOUR_MS).label("slot"), func.max(f.ts).label("ts"))
        .where(_counted(span))
        .group_by(f.unit_id, "slot")
        .subquery()
    )
    hour = (slots.c.slot % 24).label("hour")
    asked = select(hour, *_periods(span, slots.c.ts)).group_by("hour")
    return {int(one): (int(n), int(m)) for one, n, m in connection.execute(asked)}


def play_tenths(connection: Connection, span: Span) -> list[Counts]:
    """Count behaviours of the kind `play` by the tenth of the window's seconds that theirs lie in."""
    f = feedback.c
    plays = and_(_counted(span), f.kind == PLAY)
    tiles = (
        select(f.value, func.ntile(10).over(order_by=f.value).label("tile"))
        .where(plays, f.ts < span.day)
        .subquery()
    )
    tenths = select(func.max(tiles.c.value)).group_by(tiles.c.tile)
    edges = sorted({*connection.execute(tenths).scalars()})[:-1]
    if not edges:
        return []
    tile = case(*((f.value <= edge, place) for place, edge in enumerate(edges)), else_=len(edges)).label(
        "tenth"
    )
    asked = select(tile, *_periods(span)).where(plays).group_by("tenth")
    return [(int(n), int(m)) for _, n, m in connection.execute(asked)]


def per_unit_day(connection: Connection, span: Span) -> dict[float, Counts]:
    """Count the unit-days by their behaviours."""
    days = _unit_days(span, span.since)
    now = days.c.number == span.window
    asked = select(days.c.n, *_sums(now)).group_by(days.c.n)
    return {int(value): (int(n), int(m)) for value, n, m in connection.execute(asked)}


def history_lengths(connection: Connection, span: Span) -> dict[float, Counts]:
    """Count the unit-days by the unit's behaviours in the `window` days before each.

    Days whose window begins before the first behaviour there is are left out: histories were shorter then.
    """
    days = _unit_days(span, span.since - span.window * span.length)
    first = connection.execute(select(func.min(days.c.number))).scalar()
    if first is None:
        return {}
    d = days.c
    past = func.sum(d.n).over(partition_by=d.unit_id, order_by=d.number, range_=(-span.window, -1))
    told = select(d.number, func.coalesce(past, 0).label("past")).subquery()
    whole = told.c.number >= first + span.window
    asked = select(told.c.past, *_sums(told.c.number == 2 * span.window)).where(whole).group_by(told.c.past)
    return {int(value): (int(n), int(m)) for value, n, m in connection.execute(asked)}


def attributes(connection: Connection, span: Span) -> dict[str, dict[str, Counts]]:
    """Count the unit-days by the unit's value of each attribute the run has; without one it is UNKNOWN."""
    days, a = _unit_days(span, span.since), unit_attributes.c
    now = days.c.number == span.window
    every = connection.execute(select(*_sums(now))).one()
    asked = (
        select(a.attribute, a.value, *_sums(now))
        .join(days, days.c.unit_id == a.unit_id)
        .where(a.run == span.run)
        .group_by(a.attribute, a.value)
    )
    found: dict[str, dict[str, Counts]] = {}
    for attribute, value, n, m in connection.execute(asked):
        found.setdefault(attribute, {})[value] = int(n), int(m)
    for values in found.values():
        known = [sum(count[place] for count in values.values()) for place in (0, 1)]
        told = values.get(UNKNOWN, (0, 0))
        values[UNKNOWN] = int(every[0]) - known[0] + told[0], int(every[1]) - known[1] + told[1]
    return found


def units(connection: Connection, span: Span) -> Counts:
    """Count the units that did something on the day, and in the window before."""
    f, now = feedback.c, feedback.c.ts >= span.day
    asked = select(
        func.count(case((now, f.unit_id)).distinct()), func.count(case((~now, f.unit_id)).distinct())
    )
    n, m = connection.execute(asked.where(_counted(span))).one()
    return int(n), int(m)


def _counted(span: Span, since: int | None = None) -> ColumnElement[bool]:
    there = between(feedback, span.run, span.since if since is None else since, span.until)
    return there if span.kinds is None else and_(there, feedback.c.kind.in_(list(span.kinds)))


def _sums(now: ColumnElement[bool]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Count rows of the day, and others."""
    return (
        func.coalesce(func.sum(case((now, 1), else_=0)), 0).label("n"),
        func.coalesce(func.sum(case((now, 0), else_=1)), 0).label("m"),
    )


def _periods(
    span: Span, ts: ColumnElement[int] | None = None
) -> tuple[ColumnElement[int], ColumnElement[int]]:
    return _sums((feedback.c.ts if ts is None else ts) >= span.day)


def _unit_days(span: Span, since: int) -> Subquery:
    """Count each unit's behaviours (n) on each day; days are numbered from 0, which begins at `since`."""
    f = feedback.c
    # Grouped by its name: PostgreSQL takes an expression with parameters for another one each time.
    number = cast((f.ts - since) // span.length, Integer).label("number")
    return (
        select(f.unit_id, number, func.count().label("n"))
        .where(_counted(span, since))
        .group_by(f.unit_id, "number")
        .subquery()
    )
