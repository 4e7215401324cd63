"""Aggregates over units, computed in the database: only they leave it, but for a check that asks for `each`.

Two temporary tables hold what is asked: the units that count, and what they did, one row for each metric in
which a unit did anything. Sums run over the second one; units that did nothing are added in closed form, so
that the cost follows what happened. Rows are added in the order of the key of `unit_days`, and units in the
order they are written in: sums are the same, bit for bit, in every database.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    String,
    Subquery,
    Table,
    and_,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
)

from armlift.aliases import unit_of
from armlift.effects import BEFORE, PAST, ByPlace, Place, parts_of
from armlift.metric import Metric, window_of
from armlift.moments import Filled, aggregates_by, aggregates_of
from armlift.stats.aggregates import Aggregates, Array
from armlift.store.tables import exposures, unit_days


class Stratum(NamedTuple):
    """An arm's units of one generation and phase of first exposure."""

    arm: str
    generation: int
    phase: int


def of_arm(strata: Mapping[Stratum, Aggregates], arm: str) -> ByPlace:
    """Give an arm's aggregates by generation and phase."""
    return {(stratum.generation, stratum.phase): one for stratum, one in strata.items() if stratum.arm == arm}


class Question(NamedTuple):
    """What is asked of a run: its units up to a time (UTC milliseconds) and a day, both included."""

    run: str
    experiment: str
    paired: bool
    as_of: int
    as_of_day: int


