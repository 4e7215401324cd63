"""The `unit_days` rollup: what each unit did on each day, as each metric counts it.

A cell is a (run, unit, day). When events of a cell arrive, all of its rows are computed again from the
events, in the same transaction: so the rollup is the same whatever the order, the batches or the redeliveries
were, and it can be rebuilt at any time. When a unit's first exposure arrives or moves, or an id is merged
into it, all of its days are touched.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    Join,
    MetaData,
    Select,
    String,
    Table,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    union,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from armlift.aliases import cell_ids, days_of, find_ids
from armlift.durations import milliseconds
from armlift.events import IMPRESSION_KIND
from armlift.metric import Metric, measures
from armlift.store.tables import exposures, feedback, impressions, unit_days

touched = Table(
    "touched_cells",
    MetaData(),
    Column("run", String(200), primary_key=True),
    Column("unit_id", String(200), primary_key=True),
    Column("day", Integer, primary_key=True),
    prefixes=["TEMPORARY"],
)
"""The cells of one run that a batch touched; a temporary table of the connection."""

Cell = tuple[str, str, int]
"""Run, unit and day."""


class Exposed(NamedTuple):
    """What the rollup must know of a new exposure; `ts` is in UTC milliseconds."""

    run: str
    experiment: str
    unit_id: str
    arm: str
    ts: int


class Merged(NamedTuple):
    """An id of a run that a new alias merges into a unit."""

    run: str
    anonymous_id: str


class Subject(NamedTuple):
    """What the rollup must know of a run: its experiment, its metrics, and whether its arms are paired."""

    run: str
    experiment: str
    metrics: Mapping[str, Metric]
    paired: bool


def roll_up(
    connection: Connection,
    subjects: Sequence[Subject],
    cells: Sequence[Cell],
    exposed: Sequence[Exposed],
    merged: Sequence[Merged] = (),
) -> None:
    """Compute the touched cells again.

    `cells` are those of the new events; `exposed` are the new exposures, whose units have all their days
    touched when the exposure is the unit's first to its arm; so have the units of the ids newly `merged`.
    """
    touched.create(connection, checkfirst=True)
    for subject in subjects:
        connection.execute(delete(touched))
        rows = [
            {"run": run, "unit_id": unit, "day": day}
            for run, unit, day in sorted(set(cells))
            if run == subject.run
        ]
        if rows:
            connection.execute(insert(touched), rows)
        _touch_all_days(connection, subject, exposed)
        _touch_merged(connection, subject, merged)
        _compute(connection, subject)


def rebuild(connection: Connection, subject: Subject) -> None:
    """Compute all of a run's cells again, as they would be had its events come one by one."""
    touched.create(connection, checkfirst=True)
    connection.execute(delete(touched))
    cells = union(
        *(
            select(table.c.run, table.c.unit_id, table.c.day).where(table.c.run == subject.run)
            for table in (impressions, feedback)
        )
    )
    connection.execute(insert(touched).from_select(["run", "unit_id", "day"], cells))
    _compute(connection, subject)


def _compute(connection: Connection, subject: Subject) -> None:
    """Compute the touched cells, which are of one run."""
    find_ids(connection, touched)
    if connection.dialect.name == "postgresql":
        # It never counts temporary tables by itself, and takes one it has not counted for empty.
        connection.execute(text(f"ANALYZE {touched.name}, {cell_ids.name}"))
    _forget(connection, subject)
    connection.execute(insert(unit_days).from_select(list(unit_days.c), _rows(subject)))


def _touch_all_days(connection: Connection, subject: Subject, exposed: Sequence[Exposed]) -> None:
    """Touch every day of the units whose first exposure to an arm is among the new ones."""
    earliest: dict[tuple[str, str], int] = {}
    for run, experiment, unit, arm, ts in exposed:
        if (run, experiment) == (subject.run, subject.experiment):
            earliest[unit, arm] = min(ts, earliest.get((unit, arm), ts))
    units = sorted({unit for unit, _ in earliest})
    for start in range(0, len(units), 500):  # as many as any database takes in one list
        first = _firsts(connection, subject, units[start : start + 500])
        moved = sorted({unit for (unit, arm), ts in first.items() if earliest.get((unit, arm)) == ts})
        _touch_days(connection, subject, moved)


