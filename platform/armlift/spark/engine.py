"""Spark as what answers a report: the events of an archive, rolled up and added up as in SQL."""

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, Table

from armlift.rollup_rows import WholeRun, rows_of
from armlift.runs import Run, subject_of
from armlift.store.tables import (
    aliases,
    arrivals,
    exposures,
    feedback,
    impressions,
    models,
    unit_attributes,
    unit_days,
)
from armlift.store.ways import fill, make_table

if TYPE_CHECKING:
    pass

ARCHIVED = (exposures, impressions, feedback)


def roll_up(spark: Connection, run: Run) -> None:
    """Compute `unit_days` of a run from its events, for as long as the connection lasts."""
    columns = {column.name: column.type for column in unit_days.c}
    table = make_table(spark, unit_days.name, [key.name for key in unit_days.primary_key], columns)
    fill(spark, table, rows_of(subject_of(run), WholeRun()))


def _carried(run: Run) -> dict[Table, ColumnElement[bool]]:
    """Give what a report reads that no event says, and which rows of it concern a run."""
    return {
        aliases: aliases.c.run == run.run,
        unit_attributes: unit_attributes.c.run == run.run,
        arrivals: arrivals.c.run == run.run,
        models: models.c.arm.in_(list(run.arms)),
    }
