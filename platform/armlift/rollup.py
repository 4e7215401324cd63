"""The `unit_days` rollup: what each unit did on each day, as each metric counts it.

A cell is a (run, unit, day). Whoever stores events marks their cells in the same transaction; all rows of
marked cells are then computed again from the events, and the marks deleted, in another: so the rollup is
the same whatever the order, the batches or the redeliveries were, and it can be rebuilt at any time. When a
unit's first exposure arrives or moves, or an id is merged into it, all of its days are computed again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
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
from armlift.rollup_rows import MarkedCells, Scope, Subject, WholeRun, rows_of
from armlift.store.database import writing
from armlift.store.lookups import delete_each, look_up
from armlift.store.partitions import first_whole_day
from armlift.store.sink import insert_or
from armlift.store.tables import exposures, touched_cells, unit_days
from armlift.store.ways import temporary

cells = temporary(
    "cells",
    Column("run", String(200), primary_key=True),
    Column("unit_id", String(200), primary_key=True),
    Column("day", Integer, primary_key=True),
)
"""The cells of one run that are computed; a temporary table of the connection."""

named = temporary(
    "named",
    Column("experiment", String(200), primary_key=True),
    *(Column(column.name, column.type, primary_key=True) for column in cells.c),
)
"""The cells that marks name, of each experiment; a temporary table of the connection."""

taken = temporary(
    "taken",
    Column("mark", BigInteger, primary_key=True, autoincrement=False),
    Column("run", String(200), nullable=False),
    Column("unit_id", String(200), nullable=False),
    Column("day", Integer),
    Column("arm", String(200)),
    Column("ts", BigInteger),
)
"""The marks that are worked on; a temporary table of the connection."""

moved = temporary(
    "moved",
    Column("unit_id", String(200), primary_key=True),
)
"""The units of one run of which all days are computed; a temporary table of the connection."""

MARKS = 50_000
"""Marks that a transaction takes from the oldest on, at most."""
LOCK = 0x61726D6E
"""PostgreSQL's advisory lock of whoever computes the rollup."""


Subjects = Callable[[Connection, set[str]], Sequence[Subject]]
"""Give the experiments whose metrics the events of these runs count in."""


def roll_up(connection: Connection, subjects: Subjects, marks: int = MARKS) -> int:
    """Compute the cells of the oldest marks; gives how many marks are done, 0 if another process is at it.

    What is committed with a mark is seen here, as the mark is read first; what comes later has a later mark.
    Later marks of the same cells are done too, so that each cell of a backlog is computed once.
    """
    if not _alone(connection, "pg_try_advisory_xact_lock"):
        return 0
    for table in (cells, named, taken, moved):
        table.create(connection, checkfirst=True)
        connection.execute(delete(table))
    oldest = select(*(touched_cells.c[column.name] for column in taken.c)).order_by(touched_cells.c.mark)
    connection.execute(insert(taken).from_select(list(taken.c), oldest.limit(marks)))
    found = _number(connection, taken)
    if found:
        _count(connection, taken)
        concerned = subjects(connection, {*connection.execute(select(taken.c.run).distinct()).scalars()})
        for subject in concerned:
            _find_cells(connection, subject)
        found = _delete_marks(connection, Counter(subject.run for subject in concerned))
        for subject in concerned:
            _compute(connection, subject)
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
            marked = select(touched_cells.c.mark).where(touched_cells.c.mark <= newest)
            left = connection.execute(marked.limit(1)).first()
        if not left:
            return
        if time.monotonic() > deadline:
            with engine.connect() as connection:
                left = waiting(connection)
            raise TimeoutError(f"{left:,} marked cells of the rollup were not computed for {wait:g} s")
        time.sleep(0.01)


def marked(connection: Connection) -> bool:
    """Tell whether there are marks at all."""
    return connection.execute(select(touched_cells.c.mark).limit(1)).first() is not None


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