def _touch_merged(connection: Connection, subject: Subject, merged: Sequence[Merged]) -> None:
    """Touch every day of the units that the merged ids belong to, or did until now."""
    ids = sorted({one.anonymous_id for one in merged if one.run == subject.run})
    for start in range(0, len(ids), 500):
        _touch_days(connection, subject, ids[start : start + 500])


def _touch_days(connection: Connection, subject: Subject, ids: Sequence[str]) -> None:
    days = days_of(connection, subject.run, ids)
    known = select(touched.c.run, touched.c.unit_id, touched.c.day)
    fresh = select(days).distinct().where(tuple_(days.c.run, days.c.unit_id, days.c.day).not_in(known))
    connection.execute(insert(touched).from_select(["run", "unit_id", "day"], fresh))


def _firsts(connection: Connection, subject: Subject, units: Sequence[str]) -> dict[tuple[str, str], int]:
    """Read the first exposure (UTC milliseconds) of some units to each arm they met."""
    e = exposures.c
    rows = connection.execute(
        select(e.unit_id, e.arm, func.min(e.ts))
        .where(e.run == subject.run, e.experiment == subject.experiment, e.unit_id.in_(units))
        .group_by(e.unit_id, e.arm)
    )
    return {(unit, arm): ts for unit, arm, ts in rows}


def _forget(connection: Connection, subject: Subject) -> None:
    """Delete the touched cells' rows, so that those that vanish do not stay."""
    key = tuple_(unit_days.c.run, unit_days.c.experiment, unit_days.c.unit_id, unit_days.c.day)
    cells = select(touched.c.run, literal(subject.experiment), touched.c.unit_id, touched.c.day)
    connection.execute(delete(unit_days).where(key.in_(cells)))


def _rows(subject: Subject) -> Select[tuple[object, ...]]:
    """Select the rows of `unit_days` of the touched cells.

    Events of a cell are first summed by what is asked for (a kind, bounds, a window), once however many
    metrics share it; then each metric takes its numerator and denominator from these sums.
    """
    asked = _asked(subject.metrics)
    sums = _sums(subject, asked)
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


class _Asked(NamedTuple):
    """Events of a kind, within bounds of their value, and within milliseconds of the first exposure."""

    kind: str
    low: float | None
    high: float | None
    window: int | None


def _asks(metric: Metric) -> dict[str, _Asked]:
    """Give what each column of a metric asks for."""
    window = None if metric.window is None else milliseconds(metric.window)
    return {
        column: _Asked(measure.event, measure.minimum, measure.maximum, window)
        for column, measure in measures(metric).items()
    }


def _asked(metrics: Mapping[str, Metric]) -> dict[_Asked, int]:
    """Number what the metrics ask for."""
    found: dict[_Asked, int] = {}
    for metric in metrics.values():
        for one in _asks(metric).values():
            found.setdefault(one, len(found))
    return found


def _parts(metrics: Mapping[str, Metric], asked: dict[_Asked, int]) -> CTE:
    """List the columns of the metrics, and which sum each is taken from."""
    return union_all(
        *(
            select(
                literal(name).label("metric"),
                literal(column).label("column"),
                literal(measure.aggregate).label("aggregate"),
                literal(asked[_asks(metric)[column]], Integer).label("asked"),
            )
            for name, metric in metrics.items()
            for column, measure in measures(metric).items()
        )
    ).cte("parts")


