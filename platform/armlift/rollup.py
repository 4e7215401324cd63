"""The `unit_days` rollup: what each unit did on each day, as each metric counts it.

A cell is a (run, unit, day). Whoever stores events marks their cells in the same transaction; all rows of
marked cells are then computed again from the events, and the marks deleted, in another: so the rollup is
the same whatever the order, the batches or the redeliveries were, and it can be rebuilt at any time. When a
unit's first exposure arrives or moves, or an id is merged into it, all of its days are computed again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    Connection,
    Engine,
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

from armlift.aliases import cell_ids, days_of, find_ids, follow
from armlift.events import IMPRESSION_KIND, MOST_DAYS_AFTER, MOST_DAYS_BEFORE
from armlift.metric import Metric, cuped_of, measures, window_of
from armlift.store.database import writing
from armlift.store.partitions import first_whole_day
from armlift.store.sink import insert_or
from armlift.store.sums import OrderedSum
from armlift.store.tables import exposures, feedback, impressions, touched_cells, unit_days

cells = Table(
    "cells",
    MetaData(),
    Column("run", String(200), primary_key=True),
    Column("unit_id", String(200), primary_key=True),
    Column("day", Integer, primary_key=True),
    prefixes=["TEMPORARY"],
)
"""The cells of one run that are computed; a temporary table of the connection."""

taken = Table(
    "taken",
    MetaData(),
    Column("mark", BigInteger, primary_key=True, autoincrement=False),
    Column("run", String(200), nullable=False),
    Column("unit_id", String(200), nullable=False),
    Column("day", Integer),
    Column("arm", String(200)),
    Column("ts", BigInteger),
    prefixes=["TEMPORARY"],
)
"""The marks that are worked on; a temporary table of the connection."""

moved = Table("moved", MetaData(), Column("unit_id", String(200), primary_key=True), prefixes=["TEMPORARY"])
"""The units of one run of which all days are computed; a temporary table of the connection."""

MARKS = 50_000
"""Marks a transaction takes at most."""
LOCK = 0x61726D6E
"""PostgreSQL's advisory lock of whoever computes the rollup."""


class Subject(NamedTuple):
    """What the rollup must know of a run: its experiment, its metrics, and whether its arms are paired."""

    run: str
    experiment: str
    metrics: Mapping[str, Metric]
    paired: bool


Subjects = Callable[[Connection, set[str]], Sequence[Subject]]
"""Give the experiments whose metrics the events of these runs count in."""


def roll_up(connection: Connection, subjects: Subjects, marks: int = MARKS) -> int:
    """Compute the cells of the oldest marks and delete these; gives how many, 0 if another process is at it.

    What is committed with a mark is seen here, as the mark is read first; what comes later has a later mark.
    """
    if not _alone(connection, "pg_try_advisory_xact_lock"):
        return 0
    for table in (cells, taken, moved):
        table.create(connection, checkfirst=True)
    connection.execute(delete(taken))
    oldest = select(*(touched_cells.c[column.name] for column in taken.c)).order_by(touched_cells.c.mark)
    connection.execute(insert(taken).from_select(list(taken.c), oldest.limit(marks)))
    found = _number(connection, taken)
    if found:
        _count(connection, taken)
        for subject in subjects(connection, {*connection.execute(select(taken.c.run).distinct()).scalars()}):
            _find_cells(connection, subject)
            _compute(connection, subject)
        connection.execute(delete(touched_cells).where(touched_cells.c.mark.in_(select(taken.c.mark))))
    return found


def roll_up_all(engine: Engine, subjects: Subjects, *, wait: float = 60.0) -> None:
    """Compute all cells that are marked now, or wait until another process has.

    Later marks may be left, so that it comes to its end while events come in. Raises TimeoutError when none
    is computed for `wait` seconds.
    """
    deadline = time.monotonic() + wait
    with engine.connect() as connection:
        newest = connection.scalar(select(func.max(touched_cells.c.mark)))
    while newest is not None:
        with writing(engine) as connection:
            if roll_up(connection, subjects):
                deadline = time.monotonic() + wait
            marked = select(func.count()).where(touched_cells.c.mark <= newest)
            left = connection.execute(marked).scalar_one()
        if not left:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{left:,} marked cells of the rollup were not computed for {wait:g} s")
        time.sleep(0.01)


