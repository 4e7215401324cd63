"""Which rows a data set has: one select a table, the same for every engine that holds events."""

from typing import Any

from sqlalchemy import Select, Subquery, Table, func, select, union_all

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


def _counted(table: Table, span: Span, first: int | None) -> Subquery:
    """Select events of the run from a time on, up to the watermark, with the `unit` that each counts for."""
    within = [table.c.run == span.run, table.c.ts < span.watermark]
    within += [] if first is None else [table.c.ts >= first]
    return select(table, unit_of(table).label("unit")).where(*within).subquery()


def _behaviours(span: Span) -> Select[Any]:
    f = _counted(feedback, span, span.first).c
    return select(f.unit, f.item_id.label("item"), f.kind, f.value, f.ts)


def _exposures(span: Span) -> Select[Any]:
    """Give each unit's first exposure in each experiment; of several at one moment, the first arm."""
    e = _counted(exposures, span, None).c
    nth = func.row_number().over(partition_by=(e.unit, e.experiment), order_by=(e.ts, e.arm))
    met = select(e.unit, e.experiment, e.arm, e.ts, nth.label("nth")).subquery().c
    return select(met.unit, met.experiment, met.arm, met.ts).where(met.nth == 1)


def _shown(span: Span) -> Select[Any]:
    i = _counted(impressions, span, span.until).c
    return select(i.unit, i.item_id.label("item"), i.arm).distinct()


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