def _sums(subject: Subject, asked: dict[_Asked, int]) -> CTE:
    """Count and add the touched cells' events by side of the first exposure and by what is asked for."""
    first = _first_exposures(subject)
    events = _events(subject)
    asks = union_all(
        *(
            select(
                literal(number, Integer).label("asked"),
                literal(one.kind).label("kind"),
                cast(one.low, Float).label("low"),
                cast(one.high, Float).label("high"),
                cast(one.window, BigInteger).label("window"),
            )
            for one, number in asked.items()
        )
    ).cte("asks")
    side = case((events.c.ts >= first.c.ts, "post"), else_="pre").label("side")
    same_unit = events.c.unit_id == first.c.unit_id
    if subject.paired:
        same_unit = and_(same_unit, events.c.arm == first.c.arm)
    within = and_(
        events.c.kind == asks.c.kind,
        or_(asks.c.low.is_(None), events.c.value >= asks.c.low),
        or_(asks.c.high.is_(None), events.c.value <= asks.c.high),
        or_(asks.c.window.is_(None), events.c.ts - first.c.ts < asks.c.window),
    )
    return (
        select(
            events.c.unit_id,
            first.c.arm,
            events.c.day,
            side,
            asks.c.asked,
            (func.count() * literal(1.0)).label("events"),
            _Sum(events.c.value, events.c.event_id).label("total"),
            _Sum(events.c.value * events.c.value, events.c.event_id).label("squares"),
        )
        .join_from(events, first, same_unit)
        .join(asks, within)
        .group_by(events.c.unit_id, first.c.arm, events.c.day, side, asks.c.asked)
        .cte("sums")
    )


class _Sum(FunctionElement[float]):
    """A sum (of values, by ids) that adds in the order of the ids, so that it is the same bit for bit.

    SQLite reads a cell's events in that order anyway, by index; PostgreSQL in the order of their arrival.
    """

    type = Float()
    inherit_cache = True


@compiles(_Sum)
def _sum(element: _Sum, compiler: SQLCompiler, **options: Any) -> str:
    values, _ = element.clauses
    return f"sum({compiler.process(values, **options)})"


@compiles(_Sum, "postgresql")
def _sum_in_order(element: _Sum, compiler: SQLCompiler, **options: Any) -> str:
    values, ids = (compiler.process(clause, **options) for clause in element.clauses)
    return f"sum({values} ORDER BY {ids})"


def _first_exposures(subject: Subject) -> CTE:
    """Give each touched unit's first exposure to each arm; the report leaves units of several arms out."""
    units = select(cell_ids.c.run, cell_ids.c.unit_id, cell_ids.c.id).distinct().subquery()
    e = exposures.c
    of_unit = and_(e.run == units.c.run, e.experiment == subject.experiment, e.unit_id == units.c.id)
    return (
        select(units.c.unit_id, e.arm, func.min(e.ts).label("ts"))
        .select_from(units.outerjoin(exposures, of_unit))
        .group_by(units.c.unit_id, e.arm)
        .having(func.min(e.ts).is_not(None))
        .cte("first_exposures")
    )


def _events(subject: Subject) -> CTE:
    """Give the touched cells' impressions and feedback in one form; a paired run's feedback bears its arm."""
    i, f = impressions.c, feedback.c
    shown = select(
        i.event_id,
        case((i.event_id.is_not(None), cell_ids.c.unit_id)).label("unit_id"),
        i.day,
        i.ts,
        literal(IMPRESSION_KIND).label("kind"),
        literal(1.0).label("value"),
        i.arm,
    ).select_from(_of_cells(impressions))
    arms = _arms_of_requests()
    of_cells = _of_cells(feedback)
    if subject.paired:
        same = (arms.c.unit_id == f.unit_id, arms.c.day == f.day, arms.c.request_id == f.request_id)
        of_cells = of_cells.outerjoin(arms, and_(*same))
    arm = arms.c.arm if subject.paired else literal("")
    unit = case((f.event_id.is_not(None), cell_ids.c.unit_id)).label("unit_id")
    done = select(f.event_id, unit, f.day, f.ts, f.kind, f.value, arm.label("arm"))
    return union_all(shown, done.select_from(of_cells)).cte("events")


def _arms_of_requests() -> CTE:
    """Give the arm that answered each request of the touched cells.

    Feedback does not name its arm; in a replay it stands on the day of the impressions of its request.
    """
    i = impressions.c
    answered = select(i.unit_id, i.day, i.request_id, i.arm).distinct()
    return answered.select_from(_of_cells(impressions)).cte("arms_of_requests")


def _of_cells(table: Table) -> Join:
    """Join the touched cells with their events.

    They are joined from the left, and the run is taken from them too, so that a database without statistics
    looks events up by cell instead of reading the whole run; cells without events give empty rows, which must
    name no unit.
    """
    c = cell_ids.c
    return cell_ids.outerjoin(
        table, and_(table.c.run == c.run, table.c.unit_id == c.id, table.c.day == c.day)
    )