def rebuild(connection: Connection, subject: Subject) -> None:
    """Compute all of a run's cells again, as they would be had its events come one by one.

    Those of days whose events retention has begun to delete stay as they are.
    """
    hold(connection)
    whole = first_whole_day(connection)
    u = unit_days.c
    mine = (u.run == subject.run, u.experiment == subject.experiment, u.day >= whole)
    connection.execute(delete(unit_days).where(*mine))
    _fill(connection, subject, WholeRun(connection, whole))


def _delete_marks(connection: Connection, experiments: Mapping[str, int]) -> int:
    """Delete the marks taken, and all others of cells that each experiment of their run computes."""
    deleted = delete_each(connection, taken, touched_cells, {"mark": taken.c.mark})
    n, t = named.c, touched_cells.c
    _count(connection, named)
    for run, number in experiments.items():
        of_all = select(n.unit_id, n.day).where(n.run == run).group_by(n.unit_id, n.day)
        same = tuple_(t.unit_id, t.day).in_(of_all.having(func.count() == number))
        with _hashing(connection):
            deleted += connection.execute(delete(touched_cells).where(t.run == run, same)).rowcount
    return deleted


def _compute(connection: Connection, subject: Subject) -> None:
    """Compute the cells of a subject that marks name."""
    n = named.c
    connection.execute(delete(cells))
    mine = select(n.run, n.unit_id, n.day).where(n.run == subject.run, n.experiment == subject.experiment)
    connection.execute(insert(cells).from_select(list(cells.c), mine))
    find_ids(connection, cells)
    _count(connection, cells)
    _count(connection, cell_ids)
    c = cells.c
    of_cell = {"run": c.run, "experiment": literal(subject.experiment), "unit_id": c.unit_id, "day": c.day}
    # Those that vanish must not stay.
    delete_each(connection, cells, unit_days, of_cell)
    _fill(connection, subject, MarkedCells(connection))


def _fill(connection: Connection, subject: Subject, scope: Scope) -> None:
    with _hashing(connection):
        connection.execute(insert(unit_days).from_select(list(unit_days.c), rows_of(subject, scope)))


@contextmanager
def _hashing(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL join by hash what it does not look up, and sort in memory.

    It takes a run that it has not counted for small, and would hold each row of one side against all of the
    other.
    """
    settings = {"enable_nestloop": "off", "work_mem": "64MB", "jit": "off"}
    if connection.dialect.name != "postgresql":
        settings = {}
    for name, value in settings.items():
        connection.execute(text(f"SET LOCAL {name} = '{value}'"))
    yield
    for name in settings:
        connection.execute(text(f"SET LOCAL {name} TO DEFAULT"))


def _find_cells(connection: Connection, subject: Subject) -> None:
    """Find the cells that marks name: those of events, and all of a unit that is exposed or merged anew.

    Not those of days whose events are not all there any more: what they counted stays.
    """
    t, e = taken.c, exposures.c
    mine = t.run == subject.run
    experiment = literal(subject.experiment)
    of_events = select(experiment, t.run, t.unit_id, t.day).where(mine, t.day.is_not(None)).distinct()
    connection.execute(insert(named).from_select(list(named.c), of_events))
    same = and_(e.run == t.run, e.experiment == subject.experiment, e.unit_id == t.unit_id, e.arm == t.arm)
    rows, found = look_up(connection, taken, exposures, same)
    first = (
        select(t.unit_id)
        .select_from(rows)
        .where(mine, t.arm.is_not(None))
        # A mark does not name its experiment: those of others have times of their own.
        .group_by(t.unit_id, t.arm, t.ts)
        .having(func.min(found.ts) == t.ts)
    )
    merged = select(t.unit_id).where(mine, t.day.is_(None), t.arm.is_(None))
    anew = union(first, merged).subquery()
    connection.execute(delete(moved))
    connection.execute(insert(moved).from_select(list(moved.c), select(anew)))
    if not _number(connection, moved):
        return
    follow(connection, subject.run, moved)
    _count(connection, moved)
    days = days_of(connection, subject.run, moved)
    whole = select(experiment, days).distinct().where(days.c.day >= first_whole_day(connection))
    fresh = insert_or(connection, named).from_select(list(named.c), whole)
    connection.execute(fresh.on_conflict_do_nothing())
