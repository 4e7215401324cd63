"""Which rows a data set has: one select a table, the same for every engine that holds events."""

from typing import Any

from sqlalchemy import Select, func, select, union_all

from armlift.aliases import unit_of
from armlift.store.tables import exposures, feedback, impressions
from armlift_pipelines.dataset import Span
from armlift_pipelines.shards import BEHAVIOURS, EXPOSURES, SHOWN


def rows_by_table(span: Span) -> dict[str, Select[Any]]:
    """Select the rows of units, by the table of the data set; ids that were merged count as their unit."""
    return {
        BEHAVIOURS.name: _behaviours(span),
        EXPOSURES.name: _exposures(span),
        SHOWN.name: _shown(span),
    }


def _behaviours(span: Span) -> Select[Any]:
    f = feedback.c
    return select(unit_of(feedback).label("unit"), f.item_id.label("item"), f.kind, f.value, f.ts).where(
        f.run == span.run, f.ts >= span.first, f.ts < span.watermark
    )


def _exposures(span: Span) -> Select[Any]:
    """Give each unit's first exposure in each experiment; of several at one moment, the first arm."""
    e = exposures.c
    place = func.row_number().over(partition_by=(unit_of(exposures), e.experiment), order_by=(e.ts, e.arm))
    met = select(unit_of(exposures).label("unit"), e.experiment, e.arm, e.ts, place.label("place")).where(
        e.run == span.run, e.ts < span.watermark
    )
    m = met.subquery().c
    return select(m.unit, m.experiment, m.arm, m.ts).where(m.place == 1)


def _shown(span: Span) -> Select[Any]:
    i = impressions.c
    return (
        select(unit_of(impressions).label("unit"), i.item_id.label("item"), i.arm)
        .where(i.run == span.run, i.ts >= span.until, i.ts < span.watermark)
        .distinct()
    )


def items(span: Span) -> Select[Any]:
    """Select the items that had an event, each with the time of its first one."""
    parts = [
        select(table.c.item_id, func.min(table.c.ts).label("ts"))
        .where(table.c.run == span.run, table.c.ts >= span.first, table.c.ts < span.watermark)
        .group_by(table.c.item_id)
        for table in (impressions, feedback)
    ]
    met = union_all(*parts).subquery().c
    return select(met.item_id.label("item"), func.min(met.ts).label("ts")).group_by(met.item_id)