class UnitTotals:
    """Each unit's totals of all metrics around its first exposure, as temporary tables of a connection.

    Forced units are left out, and in runs that are not paired those that met several arms; `left_out` counts
    them by reason. Of a metric with a window, or of retention, only units old enough count: before that, a
    unit's total is of less time than the others'. `sql` is what was asked, with its values.
    """

    def __init__(self, connection: Connection, question: Question, metrics: Mapping[str, Metric]) -> None:
        self._connection = connection
        self._question = question
        self._metrics = metrics
        self._units = _table(connection, "unit_strata", ("unit_id", "arm"), _UNIT_COLUMNS)
        self._rows = _table(connection, "unit_totals", (*_STRATUM_FIRST, "unit_id"), _ROW_COLUMNS)
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            # Enough to hash a million units at once.
            connection.execute(text("SET LOCAL work_mem = '256MB'"))
        asked = [
            (self._units, _units(question)),
            (self._rows, self._of_old_units(_totals(question, self._units, ordered=postgresql))),
        ]
        self.sql = ";\n".join(self._fill(table, query) for table, query in asked)
        if postgresql:
            # By hash, rows are added in the order they were written in; a sort does not keep it.
            connection.execute(text("SET LOCAL enable_mergejoin = off"))
            connection.execute(text("SET LOCAL enable_sort = off"))
        self._caps = {name: cap for name in metrics if (cap := self._cap(name)) is not None}
        self._ages: dict[str, Table] = {}
        self._old_units: dict[_Time, dict[tuple[Any, ...], int]] = {}
        self._found: dict[tuple[str, ...], dict[str, dict[Stratum, Aggregates]]] = {}

    def counts(self) -> dict[Stratum, int]:
        """Count the units of each stratum."""
        return {Stratum(*key): n for key, n in sorted(self._unit_counts(true()).items())}

    def arrivals(self) -> dict[int, int]:
        """Count new units by the day of their first exposure, whichever arm they met."""
        u = self._units.c
        first = select(func.min(u.since_day).label("day")).group_by(u.unit_id).subquery()
        rows = self._connection.execute(select(first.c.day, func.count()).group_by(first.c.day))
        return {row[0]: row[1] for row in sorted(rows)}

    def carriers(self, metric: str) -> dict[str, int]:
        """Count each arm's units with a denominator: those that a ratio rests on."""
        r = self._rows.c
        carrying = select(r.arm, func.count()).where(r.metric == metric, r.den != 0).group_by(r.arm)
        return {row[0]: row[1] for row in self._connection.execute(carrying)}

    def too_young(self) -> dict[str, int]:
        """Count the units each metric leaves out because they are not old enough; metrics that may alone."""
        count = select(func.count(self._units.c.unit_id.distinct()))
        return {
            name: self._connection.execute(count.where(~self._old(self._units, metric))).scalar_one()
            for name, metric in self._metrics.items()
            if _time(metric) is not None
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
        """Give a metric's aggregates over `parts_of` it, by stratum.

        Of ratios only units with a denominator count: the others do not move the ratio, and would make its
        degrees of freedom look like more than they are.
        """
        return self._aggregate(parts_of(self._metrics[metric])).get(metric, {})

    def before(self, metric: str) -> dict[Stratum, Aggregates]:
        """Give the aggregates of what units did before their first exposure, over BEFORE, by stratum."""
        return self._aggregate(BEFORE).get(metric, {})

    def caps(self) -> dict[str, float]:
        """Give the values at which metrics are capped, by metric."""
        return dict(self._caps)

    def quantile(self, metric: str, arm: str, ranks: Sequence[int]) -> list[float]:
        """Give the order statistics of an arm's units at some ranks, 0 the smallest; idle units are zeros."""
        r = self._rows.c
        mine = and_(r.metric == metric, r.arm == arm)
        counted = select(func.count(), func.sum(case((r.num < 0, 1), else_=0))).where(mine)
        rows, below = self._connection.execute(counted).one()
        idle, below = self.units(metric, arm) - rows, below or 0
        found = []
        for rank in ranks:
            if below <= rank < below + idle:
                found.append(0.0)
                continue
            place = rank if rank < below else rank - idle
            found.append(
                self._connection.execute(
                    select(r.num).where(mine).order_by(r.num).limit(1).offset(place)
                ).scalar_one()
            )
        return found

    def units(self, metric: str, arm: str) -> int:
        """Count an arm's units that count in a metric, idle ones too."""
        return sum(n for key, n in self._old_counts(metric).items() if key[0] == arm)

    def share_at_most(self, metric: str, value: float) -> dict[Stratum, Aggregates]:
        """Give aggregates over (below, values): whether a unit's total is at most a value, and 1."""
        r = self._rows.c
        values = {"below": case((r.num <= value, 1.0), else_=0.0), "values": literal(1.0)}
        filled = Filled(self._old_counts(metric), {"below": float(value >= 0), "values": 1.0})
        return self._of_one(metric, self._rows, r.metric == metric, values, filled)

    def by_age(self, metric: str) -> dict[int, dict[Stratum, Aggregates]]:
        """Give a metric's aggregates over (num, den) of single days, by age and stratum.

        A day's age is its distance from the unit's first exposure. Of each day only units count that are old
        enough for it, and of ratios only those with a denominator.
        """
        ratio = self._metrics[metric].kind == "ratio"
        days = self._days(metric)
        counts: dict[tuple[Any, ...], int] = {}
        since = self._unit_counts(true(), self._units.c.since_day)
        for (*stratum, since_day), n in since.items():
            for age in range(self._question.as_of_day - since_day + 1):
                key = (*stratum, age)
                counts[key] = counts.get(key, 0) + n
        found = aggregates_by(
            self._connection,
            days,
            days.c.den != 0 if ratio else true(),
            [*_keys(days), days.c.age],
            {"num": self._value(days, "num"), "den": days.c.den},
            {metric: None if ratio else Filled(counts, {})},
        )
        by_day: dict[int, dict[Stratum, Aggregates]] = {}
        for (_, *stratum, age), one in found.items():
            by_day.setdefault(age, {})[Stratum(*stratum)] = one
        return dict(sorted(by_day.items()))

    def slopes(self, metric: str, days: int) -> dict[Stratum, Aggregates]:
        """Give aggregates over (num,) of each unit's own slope a day of a metric, over its first days.

        It is the least-squares slope of the unit's days on their number; only units of that many days count.
        """
        one = self._days(metric)
        centre, spread = (days - 1) / 2.0, days * (days * days - 1) / 12.0
        slope = func.sum(self._value(one, "num") * (one.c.age - centre)) / spread
        keys = _keys(one)

        def old(source: FromClause) -> ColumnElement[bool]:
            return source.c.since_day + days - 1 <= self._question.as_of_day

        of_unit = (
            select(*keys, one.c.unit_id, slope.label("num"))
            .where(one.c.age < days, old(one))
            .group_by(*keys, one.c.unit_id)
            .order_by(one.c.unit_id)
            .subquery()
        )
        filled = Filled(self._unit_counts(old(self._units)), {})
        return self._of_one(metric, of_unit, true(), {"num": of_unit.c.num}, filled)

    def _days(self, metric: str) -> Table:
        """Gather a metric's days since first exposure, in one order, as a temporary table."""
        if metric not in self._ages:
            days = _table(self._connection, f"unit_ages_{len(self._ages)}", _AGE_KEY, _AGE_COLUMNS)
            self._fill(days, _ages(self._question, metric, self._units))
            self._ages[metric] = days
        return self._ages[metric]

    def each(self, metric: str, arms: Sequence[str]) -> tuple[list[str], list[Place], Array]:
        """Give each unit of some arms: its id, its stratum, and its values over `parts_of` a metric.

        These are single units, not aggregates: for checks that split the same units again and again.
        """
        u, r, one = self._units, self._rows, self._metrics[metric]
        parts = parts_of(one)
        values = [func.coalesce(self._value(r, part), 0.0) for part in parts]
        same = (*(r.c[name] == u.c[name] for name in ("arm", "generation", "phase", "unit_id")),)
        query = (
            select(u.c.unit_id, u.c.generation, u.c.phase, *values)
            .select_from(u.outerjoin(r, and_(r.c.metric == metric, *same)))
            .where(u.c.arm.in_(arms), self._old(u, one))
            .order_by(u.c.unit_id, u.c.arm)
        )
        if "den" in parts:
            query = query.where(r.c.den != 0)
        rows = self._connection.execute(query).all()
        found = np.array([row[3:] for row in rows], dtype=np.float64).reshape(len(rows), len(parts))
        return [row[0] for row in rows], [(row[1], row[2]) for row in rows], found

    def pairs(self, metric: str, arm: str, control: str) -> Aggregates:
        """Give a metric's aggregates over (num, den, control_num, control_den) of the units that met both.

        Of ratios only units with a denominator in either arm count.
        """
        a, c = self._units.alias("a"), self._units.alias("c")
        done = {"": (a, self._rows.alias("done")), "control_": (c, self._rows.alias("control_done"))}
        both: FromClause = a.join(c, a.c.unit_id == c.c.unit_id)
        for unit, rows in done.values():
            same = (rows.c.unit_id == unit.c.unit_id, rows.c.arm == unit.c.arm, rows.c.metric == metric)
            both = both.outerjoin(rows, and_(*same))
        columns = {
            f"{prefix}{part}": func.coalesce(self._value(rows, part), 0.0)
            for prefix, (_, rows) in done.items()
            for part in ("num", "den")
        }
        old = (self._old(unit, self._metrics[metric]) for unit, _ in done.values())
        pair = (
            select(*(value.label(name) for name, value in columns.items()))
            .select_from(both)
            .where(a.c.arm == arm, c.c.arm == control, *old)
            .order_by(a.c.unit_id)
        )
        if self._metrics[metric].kind == "ratio":
            pair = pair.where(or_(columns["den"] != 0, columns["control_den"] != 0))
        met = pair.subquery()
        return aggregates_of(self._connection, met, {name: met.c[name] for name in columns})

    def _fill(self, table: Table, query: Select[Any]) -> str:
        compiled = query.compile(dialect=self._connection.dialect, compile_kwargs={"literal_binds": True})
        names = [column.name for column in table.c]
        self._connection.execute(insert(table).from_select(names, query))
        if self._connection.dialect.name == "postgresql":
            # It never counts temporary tables by itself, and would join units in quadratic time.
            self._connection.execute(text(f"ANALYZE {table.name}"))
        return str(compiled)

    def _cap(self, name: str) -> float | None:
        """Give the value at a metric's quantile of its values above 0, of all arms."""
        metric, r = self._metrics[name], self._rows.c
        if metric.kind != "mean" or metric.winsorise is None:
            return None
        mine = and_(r.metric == name, r.num > 0)
        n = self._connection.execute(select(func.count()).where(mine)).scalar_one()
        if not n:
            return None
        place = min(n - 1, int(metric.winsorise * n))
        found = select(r.num).where(mine).order_by(r.num).limit(1).offset(place)
        return float(self._connection.execute(found).scalar_one())

    def _aggregate(self, parts: tuple[str, ...]) -> dict[str, dict[Stratum, Aggregates]]:
        """Compute the aggregates of all metrics that are over the same columns."""
        if parts in self._found:
            return self._found[parts]
        mine = [name for name, one in self._metrics.items() if parts in (BEFORE, parts_of(one))]
        values = {part: self._value(self._rows, part) for part in parts}
        filled = {name: None if "den" in parts else Filled(self._old_counts(name), {}) for name in mine}
        where: ColumnElement[bool] = self._rows.c.metric.in_(mine)
        if "den" in parts:
            where = and_(where, self._rows.c.den != 0)
        found = aggregates_by(self._connection, self._rows, where, _keys(self._rows), values, filled)
        by_metric: dict[str, dict[Stratum, Aggregates]] = {name: {} for name in mine}
        for (name, *stratum), aggregates in found.items():
            by_metric[name][Stratum(*stratum)] = aggregates
        self._found[parts] = by_metric
        return by_metric

    def _of_old_units(self, totals: Select[Any]) -> Select[Any]:
        """Leave out what units did that are not old enough for a metric."""
        metric = totals.selected_columns[0]
        limited = [name for name, one in self._metrics.items() if _time(one) is not None]
        old = (or_(metric != name, self._old(self._units, self._metrics[name])) for name in limited)
        return totals.where(*old)

    def _old(self, source: FromClause, metric: Metric) -> ColumnElement[bool]:
        """Tell units of which a metric's time is over at the time asked for."""
        if metric.kind == "retention":
            return source.c.since_day + metric.day <= self._question.as_of_day
        window = window_of(metric)
        return true() if window is None else source.c.since + window <= self._question.as_of + 1

    def _old_counts(self, metric: str) -> dict[tuple[Any, ...], int]:
        time = _time(self._metrics[metric])
        if time not in self._old_units:
            self._old_units[time] = self._unit_counts(self._old(self._units, self._metrics[metric]))
        return self._old_units[time]

    def _unit_counts(
        self, condition: ColumnElement[bool], *more: ColumnElement[Any]
    ) -> dict[tuple[Any, ...], int]:
        """Count units by stratum, and by more keys."""
        u = self._units.c
        keys = (u.arm, u.generation, u.phase, *more)
        rows = self._connection.execute(select(*keys, func.count()).where(condition).group_by(*keys))
        return {tuple(row[:-1]): row[-1] for row in rows}

    def _of_one(
        self,
        metric: str,
        source: FromClause,
        where: ColumnElement[bool],
        values: Mapping[str, ColumnElement[float]],
        filled: Filled,
    ) -> dict[Stratum, Aggregates]:
        """Compute one metric's aggregates over some columns, by stratum."""
        found = aggregates_by(self._connection, source, where, _keys(source), values, {metric: filled})
        return {Stratum(*key[1:]): aggregates for key, aggregates in found.items()}

    def _value(self, source: FromClause, part: str) -> ColumnElement[float]:
        """Turn a unit's total into its value: capped, or 1 where something happened in a proportion."""
        column: ColumnElement[float] = source.c[part]
        if part not in ("num", BEFORE[0]):
            return column
        shares = [name for name, one in self._metrics.items() if one.kind in ("proportion", "retention")]
        of_share = (and_(source.c.metric.in_(shares), column > 0), 1.0), (source.c.metric.in_(shares), 0.0)
        capped = [
            (and_(source.c.metric == name, column > cap), cap)
            for name, cap in self._caps.items()
            if part == "num"
        ]
        cases = [*(of_share if shares else ()), *capped]
        return case(*cases, else_=column) if cases else column


_Time = tuple[str, int] | None


def _time(metric: Metric) -> _Time:
    """Name the time a unit needs to count in a metric; None where it needs none."""
    if metric.kind == "retention":
        return ("days", metric.day)
    window = window_of(metric)
    return None if window is None else ("window", window)


_STRATUM_FIRST = ("metric", "arm", "generation", "phase")
"""Rows lie by metric and stratum: SQLite then sums groups without sorting."""
_STRATUM_COLUMNS = {"unit_id": String, "arm": String, "generation": Integer, "phase": Integer}
_UNIT_COLUMNS = {**_STRATUM_COLUMNS, "since": BigInteger, "since_day": Integer}
_ROW_COLUMNS = {
    "metric": String,
    **_STRATUM_COLUMNS,
    **dict.fromkeys(("num", "den", *BEFORE, PAST), Float),
}


_AGE_KEY = (*_STRATUM_FIRST, "age", "unit_id")
_AGE_COLUMNS = {
    "metric": String,
    **_STRATUM_COLUMNS,
    "since_day": Integer,
    "age": Integer,
    **dict.fromkeys(("num", "den"), Float),
}


def _table(connection: Connection, name: str, key: Sequence[str], columns: Mapping[str, Any]) -> Table:
    """Make an empty temporary table; only SQLite needs the key, which is the order rows lie in."""
    keyed = connection.dialect.name == "sqlite"
    table = Table(
        name,
        MetaData(),
        *(Column(column, kind, nullable=False) for column, kind in columns.items()),
        *([PrimaryKeyConstraint(*key)] if keyed else []),
        prefixes=["TEMPORARY"],
        sqlite_with_rowid=not keyed,
    )
    connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    table.create(connection)
    return table


def _keys(rows: FromClause) -> list[ColumnElement[Any]]:
    return [rows.c[name] for name in _STRATUM_FIRST]


def exposures_of(question: Question) -> Subquery:
    """Select the exposures up to the time asked for, with the units they count for."""
    e = exposures.c
    return (
        select(unit_of(exposures).label("unit_id"), e.arm, e.forced, e.generation, e.phase, e.ts, e.day)
        .where(e.run == question.run, e.experiment == question.experiment, e.ts <= question.as_of)
        .subquery()
    )


def _units(question: Question) -> Select[Any]:
    """Select the units that count, by arm, with strata and time of their first exposure."""
    e = exposures_of(question).c
    met = (
        select(
            e.unit_id,
            e.arm,
            func.max(cast(e.forced, Integer)).label("forced"),
            # Phases and generations only ever rise, so the least is that of the first exposure.
            func.min(e.generation).label("generation"),
            func.min(e.phase).label("phase"),
            func.min(e.ts).label("since"),
            func.min(e.day).label("since_day"),
        )
        .group_by(e.unit_id, e.arm)
        .cte("met")
    )
    m = met.c
    placed = select(
        m.unit_id,
        m.arm,
        func.count().over(partition_by=m.unit_id).label("arms"),
        func.max(m.forced).over(partition_by=m.unit_id).label("forced"),
        func.min(m.generation).over(partition_by=m.unit_id).label("generation"),
        func.min(m.phase).over(partition_by=m.unit_id).label("phase"),
        m.since,
        m.since_day,
    ).cte("placed")
    p = placed.c
    found = select(p.unit_id, p.arm, p.generation, p.phase, p.since, p.since_day).where(p.forced == 0)
    return found if question.paired else found.where(p.arms == 1)


def _totals(question: Question, units: Table, *, ordered: bool) -> Select[Any]:
    """Select what the units that count did after and before their first exposure, by metric.

    Days are added in their order: `ordered` where the database does not read by key of its own accord.
    """
    d, u = unit_days.c, units.c
    mine = (d.run == question.run, d.experiment == question.experiment, d.day <= question.as_of_day)
    days: FromClause = unit_days
    if ordered:
        key = (d.unit_id, d.arm, d.metric, d.day, d.side)
        days = select(*key, d.num, d.den).where(*mine).order_by(*key).subquery("in_order")
    o = days.c
    grouped = (
        select(
            o.unit_id,
            o.arm,
            o.metric,
            *(
                func.coalesce(func.sum(o[part]).filter(o.side == side), 0.0).label(f"{prefix}{part}")
                for prefix, side in (("", "post"), ("pre_", "pre"))
                for part in ("num", "den")
            ),
            cast(func.max(case((o.side == "pre", 1), else_=0)), Float).label(PAST),
        )
        .group_by(o.unit_id, o.arm, o.metric)
        .where(*(() if ordered else mine))
    )
    sums = grouped.subquery("sums")
    s = sums.c
    found = select(
        s.metric,
        s.unit_id,
        s.arm,
        u.generation,
        u.phase,
        *(s[part] for part in ("num", "den", *BEFORE, PAST)),
    )
    found = found.join_from(sums, units, and_(u.unit_id == s.unit_id, u.arm == s.arm))
    return found if ordered else found.order_by(s.metric, s.arm, u.generation, u.phase, s.unit_id)


def _ages(question: Question, metric: str, units: Table) -> Select[Any]:
    """Select what the units that count did on each day since their first exposure."""
    d, u = unit_days.c, units.c
    strata = (u.unit_id, u.arm, u.generation, u.phase, u.since_day)
    return (
        select(d.metric, *strata, (d.day - u.since_day).label("age"), d.num, d.den)
        .join_from(units, unit_days, and_(d.unit_id == u.unit_id, d.arm == u.arm))
        .where(d.run == question.run, d.experiment == question.experiment, d.metric == metric)
        .where(d.side == "post", d.day <= question.as_of_day)
        .order_by(u.unit_id, d.day)
    )
