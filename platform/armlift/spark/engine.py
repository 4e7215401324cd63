"""Spark as what answers a report: the events of an archive, rolled up and added up as in SQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, Engine, Table

from armlift.aggregates import Question
from armlift.archive.archive import Archive
from armlift.archive.manifest import Manifest
from armlift.archive.schema import TABLES
from armlift.rollup_rows import WholeRun, rows_of
from armlift.runs import Run, subject_of
from armlift.settings import SparkSettings
from armlift.spark.completeness import manifests_for
from armlift.spark.rows import carry, engine_on, show_files
from armlift.spark.session import open_session
from armlift.store.database import reading
from armlift.store.tables import aliases, arrivals, models, unit_attributes, unit_days
from armlift.store.ways import fill, make_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS_A_TASK = 500_000
"""Events that a task of a shuffle takes, about."""
LEAST_TASKS = 4


class SparkReading:
    """What lends connections on which reports are asked of Spark, over an archive.

    The events of a run are rolled up once, however many reports are made of it.
    """

    def __init__(self, session: "SparkSession", spark: Connection, archive: Archive) -> None:
        """Take a session, and a connection to it; both are whoever's that opened them."""
        self._session = session
        self._spark = spark
        self._archive = archive
        self._rolled_up: tuple[str, str] | None = None

    @contextmanager
    def __call__(self, engine: Engine, run: Run, question: Question) -> Iterator[Connection]:
        """Lend a connection with what a question asks of; raises InputError where the archive lacks it.

        Events come from the archive; what no event says, such as whom an id was merged into, from the
        database.
        """
        with reading(engine) as sql:
            manifests = manifests_for(self._archive, sql, question)
            if self._rolled_up != (run.run, run.experiment):
                self._show(sql, run, manifests)
        yield self._spark

    def _show(self, sql: Connection, run: Run, manifests: Sequence[Manifest]) -> None:
        """Have Spark's tables be those of a run."""
        self._rolled_up = None
        rows = sum(sum(one.rows.values()) for one in manifests)
        self._session.conf.set("spark.sql.shuffle.partitions", str(max(LEAST_TASKS, rows // ROWS_A_TASK)))
        for name, table in TABLES.items():
            files = [file for one in manifests for file in one.tables.get(name, ())]
            addresses = [self._archive.folder.address(file.path) for file in files]
            show_files(self._session, self._spark, table, addresses)
        for table, mine in _carried(run).items():
            carry(self._session, self._spark, sql, table, mine)
        roll_up(self._spark, run)
        self._rolled_up = (run.run, run.experiment)


@contextmanager
def open_reading(settings: SparkSettings, archive: Archive) -> Iterator[SparkReading]:
    """Open a session that reads an archive; raises InputError where Spark cannot be used."""
    with open_session(settings) as session, engine_on(session).connect() as spark:
        yield SparkReading(session, spark, archive)


def roll_up(spark: Connection, run: Run) -> None:
    """Compute `unit_days` of a run from its events, for as long as the connection lasts."""
    columns = {column.name: column.type for column in unit_days.c}
    table = make_table(spark, unit_days.name, [key.name for key in unit_days.primary_key], columns)
    fill(spark, table, rows_of(subject_of(run), WholeRun(spark)))


def _carried(run: Run) -> dict[Table, ColumnElement[bool]]:
    """Give what a report reads that no event says, and which rows of it concern a run."""
    return {
        aliases: aliases.c.run == run.run,
        unit_attributes: unit_attributes.c.run == run.run,
        arrivals: arrivals.c.run == run.run,
        models: models.c.arm.in_(list(run.arms)),
    }
