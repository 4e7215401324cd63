"""Aliases: which ids are one unit.

The rule: all events of an anonymous id, also those before the merge, count for the unit it was merged into.
The first merge wins (of one moment: into the unit that sorts first). Merges are not followed further: where
that unit was itself merged into another, its own events count there, those merged into it for itself.
"""

from collections.abc import Collection

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Subquery,
    Table,
    and_,
    func,
    insert,
    select,
    union,
    union_all,
)

from armlift.store.tables import NAME, aliases, feedback, impressions

cell_ids = Table(
    "cell_ids",
    MetaData(),
    Column("run", NAME, primary_key=True),
    Column("unit_id", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("id", NAME, primary_key=True, comment="the unit's own, or one merged into it"),
    prefixes=["TEMPORARY"],
)
"""Whose events make which cell; a temporary table of the connection."""


def merged_into(run: ColumnElement[str], identity: ColumnElement[str]) -> ColumnElement[str]:
    """Give the unit that an id of a run was merged into; NULL where it was not."""
    a = aliases.alias().c
    first = select(a.unit_id).where(a.run == run, a.anonymous_id == identity)
    return first.order_by(a.ts, a.unit_id).limit(1).scalar_subquery()


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
    known = cells.alias("known")
    same = (known.c.run == moved.c.run, known.c.unit_id == moved.c.unit_id, known.c.day == moved.c.day)
    fresh = select(moved).where(~select(known.c.run).where(*same).exists())
    connection.execute(insert(cells).from_select(["run", "unit_id", "day"], fresh))
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


def days_of(connection: Connection, run: str, ids: Collection[str]) -> Subquery:
    """Select the cells of the units that some ids of a run are, or were ever merged into, on all days."""
    a = aliases.c
    named = connection.scalars(select(a.unit_id).where(a.run == run, a.anonymous_id.in_(ids)))
    units = sorted({*ids, *named})
    own = [
        select(table.c.run, table.c.unit_id, table.c.day).where(
            table.c.run == run, table.c.unit_id.in_(units)
        )
        for table in (impressions, feedback)
    ]
    merged = [
        select(table.c.run, a.unit_id, table.c.day)
        .join_from(aliases, table, and_(table.c.run == a.run, table.c.unit_id == a.anonymous_id))
        .where(a.run == run, a.unit_id.in_(units))
        for table in (impressions, feedback)
    ]
    return union_all(*own, *merged).subquery()
