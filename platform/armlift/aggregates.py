"""Aggregates over units, computed in the database: only they leave it.

One pass over `unit_days` gives each unit's totals from its first exposure on, as a temporary table; two more
over that give means, then centred second moments and cross products, in double precision.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    MetaData,
    Select,
    String,
    Subquery,
    Table,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    text,
    true,
    union_all,
)

from armlift.aliases import unit_of
from armlift.durations import milliseconds
from armlift.metric import Metric
from armlift.moments import aggregates_of
from armlift.stats.aggregates import Aggregates
from armlift.store.sums import OrderedSum
from armlift.store.tables import exposures, unit_days

TOTALS = "unit_totals"


class Stratum(NamedTuple):
    """An arm's units of one generation and phase of first exposure."""

    arm: str
    generation: int
    phase: int


class Question(NamedTuple):
    """What is asked of a run: its units up to a time (UTC milliseconds) and a day, both included."""

    run: str
    experiment: str
    paired: bool
    as_of: int
    as_of_day: int


def _columns(metrics: Iterable[str]) -> dict[tuple[str, str], str]:
    """Name the columns of each metric's num and den, by number: PostgreSQL cuts names at 63 bytes."""
    return {(name, part): f"{part}_{n}" for n, name in enumerate(metrics) for part in ("num", "den")}


class UnitTotals:
    """Each unit's totals of all metrics since its first exposure, as a temporary table of a connection.

    Forced units are left out, and in runs that are not paired those that met several arms; `left_out` counts
    them by reason. Of a metric with a window only units whose window is over count: before that, a unit's
    total is of less time than the others'. `sql` is what was asked, with its values.
    """

    def __init__(self, connection: Connection, question: Question, metrics: Mapping[str, Metric]) -> None:
        self._connection = connection
        self._question = question
        self._metrics = metrics
        self._columns = _columns(metrics)
        query = _totals(question, metrics)
        self.sql = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        connection.execute(text(f"DROP TABLE IF EXISTS {TOTALS}"))
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {TOTALS} AS {self.sql}")
        if connection.dialect.name == "postgresql":
            # It never counts temporary tables by itself, and would pair units in quadratic time.
            connection.execute(text(f"ANALYZE {TOTALS}"))
        self._table = Table(
            TOTALS,
            MetaData(),
            Column("unit_id", String),
            Column("arm", String),
            Column("generation", Integer),
            Column("phase", Integer),
            Column("since", BigInteger),
            *(Column(name, Float) for name in self._columns.values()),
        )

    def counts(self) -> dict[Stratum, int]:
        """Count the units of each stratum."""
        table = self._table
        keys = (table.c.arm, table.c.generation, table.c.phase)
        rows = self._connection.execute(select(*keys, func.count()).group_by(*keys).order_by(*keys))
        return {Stratum(*row[:3]): row[3] for row in rows}

    def carriers(self, metric: str) -> dict[str, int]:
        """Count each arm's units with a denominator: those that a ratio rests on."""
        table = self._table
        carrying = and_(self._of(table, metric, "den") != 0, self._over(table, metric))
        rows = self._connection.execute(
            select(table.c.arm, func.count()).where(carrying).group_by(table.c.arm)
        )
        return {row[0]: row[1] for row in rows}

    def windows_open(self) -> dict[str, int]:
        """Count the units each metric leaves out because their window is not over; metrics with one alone."""
        count = select(func.count(self._table.c.unit_id.distinct()))
        return {
            name: self._connection.execute(count.where(~self._over(self._table, name))).scalar_one()
            for name, metric in self._metrics.items()
            if metric.window is not None
        }

    def left_out(self) -> dict[str, int]:
        """Count the units that exposures name but the totals leave out."""
        e = exposures_of(self._question).c
        units = (
            select(
                func.count(e.arm.distinct()).label("arms"), func.max(cast(e.forced, Integer)).label("forced")
            )
            .group_by(e.unit_id)
            .subquery()
        )
        forced = func.coalesce(func.sum(case((units.c.forced == 1, 1), else_=0)), 0)
        several = func.coalesce(func.sum(case((and_(units.c.forced == 0, units.c.arms > 1), 1), else_=0)), 0)
        row = self._connection.execute(select(forced, several)).one()
        if self._question.paired:
            return {"forced": row[0]}
        return {"forced": row[0], "several_arms": row[1]}

    def by_stratum(self, metric: str) -> dict[Stratum, Aggregates]:
        """Give a metric's aggregates over (num, den) by stratum.

        Of ratios only units with a denominator count: the others do not move the ratio, and would make its
        degrees of freedom look like more than they are.
        """
        rows = select(self._table).where(self._over(self._table, metric))
        if self._metrics[metric].kind == "ratio":
            rows = rows.where(self._of(self._table, metric, "den") != 0)
        table = rows.subquery()
        keys = [table.c.arm, table.c.generation, table.c.phase]
        values = {part: self._of(table, metric, part) for part in ("num", "den")}
        found = aggregates_of(self._connection, table, keys, values, table.c.unit_id)
        return {Stratum(*key): aggregates for key, aggregates in found.items()}

    def pairs(self, metric: str, arm: str, control: str) -> Aggregates:
        """Give a metric's aggregates over (num, den, control_num, control_den) of the units that met both.

        Of ratios only units with a denominator in either arm count.
        """
        a, c = self._table.alias("a"), self._table.alias("c")
        both = a.join(c, a.c.unit_id == c.c.unit_id)
        pair = select(
            a.c.unit_id,
            *(self._of(a, metric, part).label(part) for part in ("num", "den")),
            *(self._of(c, metric, part).label(f"control_{part}") for part in ("num", "den")),
        )
        over = (self._over(side, metric) for side in (a, c))
        pair = pair.select_from(both).where(a.c.arm == arm, c.c.arm == control, *over)
        if self._metrics[metric].kind == "ratio":
            pair = pair.where(or_(self._of(a, metric, "den") != 0, self._of(c, metric, "den") != 0))
        rows = pair.subquery()
        names = ("num", "den", "control_num", "control_den")
        values = {name: rows.c[name] for name in names}
        found = aggregates_of(self._connection, rows, [], values, rows.c.unit_id)
        return found.get((), Aggregates.empty(names))

    def _over(self, source: FromClause, metric: str) -> ColumnElement[bool]:
        """Tell units whose window of a metric lies wholly before the time asked for; without one, all."""
        window = self._metrics[metric].window
        if window is None:
            return true()
        return source.c.since + milliseconds(window) <= self._question.as_of + 1

    def _of(self, source: FromClause, metric: str, part: str) -> ColumnElement[float]:
        return source.c[self._columns[metric, part]]


