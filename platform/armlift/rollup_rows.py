"""What the rows of `unit_days` are: one expression, over the events of marked cells or of a whole run.

Where the events come from is the `Scope`; everything else, windows, sides, sums, is the same in every
database and of every scope.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnCollection,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    Select,
    Table,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)

from armlift.aliases import any_merged, cell_ids, unit_of
from armlift.events import IMPRESSION_KIND, MOST_DAYS_AFTER, MOST_DAYS_BEFORE
from armlift.metric import Metric, cuped_of, measures, window_of
from armlift.store.lookups import look_up
from armlift.store.sums import OrderedSum, Scanned, sorted_by
from armlift.store.tables import exposures, feedback, impressions


class Subject(NamedTuple):
    """What the rollup must know of a run: its experiment, its metrics, and whether its arms are paired."""

    run: str
    experiment: str
    metrics: Mapping[str, Metric]
    paired: bool


class Asked(NamedTuple):
    """Events of a kind, within bounds of their value, and of a time around the first exposure.

    `after` and `before` it are in milliseconds; `day` is the only day, counted from that of the exposure.
    """

    kind: str
    low: float | None
    high: float | None
    after: int | None
    before: int | None
    day: int | None


def asks_of(metric: Metric) -> dict[str, Asked]:
    """Give what each column of a metric asks for."""
    around = (window_of(metric), cuped_of(metric), metric.day if metric.kind == "retention" else None)
    return {
        column: Asked(measure.event, measure.minimum, measure.maximum, *around)
        for column, measure in measures(metric).items()
    }


def asked_of(metrics: Mapping[str, Metric]) -> dict[Asked, int]:
    """Number what the metrics ask for."""
    found: dict[Asked, int] = {}
    for metric in metrics.values():
        for one in asks_of(metric).values():
            found.setdefault(one, len(found))
    return found


class Events(NamedTuple):
    """Events of a table: what they are selected from, the table's columns there, and whom each counts for."""

    rows: FromClause
    columns: ColumnCollection[str, ColumnElement[Any]]
    unit: ColumnElement[str]


class Scope(Protocol):
    """Which events are rolled up, and where they are."""

    @property
    def connection(self) -> Connection:
        """Give the connection to them."""

    def exposures(self, subject: Subject) -> Events:
        """Give the exposures of the units concerned to the subject's experiment."""

    def events(self, subject: Subject, table: Table) -> Events:
        """Give the impressions or the feedback."""


class MarkedCells:
    """The events of the cells that `cell_ids` names, looked up one by one; see `aliases.find_ids`.

    Cells without events give empty rows, which are of no kind. Events lie near their requests in time, so
    most partitions need not be looked into.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def exposures(self, subject: Subject) -> Events:
        """Give the exposures of the cells' units; units without any give an empty row."""
        units = select(cell_ids.c.run, cell_ids.c.unit_id, cell_ids.c.id).distinct().subquery()
        e = exposures.c
        of_unit = and_(e.run == units.c.run, e.experiment == subject.experiment, e.unit_id == units.c.id)
        rows, found = look_up(self.connection, units, exposures, of_unit)
        return Events(rows, found, units.c.unit_id)

    def events(self, subject: Subject, table: Table) -> Events:
        """Give the cells' events; cells without any give an empty row."""
        c = cell_ids.c
        # A day of the lab's zone has parts of two days in UTC.
        near = table.c.request_day.between(c.day - MOST_DAYS_AFTER - 1, c.day + MOST_DAYS_BEFORE + 1)
        same_cell = and_(table.c.run == c.run, table.c.unit_id == c.id, table.c.day == c.day, near)
        rows, found = look_up(self.connection, cell_ids, table, same_cell)
        return Events(rows, found, c.unit_id)


class WholeRun:
    """All events of the subject's run, from a day on; exposures of all days."""

    def __init__(self, connection: Connection, first_day: int | None = None) -> None:
        self.connection, self._first_day = connection, first_day

    def exposures(self, subject: Subject) -> Events:
        """Give all exposures to the subject's experiment."""
        return self._all(subject, exposures, exposures.c.experiment == subject.experiment)

    def events(self, subject: Subject, table: Table) -> Events:
        """Give the events of a table."""
        since = () if self._first_day is None else (table.c.day >= self._first_day,)
        return self._all(subject, table, *since)

    def _all(self, subject: Subject, table: Table, *more: ColumnElement[bool]) -> Events:
        counted = unit_of(table).label("counts_for")
        rows = select(table, counted).where(table.c.run == subject.run, *more).subquery()
        return Events(rows, rows.c, rows.c.counts_for)


def rows_of(subject: Subject, scope: Scope) -> Select[tuple[object, ...]]:
    """Select the rows of `unit_days` of the events in a scope.

    Events of a cell are first summed by what is asked for (a kind, bounds, a window), once however many
    metrics share it; then each metric takes its numerator and denominator from these sums.
    """
    asked = asked_of(subject.metrics)
    sums = _sums(subject, scope, asked)
    parts = _parts(subject.metrics, asked)
    taken = case(
        (parts.c.aggregate == "sum", sums.c.total),
        (parts.c.aggregate == "days", literal(1.0)),
        else_=sums.c.events,
    )
    return (
        select(
            literal(subject.run),
            literal(subject.experiment),
            sums.c.unit_id,
            sums.c.day,
            parts.c.metric,
            sums.c.side,
            sums.c.arm,
            func.sum(case((parts.c.column == "num", taken), else_=0.0)),
            func.sum(case((parts.c.column == "den", taken), else_=0.0)),
            func.sum(case((parts.c.column == "num", sums.c.squares), else_=0.0)),
        )
        .join_from(sums, parts, sums.c.asked == parts.c.asked)
        .group_by(sums.c.unit_id, sums.c.day, parts.c.metric, sums.c.side, sums.c.arm)
    )