def waiting(connection: Connection) -> int:
    """Count the marks that are not yet worked on."""
    return _number(connection, touched_cells)


def _number(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def hold(connection: Connection) -> None:
    """Wait until nobody computes the rollup; nobody does then until the transaction ends."""
    _alone(connection, "pg_advisory_xact_lock")


def _alone(connection: Connection, lock: str) -> bool:
    """Take PostgreSQL's lock of the rollup by one of its functions; SQLite has one writer anyway."""
    if connection.dialect.name != "postgresql":
        return True
    return connection.execute(text(f"SELECT {lock}({LOCK})")).scalar() is not False


def _count(connection: Connection, table: Table) -> None:
    if connection.dialect.name == "postgresql":
        # It never counts temporary tables by itself, and takes one it has not counted for empty.
        connection.execute(text(f"ANALYZE {table.name}"))


@contextmanager
def _looking_up(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL join by looking rows up.

    As long as it has not counted the events of a run, reading them all seems to it as good as one unit's.
    """
    others = ("hashjoin", "mergejoin", "material") if connection.dialect.name == "postgresql" else ()
    for other in others:
        connection.execute(text(f"SET LOCAL enable_{other} = off"))
    yield
    for other in others:
        connection.execute(text(f"SET LOCAL enable_{other} TO DEFAULT"))


def rebuild(connection: Connection, subject: Subject) -> None:
    """Compute all of a run's cells again, as they would be had its events come one by one.

    Those of days whose events retention has begun to delete stay as they are.
    """
    hold(connection)
    cells.create(connection, checkfirst=True)
    connection.execute(delete(cells))
    whole = first_whole_day(connection)
    known = union(
        *(
            select(t.c.run, t.c.unit_id, t.c.day).where(t.c.run == subject.run, t.c.day >= whole)
            for t in (impressions, feedback)
        )
    )
    connection.execute(insert(cells).from_select(list(cells.c), known))
    _compute(connection, subject)


def _compute(connection: Connection, subject: Subject) -> None:
    """Compute `cells`, which are of one run."""
    find_ids(connection, cells)
    _count(connection, cells)
    _count(connection, cell_ids)
    _forget(connection, subject)
    connection.execute(insert(unit_days).from_select(list(unit_days.c), _rows(subject)))


def _find_cells(connection: Connection, subject: Subject) -> None:
    """Find the cells that marks name: those of events, and all of a unit that is exposed or merged anew.

    Not those of days whose events are not all there any more: what they counted stays.
    """
    t, e = taken.c, exposures.c
    mine = t.run == subject.run
    connection.execute(delete(cells))
    of_events = select(t.run, t.unit_id, t.day).where(mine, t.day.is_not(None)).distinct()
    connection.execute(insert(cells).from_select(list(cells.c), of_events))
    same = (e.run == t.run, e.experiment == subject.experiment, e.unit_id == t.unit_id, e.arm == t.arm)
    first = (
        select(t.unit_id)
        .join(exposures, and_(*same))
        .where(mine)
        # A mark does not name its experiment: those of others have times of their own.
        .group_by(t.unit_id, t.arm, t.ts)
        .having(func.min(e.ts) == t.ts)
    )
    merged = select(t.unit_id).where(mine, t.day.is_(None), t.arm.is_(None))
    anew = union(first, merged).subquery()
    connection.execute(delete(moved))
    connection.execute(insert(moved).from_select(list(moved.c), select(anew)))
    if not _number(connection, moved):
        return
    follow(connection, subject.run, moved)
    _count(connection, moved)
    days = days_of(subject.run, moved)
    found = select(days).distinct().where(days.c.day >= first_whole_day(connection))
    fresh = insert_or(connection, cells).from_select(list(cells.c), found)
    with _looking_up(connection):
        connection.execute(fresh.on_conflict_do_nothing())


def _forget(connection: Connection, subject: Subject) -> None:
    """Delete the cells' rows, so that those that vanish do not stay."""
    key = tuple_(unit_days.c.run, unit_days.c.experiment, unit_days.c.unit_id, unit_days.c.day)
    computed = select(cells.c.run, literal(subject.experiment), cells.c.unit_id, cells.c.day)
    connection.execute(delete(unit_days).where(key.in_(computed)))


def _rows(subject: Subject) -> Select[tuple[object, ...]]:
    """Select the rows of `unit_days` of the cells.

    Events of a cell are first summed by what is asked for (a kind, bounds, a window), once however many
    metrics share it; then each metric takes its numerator and denominator from these sums.
    """
    asked = asked_of(subject.metrics)
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


def _sums(subject: Subject, asked: dict[Asked, int]) -> CTE:
    """Count and add the cells' events by side of the first exposure and by what is asked for."""
    first = _first_exposures(subject)
    events = _events(subject)
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
    same_unit = events.c.unit_id == first.c.unit_id
    if subject.paired:
        same_unit = and_(same_unit, events.c.arm == first.c.arm)
    within = and_(
        events.c.kind == asks.c.kind,
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


def _first_exposures(subject: Subject) -> CTE:
    """Give the first exposure of the cells' units to each arm; reports leave units of several arms out."""
    units = select(cell_ids.c.run, cell_ids.c.unit_id, cell_ids.c.id).distinct().subquery()
    e = exposures.c
    of_unit = and_(e.run == units.c.run, e.experiment == subject.experiment, e.unit_id == units.c.id)
    return (
        select(units.c.unit_id, e.arm, func.min(e.ts).label("ts"), func.min(e.day).label("day"))
        .select_from(units.outerjoin(exposures, of_unit))
        .group_by(units.c.unit_id, e.arm)
        .having(func.min(e.ts).is_not(None))
        .cte("first_exposures")
    )


def _events(subject: Subject) -> CTE:
    """Give the cells' impressions and feedback in one form; a paired run's feedback bears its item's arm."""
    i, f = impressions.c, feedback.c
    shown = select(
        i.event_id,
        cell_ids.c.unit_id,
        i.day,
        i.ts,
        case((i.event_id.is_not(None), IMPRESSION_KIND)).label("kind"),
        literal(1.0).label("value"),
        i.arm,
    ).select_from(_of_cells(impressions))
    arms = _arms_of_items()
    of_cells = _of_cells(feedback)
    if subject.paired:
        names = ("unit_id", "day", "request_id", "item_id")
        of_cells = of_cells.outerjoin(arms, and_(*(arms.c[name] == f[name] for name in names)))
    arm = arms.c.arm if subject.paired else literal("")
    done = select(f.event_id, cell_ids.c.unit_id, f.day, f.ts, f.kind, f.value, arm.label("arm"))
    return union_all(shown, done.select_from(of_cells)).cte("events")


def _arms_of_items() -> CTE:
    """Give the arm of each item that requests of the cells were answered with.

    Feedback does not name its arm; in a replay it stands on the day of its item's impression.
    """
    i = impressions.c
    answered = select(i.unit_id, i.day, i.request_id, i.item_id, i.arm).distinct()
    return answered.select_from(_of_cells(impressions)).cte("arms_of_items")


def _of_cells(table: Table) -> Join:
    """Join the cells with their events.

    They are joined from the left, and the run is taken from them too, so that a database without statistics
    looks events up by cell instead of reading the whole run; cells without events give empty rows, which are
    of no kind. Events lie near their requests in time, so most partitions need not be looked into.
    """
    c, all_cells = cell_ids.c, cells.alias("all_cells")
    first, last = (select(of(all_cells.c.day)).scalar_subquery() for of in (func.min, func.max))
    # A day of the lab's zone has parts of two days in UTC.
    near = table.c.request_day.between(first - MOST_DAYS_AFTER - 1, last + MOST_DAYS_BEFORE + 1)
    same_cell = (table.c.run == c.run, table.c.unit_id == c.id, table.c.day == c.day)
    return cell_ids.outerjoin(table, and_(*same_cell, near))
