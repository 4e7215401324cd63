"""Aliases: which ids are one unit.

The rule: all events of an anonymous id, also those before the merge, count for the unit it was merged into.
The first merge wins (of one moment: into the unit that sorts first). Merges are not followed further: where
that unit was itself merged into another, its own events count there, those merged into it for itself.
"""

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Subquery,
    Table,
    and_,
    func,
    insert,
    literal,
    select,
    true,
    union,
    union_all,
)

from armlift.store.lookups import look_up
from armlift.store.sink import insert_or
from armlift.store.tables import NAME, aliases, feedback, impressions
from armlift.store.ways import temporary

cell_ids = temporary(
    "cell_ids",
    Column("run", NAME, primary_key=True),
    Column("unit_id", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("id", NAME, primary_key=True, comment="the unit's own, or one merged into it"),
)
"""Whose events make which cell; a temporary table of the connection."""


NO_DAY = -(2**31)
"""Before any day there is."""


def merged_into(run: ColumnElement[str], identity: ColumnElement[str]) -> ColumnElement[str]:
    """Give the unit that an id of a run was merged into; NULL where it was not."""
    a = aliases.alias().c
    first = select(a.unit_id).where(a.run == run, a.anonymous_id == identity)
    return first.order_by(a.ts, a.unit_id).limit(1).scalar_subquery()


def any_merged(connection: Connection, run: str) -> bool:
    """Tell whether an id of a run was ever merged into a unit."""
    return connection.execute(select(aliases.c.run).where(aliases.c.run == run).limit(1)).first() is not None


def unit_of(table: Table) -> ColumnElement[str]:
    """Give the unit that an event of a table counts for."""
    return func.coalesce(merged_into(table.c.run, table.c.unit_id), table.c.unit_id)


def find_ids(connection: Connection, cells: Table) -> None:
    """Find whose events make some cells (run, unit_id, day), into `cell_ids`.

    Events may have named the cell of a merged id: that of its unit is added. The one named stays, so that
    what was stored of it before the merge is forgotten; it is empty now.
    """
    c = cells.c
    into = merged_into(c.run, c.unit_id)
    moved = select(c.run, into.label("unit_id"), c.day).where(into.is_not(None)).distinct().subquery()
    # SQLite takes ON for a join's where no WHERE stands before it.
    connection.execute(
        insert_or(connection, cells)
        .from_select(["run", "unit_id", "day"], select(moved).where(true()))
        .on_conflict_do_nothing()
    )
    own = select(c.run, c.unit_id, c.day, c.unit_id).where(into.is_(None))
    naming = and_(aliases.c.run == c.run, aliases.c.unit_id == c.unit_id)
    merged = (
        select(c.run, c.unit_id, c.day, aliases.c.anonymous_id)
        .select_from(cells.outerjoin(aliases, naming))
        .where(merged_into(aliases.c.run, aliases.c.anonymous_id) == c.unit_id)
    )
    cell_ids.create(connection, checkfirst=True)
    connection.execute(cell_ids.delete())
    connection.execute(insert(cell_ids).from_select(["run", "unit_id", "day", "id"], union(own, merged)))


def follow(connection: Connection, run: str, units: Table) -> None:
    """Add to a table of ids of a run, `unit_id`, the units that any of them was ever merged into."""
    a = aliases.c
    named = select(a.unit_id).where(a.run == run, a.anonymous_id.in_(select(units.c.unit_id)))
    fresh = insert_or(connection, units).from_select(["unit_id"], named)
    connection.execute(fresh.on_conflict_do_nothing())


def days_of(connection: Connection, run: str, units: Table) -> Subquery:
    """Select the cells of some units of a run, `unit_id`, on all days; a unit without any has NO_DAY."""
    u, a = units.c, aliases.c
    of_unit = units.outerjoin(aliases, and_(a.run == run, a.unit_id == u.unit_id))
    parts = []
    for table in (impressions, feedback):
        for source, identity in ((units, u.unit_id), (of_unit, a.anonymous_id)):
            same = and_(table.c.run == run, table.c.unit_id == identity)
            rows, found = look_up(connection, source, table, same)
            day = func.coalesce(found.day, NO_DAY).label("day")
            parts.append(select(literal(run).label("run"), u.unit_id, day).select_from(rows))
    return union_all(*parts).subquery()
