"""The `unit_days` rollup: what each unit did on each day, as each metric counts it.

A cell is a (run, unit, day). When events of a cell arrive, all of its rows are computed again from the
events, in the same transaction: so the rollup is the same whatever the order, the batches or the redeliveries
were, and it can be rebuilt at any time. When a unit's first exposure arrives or moves, all of its days are
touched.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    tuple_,
    union_all,
)

from armlift.events import IMPRESSION_KIND
from armlift.metric import Measure, Metric, measures
from armlift.store.tables import exposures, feedback, impressions, unit_days

touched = Table(
    "touched_cells",
    MetaData(),
    Column("run", String(200), primary_key=True),
    Column("unit_id", String(200), primary_key=True),
    Column("day", Integer, primary_key=True),
    prefixes=["TEMPORARY"],
)
"""The cells one batch touched; a temporary table of the connection."""

Cell = tuple[str, str, int]
"""Run, unit and day."""


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
    exposed: Sequence[tuple[str, str, str, int]],
) -> None:
    """Compute the touched cells again.

    `cells` are those of the new events; `exposed` holds (run, experiment, unit, ts) of the new exposures,
    whose units have all their days touched when the exposure is their first.
    """
    touched.create(connection, checkfirst=True)
    connection.execute(delete(touched))
    rows = [dict(zip(("run", "unit_id", "day"), cell, strict=True)) for cell in sorted(set(cells))]
    if rows:
        connection.execute(insert(touched), rows)
    for subject in subjects:
        _touch_all_days(connection, subject, exposed)
        _forget(connection, subject)
        connection.execute(insert(unit_days).from_select(list(unit_days.c), _rows(subject)))


def _touch_all_days(
    connection: Connection, subject: Subject, exposed: Sequence[tuple[str, str, str, int]]
) -> None:
    """Touch every day of the units whose first exposure is among the new ones."""
    earliest: dict[str, int] = {}
    for run, experiment, unit, ts in exposed:
        if (run, experiment) == (subject.run, subject.experiment):
            earliest[unit] = min(ts, earliest.get(unit, ts))
    units = sorted(earliest)
    for start in range(0, len(units), 500):  # as many as any database takes in one list
        some = units[start : start + 500]
        first = dict(
            connection.execute(
                select(exposures.c.unit_id, func.min(exposures.c.ts))
                .where(
                    exposures.c.run == subject.run,
                    exposures.c.experiment == subject.experiment,
                    exposures.c.unit_id.in_(some),
                )
                .group_by(exposures.c.unit_id)
            ).all()
        )
        moved = [unit for unit in some if first[unit] == earliest[unit]]
        days = union_all(
            *(
                select(table.c.run, table.c.unit_id, table.c.day).where(
                    table.c.run == subject.run, table.c.unit_id.in_(moved)
                )
                for table in (impressions, feedback)
            )
        ).subquery()
        known = select(touched.c.run, touched.c.unit_id, touched.c.day)
        fresh = select(days).distinct().where(tuple_(days.c.run, days.c.unit_id, days.c.day).not_in(known))
        connection.execute(insert(touched).from_select(["run", "unit_id", "day"], fresh))


def _forget(connection: Connection, subject: Subject) -> None:
    """Delete the touched cells' rows, so that those that vanish do not stay."""
    key = tuple_(unit_days.c.run, unit_days.c.experiment, unit_days.c.unit_id, unit_days.c.day)
    cells = select(touched.c.run, literal(subject.experiment), touched.c.unit_id, touched.c.day).where(
        touched.c.run == subject.run
    )
    connection.execute(delete(unit_days).where(key.in_(cells)))


