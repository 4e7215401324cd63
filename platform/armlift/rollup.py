"""The `unit_days` rollup: what each unit did on each day, as each metric counts it.

A cell is a (run, unit, day). Whoever stores events marks their cells in the same transaction; all rows of
marked cells are then computed again from the events, and the marks deleted, in another: so the rollup is
the same whatever the order, the batches or the redeliveries were, and it can be rebuilt at any time. When a
unit's first exposure arrives or moves, or an id is merged into it, all of its days are computed again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    union,
)

from armlift.aliases import cell_ids, days_of, find_ids, follow
from armlift.rollup_rows import MarkedCells, Subject, rows_of
from armlift.store.database import writing
from armlift.store.partitions import first_whole_day
from armlift.store.sink import insert_or
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
    connection.execute(insert(unit_days).from_select(list(unit_days.c), rows_of(subject, MarkedCells(cells))))


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