def _totals(question: Question, metrics: Mapping[str, Metric]) -> Select[tuple[object, ...]]:
    """Select the totals of the units that count, by arm.

    Exposures and sums are stacked and grouped, not joined: PostgreSQL underrates how many units pass such
    filters, and joins them in quadratic time.
    """
    columns = _columns(metrics)
    stacked = union_all(_met(question, columns), _done(question, columns)).subquery()
    s = stacked.c
    merged = (
        select(
            s.unit_id,
            s.arm,
            func.max(s.forced).label("forced"),
            func.min(s.generation).label("generation"),
            func.min(s.phase).label("phase"),
            func.min(s.since).label("since"),
            *(func.sum(s[column]).label(column) for column in columns.values()),
        )
        .group_by(s.unit_id, s.arm)
        .having(func.count(s.forced) > 0)
        .cte("merged")
    )
    m = merged.c
    placed = select(
        m.unit_id,
        m.arm,
        func.count().over(partition_by=m.unit_id).label("arms"),
        func.max(m.forced).over(partition_by=m.unit_id).label("forced"),
        func.min(m.generation).over(partition_by=m.unit_id).label("generation"),
        func.min(m.phase).over(partition_by=m.unit_id).label("phase"),
        m.since,
        *(m[column] for column in columns.values()),
    ).cte("placed")
    p = placed.c
    values = (
        _value(p[column], metrics[name], part).label(column) for (name, part), column in columns.items()
    )
    found = select(p.unit_id, p.arm, p.generation, p.phase, p.since, *values).where(p.forced == 0)
    return found if question.paired else found.where(p.arms == 1)


def exposures_of(question: Question) -> Subquery:
    """Select the exposures up to the time asked for, with the units they count for."""
    e = exposures.c
    return (
        select(unit_of(exposures).label("unit_id"), e.arm, e.forced, e.generation, e.phase, e.ts)
        .where(e.run == question.run, e.experiment == question.experiment, e.ts <= question.as_of)
        .subquery()
    )


def _met(question: Question, columns: Mapping[tuple[str, str], str]) -> Select[tuple[object, ...]]:
    """Select the arms each unit met, with no totals."""
    e = exposures_of(question).c
    return select(
        e.unit_id,
        e.arm,
        func.max(cast(e.forced, Integer)).label("forced"),
        # Phases and generations only ever rise, so the least is that of the first exposure.
        func.min(e.generation).label("generation"),
        func.min(e.phase).label("phase"),
        func.min(e.ts).label("since"),
        *(literal(0.0).label(column) for column in columns.values()),
    ).group_by(e.unit_id, e.arm)


def _done(question: Question, columns: Mapping[tuple[str, str], str]) -> Select[tuple[object, ...]]:
    """Select each unit's totals by arm, since its first exposure."""
    d = unit_days.c
    return (
        select(
            d.unit_id,
            d.arm,
            *(cast(None, Integer).label(name) for name in ("forced", "generation", "phase")),
            cast(None, BigInteger).label("since"),
            *(
                OrderedSum(case((d.metric == name, d[part]), else_=0.0), d.day).label(column)
                for (name, part), column in columns.items()
            ),
        )
        .where(
            d.run == question.run,
            d.experiment == question.experiment,
            d.side == "post",
            d.day <= question.as_of_day,
        )
        .group_by(d.unit_id, d.arm)
    )


def _value(total: ColumnElement[float], metric: Metric, part: str) -> ColumnElement[float]:
    """Turn a unit's total into its value; a proportion is 1 where something happened."""
    if metric.kind == "proportion" and part == "num":
        return case((total > 0, 1.0), else_=0.0)
    return total