def _rows(subject: Subject) -> Select[tuple[object, ...]]:
    """Select the rows of `unit_days` of the touched cells.

    Events of a cell are first summed by what a measure asks for (a kind, with bounds), once however many
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


Asked = tuple[str, float | None, float | None]


def _asked(metrics: Mapping[str, Metric]) -> dict[Asked, int]:
    """Number what the measures ask for: an event kind within bounds."""
    found: dict[Asked, int] = {}
    for metric in metrics.values():
        for measure in measures(metric).values():
            found.setdefault(_ask(measure), len(found))
    return found


def _ask(measure: Measure) -> Asked:
    return measure.event, measure.minimum, measure.maximum


def _parts(metrics: Mapping[str, Metric], asked: dict[Asked, int]) -> CTE:
    """List the columns of the metrics, and which sum each is taken from."""
    return union_all(
        *(
            select(
                literal(name).label("metric"),
                literal(column).label("column"),
                literal(measure.aggregate).label("aggregate"),
                literal(asked[_ask(measure)], Integer).label("asked"),
            )
            for name, metric in metrics.items()
            for column, measure in measures(metric).items()
        )
    ).cte("parts")


def _sums(subject: Subject, asked: dict[Asked, int]) -> CTE:
    """Count and add the touched cells' events by side of the first exposure and by what is asked for."""
    first = _first_exposures(subject)
    events = _events(subject)
    asks = union_all(
        *(
            select(
                literal(number, Integer).label("asked"),
                literal(kind).label("kind"),
                (literal(low, Float) if low is not None else null()).label("low"),
                (literal(high, Float) if high is not None else null()).label("high"),
            )
            for (kind, low, high), number in asked.items()
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
    )
    return (
        select(
            events.c.unit_id,
            first.c.arm,
            events.c.day,
            side,
            asks.c.asked,
            (func.count() * literal(1.0)).label("events"),
            func.sum(events.c.value).label("total"),
            func.sum(events.c.value * events.c.value).label("squares"),
        )
        .join_from(events, first, same_unit)
        .join(asks, within)
        .group_by(events.c.unit_id, first.c.arm, events.c.day, side, asks.c.asked)
        .cte("sums")
    )


def _first_exposures(subject: Subject) -> CTE:
    """Give each touched unit's first exposure to each arm; the report leaves units of several arms out."""
    units = select(touched.c.unit_id).where(touched.c.run == subject.run).distinct()
    return (
        select(exposures.c.unit_id, exposures.c.arm, func.min(exposures.c.ts).label("ts"))
        .where(
            exposures.c.run == subject.run,
            exposures.c.experiment == subject.experiment,
            exposures.c.unit_id.in_(units),
        )
        .group_by(exposures.c.unit_id, exposures.c.arm)
        .cte("first_exposures")
    )


def _events(subject: Subject) -> CTE:
    """Give the touched cells' impressions and feedback in one form; a paired run's feedback bears its arm.

    The cells are joined from the left, so that a database without statistics looks events up by cell instead
    of reading the whole run; cells without events give empty rows, which no unit matches.
    """

    def of_cell(table: Table) -> ColumnElement[bool]:
        return and_(
            table.c.run == subject.run, table.c.unit_id == touched.c.unit_id, table.c.day == touched.c.day
        )

    of_run = touched.c.run == subject.run
    shown = (
        select(
            impressions.c.unit_id,
            impressions.c.day,
            impressions.c.ts,
            literal(IMPRESSION_KIND).label("kind"),
            literal(1.0).label("value"),
            impressions.c.arm,
        )
        .select_from(touched.outerjoin(impressions, of_cell(impressions)))
        .where(of_run)
    )
    arms = _arms_of_requests(subject)
    from_cells = touched.outerjoin(feedback, of_cell(feedback))
    if subject.paired:
        from_cells = from_cells.outerjoin(arms, arms.c.request_id == feedback.c.request_id)
    done = (
        select(
            feedback.c.unit_id,
            feedback.c.day,
            feedback.c.ts,
            feedback.c.kind,
            feedback.c.value,
            (arms.c.arm if subject.paired else literal("")).label("arm"),
        )
        .select_from(from_cells)
        .where(of_run)
    )
    return union_all(shown, done).cte("events")


def _arms_of_requests(subject: Subject) -> CTE:
    """Give the arm that answered each request of the touched cells.

    Feedback does not name its arm; in a replay it stands on the day of the impressions of its request.
    """
    i = impressions.c
    same_cell = and_(i.run == subject.run, i.unit_id == touched.c.unit_id, i.day == touched.c.day)
    return (
        select(i.request_id, i.arm)
        .distinct()
        .select_from(touched.outerjoin(impressions, same_cell))
        .where(touched.c.run == subject.run)
        .cte("arms_of_requests")
    )