def _parts(metrics: Mapping[str, Metric], asked: dict[Asked, int]) -> CTE:
    """List the columns of the metrics, and which sum each is taken from."""
    return union_all(
        *(
            select(
                literal(name).label("metric"),
                literal(column).label("column"),
                literal(measure.aggregate).label("aggregate"),
                literal(asked[asks_of(metric)[column]], Integer).label("asked"),
            )
            for name, metric in metrics.items()
            for column, measure in measures(metric).items()
        )
    ).cte("parts")


def _sums(subject: Subject, scope: Scope, asked: dict[Asked, int]) -> CTE:
    """Count and add events by side of the first exposure and by what is asked for."""
    first = _first_exposures(subject, scope)
    events = _events(subject, scope)
    asks = union_all(
        *(
            select(
                literal(number, Integer).label("asked"),
                literal(one.kind).label("kind"),
                cast(one.low, Float).label("low"),
                cast(one.high, Float).label("high"),
                cast(one.after, BigInteger).label("after"),
                cast(one.before, BigInteger).label("before"),
                cast(one.day, Integer).label("day"),
            )
            for one, number in asked.items()
        )
    ).cte("asks")
    side = case((events.c.ts >= first.c.ts, "post"), else_="pre").label("side")
    same_unit = Scanned(events.c.unit_id) == first.c.unit_id
    if subject.paired:
        same_unit = and_(same_unit, Scanned(events.c.arm) == first.c.arm)
    within = and_(
        Scanned(events.c.kind) == asks.c.kind,
        or_(asks.c.low.is_(None), events.c.value >= asks.c.low),
        or_(asks.c.high.is_(None), events.c.value <= asks.c.high),
        or_(asks.c.after.is_(None), events.c.ts - first.c.ts < asks.c.after),
        or_(asks.c.before.is_(None), first.c.ts - events.c.ts <= asks.c.before),
        or_(asks.c.day.is_(None), events.c.day - first.c.day == asks.c.day),
    )
    return (
        select(
            events.c.unit_id,
            first.c.arm,
            events.c.day,
            side,
            asks.c.asked,
            (func.count() * literal(1.0)).label("events"),
            OrderedSum(events.c.value, events.c.event_id).label("total"),
            OrderedSum(events.c.value * events.c.value, events.c.event_id).label("squares"),
        )
        .join_from(events, first, same_unit)
        .join(asks, within)
        .group_by(events.c.unit_id, first.c.arm, events.c.day, side, asks.c.asked)
        .cte("sums")
    )


def _first_exposures(subject: Subject, scope: Scope) -> CTE:
    """Give units' first exposure to each arm; reports leave units of several arms out."""
    rows, e, unit = scope.exposures(subject)
    return (
        select(unit.label("unit_id"), e.arm, func.min(e.ts).label("ts"), func.min(e.day).label("day"))
        .select_from(rows)
        .group_by(unit, e.arm)
        .having(func.min(e.ts).is_not(None))
        .cte("first_exposures")
    )


def _events(subject: Subject, scope: Scope) -> CTE:
    """Give impressions and feedback in one form; a paired run's feedback bears its item's arm."""
    shown, done = scope.events(subject, impressions), scope.events(subject, feedback)
    i, f = shown.columns, done.columns
    impression = select(
        i.event_id,
        shown.unit.label("unit_id"),
        i.day,
        i.ts,
        case((i.event_id.is_not(None), IMPRESSION_KIND)).label("kind"),
        literal(1.0).label("value"),
        i.arm,
    ).select_from(shown.rows)
    arms = _arms_of_items(shown)
    rows = done.rows
    if subject.paired:
        names = ("unit_id", "day", "request_id", "item_id")
        rows = rows.outerjoin(arms, and_(*(arms.c[name] == f[name] for name in names)))
    arm = arms.c.arm if subject.paired else literal("")
    reaction = select(
        f.event_id, done.unit.label("unit_id"), f.day, f.ts, f.kind, f.value, arm.label("arm")
    ).select_from(rows)
    both = union_all(impression, reaction)
    # An index gives the events of one id in order.
    if scope.connection.dialect.name == "sqlite" and any_merged(scope.connection, subject.run):
        both = sorted_by("event_id", both)
    return both.cte("events")


def _arms_of_items(shown: Events) -> CTE:
    """Give the arm of each item that requests were answered with.

    Feedback does not name its arm; in a replay it stands on the day of its item's impression.
    """
    i = shown.columns
    answered = select(i.unit_id, i.day, i.request_id, i.item_id, i.arm).distinct()
    return answered.select_from(shown.rows).cte("arms_of_items")
