"""Aggregates over units, computed in the database: only they leave it, but for a check that asks for `each`.

A temporary table holds the units that count. What they did, one row for each metric in which a unit did
anything, is added up as it is read; only what needs single rows (caps, quantiles, pairs, segments) has it in
a second table. Units that did nothing are added in closed form, so that the cost follows what happened. Days
are added in the order of the key of `unit_days`, and units in that of their ids: sums are the same, bit for
bit, in SQLite and PostgreSQL; Spark adds in an order of its own, and agrees to nine digits.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    Select,
    String,
    Subquery,
    Table,
    and_,
    case,
    cast,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)

from armlift.aliases import unit_of
from armlift.effects import BEFORE, PAST, ByPlace, Place, parts_of, past_of
from armlift.experiment import Exclusion
from armlift.metric import Metric, window_of
from armlift.moments import aggregates_by, aggregates_of, with_idle
from armlift.segments import Segment, value_of
from armlift.stats.aggregates import Aggregates, Array, merge, merge_all
from armlift.store.tables import exposures, unit_days
from armlift.store.ways import fill, make_table, way_of

_TOTALS = ("num", "den", *BEFORE, PAST)
"""What is known of a unit and a metric."""


class Stratum(NamedTuple):
    """An arm's units of one generation and phase of first exposure."""

    arm: str
    generation: int
    phase: int


def of_arm(strata: Mapping[Stratum, Aggregates], arm: str) -> ByPlace:
    """Give an arm's aggregates by generation and phase."""
    return {(stratum.generation, stratum.phase): one for stratum, one in strata.items() if stratum.arm == arm}


class Question(NamedTuple):
    """What is asked of a run: its units up to a time (UTC milliseconds) and a day, both included.

    `segments` are the attributes by which units may be told apart, `exclusions` the rules, by name, by which
    units are left out.
    """

    run: str
    experiment: str
    paired: bool
    as_of: int
    as_of_day: int
    segments: tuple[str, ...] = ()
    exclusions: Mapping[str, Exclusion] = MappingProxyType({})


class UnitTotals:
    """Each unit's totals of all metrics around its first exposure, in temporary tables of a connection.

    Forced units are left out, in runs that are not paired those that met several arms, and those that
    exclusions name; `left_out` counts them by reason. Of a metric with a window, or of retention, only units
    old enough count: before that, a unit's total is of less time than the others'. `sql` is what was asked,
    with its values.
    """

    def __init__(self, connection: Connection, question: Question, metrics: Mapping[str, Metric]) -> None:
        self._connection = connection
        self._question = question
        self._metrics = metrics
        self._way = way_of(connection)
        self._way.begin(connection)
        self._value_names = [_value_name(place) for place, _ in enumerate(question.segments)]
        columns = {**_UNIT_COLUMNS, **dict.fromkeys(self._value_names, String)}
        units = make_table(connection, "unit_strata", ("unit_id", "arm"), columns)
        of_units, rules = _units(question), [_excluded(question, name) for name in question.exclusions]
        fill(connection, units, of_units)
        self._units: FromClause = units
        self._assigned = self._unit_counts(true())
        self._excluded, self._excluded_by_rule = self._exclude(units, rules)
        self._way.keep_order(connection)
        self._made: FromClause | None = None
        self._caps: dict[str, float] = {}
        self._ages: dict[str, Table] = {}
        self._old_units: dict[_Time, dict[tuple[Any, ...], int]] = {}
        self._found: dict[bool, dict[tuple[Any, ...], Aggregates]] = {}
        asked = (of_units, *rules, self._totals(list(metrics)))
        self.sql = ";\n".join(_literally(connection, query) for query in asked)
        if question.segments or any(needs_rows(metric) for metric in metrics.values()):
            self._make_rows()
        self._caps = {name: cap for name in metrics if (cap := self._cap(name)) is not None}

    def segments(self) -> list[Segment]:
        """List the segments that have units, by attribute and value."""
        found = []
        for attribute, name in zip(self._question.segments, self._value_names, strict=True):
            values = self._connection.scalars(select(self._units.c[name]).distinct())
            found += [Segment(attribute, one) for one in sorted(values)]
        return found

    def within(self, segment: Segment) -> "UnitTotals":
        """Give the totals of a segment's units; they are capped where those of all units are."""
        value = self._value_names[self._question.segments.index(segment.attribute)]
        mine = copy(self)
        mine._units = select(self._units).where(self._units.c[value] == segment.value).subquery()
        rows = self._rows
        mine._made = select(rows).where(rows.c[value] == segment.value).subquery()
        mine._ages, mine._old_units, mine._found = {}, {}, {}
        return mine

    def counts(self) -> dict[Stratum, int]:
        """Count the units of each stratum."""
        return {Stratum(*key): n for key, n in sorted(self._unit_counts(true()).items())}

    def assigned(self) -> dict[Stratum, int]:
        """Count the units of each stratum, with those that exclusions leave out."""
        return {Stratum(*key): n for key, n in sorted(self._assigned.items())}

    def excluded(self) -> dict[str, int]:
        """Count the units of each arm that exclusions leave out."""
        return self._excluded

    def skewness(self, metric: str) -> dict[str, tuple[int, float]]:
        """Give each arm's units and the skewness of their values: E (x - m)^3 / s^3, 0 where all are alike.

        Of a ratio it is that of what remains of its numerator after R times its denominator, R being the
        ratio over all arms; there units with a denominator count.
        """
        ratio = self._metrics[metric].kind == "ratio"
        columns = ("num", "den") if ratio else ("num",)
        rows, where = self._read([metric], columns)
        value = self._value(rows, "num")
        if ratio:
            whole = merge_all([Aggregates.empty(columns), *self._of_carriers(metric, columns).values()])
            value = value - (whole.means.item(0) / (whole.means.item(1) or 1.0)) * rows.c.den
            where = and_(where, rows.c.den != 0)
        values = {"value": value, "square": value * value}
        found = aggregates_by(self._connection, rows, where, [rows.c.arm], values)
        if not ratio:
            units: dict[tuple[Any, ...], int] = {}
            for (arm, *_), n in self._old_counts(metric).items():
                units[arm,] = units.get((arm,), 0) + n
            found = with_idle(found, units, tuple(values))
        return {key[0]: (one.n, _skewness(one)) for key, one in found.items()}

    def arrivals(self) -> dict[int, int]:
        """Count new units by the day of their first exposure, whichever arm they met."""
        u = self._units.c
        first = select(func.min(u.since_day).label("day")).group_by(u.unit_id).subquery()
        rows = self._connection.execute(select(first.c.day, func.count()).group_by(first.c.day))
        return {row[0]: row[1] for row in sorted(rows)}

    def arrivals_by_arm(self) -> dict[tuple[str, int], int]:
        """Count each arm's new units by the day they first met it."""
        u = self._units.c
        rows = self._connection.execute(
            select(u.arm, u.since_day, func.count()).group_by(u.arm, u.since_day).order_by(u.arm, u.since_day)
        )
        return {(arm, day): units for arm, day, units in rows}

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
        found = {"forced": row[0]}
        if not self._question.paired:
            found["several_arms"] = row[1]
        return found | {f"excluded_{rule}": n for rule, n in self._excluded_by_rule.items()}

    def _exclude(self, units: Table, rules: Sequence[Select[Any]]) -> tuple[dict[str, int], dict[str, int]]:
        """Leave out the units that the rules of exclusions name; gives how many of each arm, and by rule."""
        if not rules:
            return {}, {}
        named = make_table(
            self._connection, "unit_exclusions", ("rule", "unit_id"), {"rule": String, "unit_id": String}
        )
        for rule in rules:
            fill(self._connection, named, rule)
        u, n = units.c, named.c
        by_rule = select(n.rule, func.count(u.unit_id.distinct())).where(n.unit_id == u.unit_id)
        counts: dict[str, int] = dict(self._connection.execute(by_rule.group_by(n.rule)).all())
        named_by_rule = {name: counts.get(name, 0) for name in self._question.exclusions}
        mine = u.unit_id.in_(select(n.unit_id))
        by_arm = select(u.arm, func.count()).where(mine).group_by(u.arm).order_by(u.arm)
        excluded: dict[str, int] = dict(self._connection.execute(by_arm).all())
        self._connection.execute(delete(units).where(mine))
        return excluded, named_by_rule

    def by_stratum(self, metric: str) -> dict[Stratum, Aggregates]:
        """Give a metric's aggregates over `parts_of` it, by stratum.

        Of ratios only units with a denominator count: the others do not move the ratio, and would make its
        degrees of freedom look like more than they are.
        """
        one = self._metrics[metric]
        if one.kind == "ratio":
            return self._of_carriers(metric, parts_of(one))
        return self._all_units(metric, parts_of(one))

    def before(self, metric: str) -> dict[Stratum, Aggregates]:
        """Give the aggregates of what units did before their first exposure, over `past_of`, by stratum."""
        return self._all_units(metric, past_of(self._metrics[metric]))

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
        idle = {"below": float(value >= 0), "values": 1.0}
        return self._of_one(self._rows, r.metric == metric, values, self._old_counts(metric), idle)

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
        values = {"num": self._value(days, "num"), "den": days.c.den}
        where = days.c.den != 0 if ratio else true()
        found = aggregates_by(self._connection, days, where, [*_stratum(days), days.c.age], values)
        if not ratio:
            found = with_idle(found, counts, tuple(values))
        by_day: dict[int, dict[Stratum, Aggregates]] = {}
        for (*stratum, age), one in found.items():
            by_day.setdefault(age, {})[Stratum(*stratum)] = one
        return dict(sorted(by_day.items()))

    def slopes(self, metric: str, days: int) -> dict[Stratum, Aggregates]:
        """Give aggregates over (num,) of each unit's own slope a day of a metric, over its first days.

        It is the least-squares slope of the unit's days on their number; only units of that many days count.
        """
        one = self._days(metric)
        centre, spread = (days - 1) / 2.0, days * (days * days - 1) / 12.0
        slope = func.sum(self._value(one, "num") * (one.c.age - centre)) / spread
        keys = _stratum(one)

        def old(source: FromClause) -> ColumnElement[bool]:
            return source.c.since_day + days - 1 <= self._question.as_of_day

        of_unit = (
            select(*keys, one.c.unit_id, slope.label("num"))
            .where(one.c.age < days, old(one))
            .group_by(*keys, one.c.unit_id)
            .order_by(one.c.unit_id)
            .subquery()
        )
        units = self._unit_counts(old(self._units))
        return self._of_one(of_unit, true(), {"num": of_unit.c.num}, units)

    def _days(self, metric: str) -> Table:
        """Gather a metric's days since first exposure, in one order, as a temporary table."""
        if metric not in self._ages:
            days = make_table(self._connection, f"unit_ages_{len(self._ages)}", _AGE_KEY, _AGE_COLUMNS)
            fill(self._connection, days, _ages(self._question, metric, self._units))
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
            # By the whole key: by a part of it SQLite would walk through all of an arm's units for each.
            same = (rows.c[name] == unit.c[name] for name in _STRATUM_COLUMNS)
            both = both.outerjoin(rows, and_(rows.c.metric == metric, *same))
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

    @property
    def _rows(self) -> FromClause:
        return self._make_rows() if self._made is None else self._made

    def _read(self, metrics: Sequence[str], columns: Sequence[str]) -> tuple[FromClause, ColumnElement[bool]]:
        """Give what the totals of some metrics are read from, and which of its rows are theirs."""
        if self._made is None:
            return self._totals(metrics, columns).subquery("totals"), true()
        return self._made, self._made.c.metric.in_(metrics)

    def _make_rows(self) -> FromClause:
        """Write the totals into a table, for what needs single rows or many passes."""
        columns = {
            **_ROW_COLUMNS,
            **dict.fromkeys(_TOTALS, Float),
            **dict.fromkeys(self._value_names, String),
        }
        made = make_table(self._connection, "unit_totals", (*_STRATUM_FIRST, "unit_id"), columns)
        query = self._totals(list(self._metrics))
        if self._way.keyed:
            query = query.order_by(*(query.selected_columns[name] for name in (*_STRATUM_FIRST, "unit_id")))
        fill(self._connection, made, query)
        self._made = made
        return made

    def _totals(self, metrics: Sequence[str], columns: Sequence[str] = _TOTALS) -> Select[Any]:
        """Select what the units that are old enough did after and before their first exposure, by metric.

        Days are added in their order, and units come in that of their ids.
        """
        d, units = unit_days.c, self._units
        mine = [
            d.run == self._question.run,
            d.experiment == self._question.experiment,
            d.day <= self._question.as_of_day,
        ]
        if len(metrics) < len(self._metrics):
            mine.append(d.metric.in_(metrics))
        metric: ColumnElement[str] = d.metric
        if self._way.keyed:
            # From the units, so that they and their days are read by key, and groups need no sorting.
            sums: list[ColumnElement[float]] = _sums(unit_days, columns)
            same = (d.unit_id == units.c.unit_id, d.arm == units.c.arm)
            rows = units.outerjoin(unit_days, and_(*same, *mine))
        else:
            key = (d.unit_id, d.arm, d.metric, d.day, d.side)
            asked = select(*key, d.num, d.den).where(*mine)
            days = (asked.order_by(*key) if self._way.sorts else asked).subquery("in_order")
            of_unit = (days.c.unit_id, days.c.arm, days.c.metric)
            done = select(*of_unit, *_sums(days, columns)).group_by(*of_unit).subquery("sums")
            metric = done.c.metric
            sums = [done.c[name] for name in columns]
            rows = done.join(units, and_(units.c.unit_id == done.c.unit_id, units.c.arm == done.c.arm))
        named = ("unit_id", "arm", "generation", "phase")
        found = select(
            metric,
            *(units.c[name] for name in named),
            *sums,
            *(units.c[name] for name in self._value_names),
        ).select_from(rows)
        if self._way.keyed:
            found = found.group_by(units.c.unit_id, units.c.arm, metric).having(func.count(d.day) > 0)
        limited = [name for name in metrics if _time(self._metrics[name]) is not None]
        return found.where(*(or_(metric != name, self._old(units, self._metrics[name])) for name in limited))

    def _cap(self, name: str) -> float | None:
        """Give the value at a metric's quantile of its values above 0, of all arms."""
        metric = self._metrics[name]
        if metric.kind != "mean" or metric.winsorise is None:
            return None
        r = self._rows.c
        mine = and_(r.metric == name, r.num > 0)
        n = self._connection.execute(select(func.count()).where(mine)).scalar_one()
        if not n:
            return None
        place = min(n - 1, int(metric.winsorise * n))
        found = select(r.num).where(mine).order_by(r.num).limit(1).offset(place)
        return float(self._connection.execute(found).scalar_one())

    def _all_units(self, metric: str, parts: tuple[str, ...]) -> dict[Stratum, Aggregates]:
        """Give a metric's aggregates over some columns, of all units that are old enough, by stratum."""
        found: dict[tuple[Any, ...], Aggregates] = {}
        for key, aggregates in self._aggregates(ratios=self._metrics[metric].kind == "ratio").items():
            if key[0] == metric:
                stratum, one = key[1:4], aggregates.over(parts)
                found[stratum] = merge(found[stratum], one) if stratum in found else one
        whole = with_idle(found, self._old_counts(metric), parts)
        return {Stratum(*stratum): one for stratum, one in whole.items()}

    def _of_carriers(self, metric: str, parts: tuple[str, ...]) -> dict[Stratum, Aggregates]:
        """Give a ratio's aggregates over some columns, of the units that have a denominator, by stratum."""
        return {
            Stratum(*key[1:-1]): one.over(parts)
            for key, one in self._aggregates(ratios=True).items()
            if key[0] == metric and key[-1]
        }

    def _aggregates(self, *, ratios: bool) -> dict[tuple[Any, ...], Aggregates]:
        """Compute the aggregates of all ratios, or all others, by metric and stratum.

        They are of units that did anything; those of ratios by whether they have a denominator, too.
        """
        if ratios not in self._found:
            mine = [name for name, one in self._metrics.items() if (one.kind == "ratio") == ratios]
            columns = _TOTALS if ratios else ("num", BEFORE[0], PAST)
            rows, where = self._read(mine, columns)
            keys = [rows.c.metric, *_stratum(rows)]
            if ratios:
                carrying: ColumnElement[int] = literal_column("CASE WHEN den <> 0 THEN 1 ELSE 0 END")
                keys.append(carrying)
            values = {part: self._value(rows, part) for part in columns}
            self._found[ratios] = aggregates_by(self._connection, rows, where, keys, values)
        return self._found[ratios]

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
        source: FromClause,
        where: ColumnElement[bool],
        values: Mapping[str, ColumnElement[float]],
        units: Mapping[tuple[Any, ...], int],
        idle: Mapping[str, float] | None = None,
    ) -> dict[Stratum, Aggregates]:
        """Compute one metric's aggregates over some columns, by stratum; units without a row are `idle`."""
        found = aggregates_by(self._connection, source, where, _stratum(source), values)
        return {Stratum(*key): one for key, one in with_idle(found, units, tuple(values), idle).items()}

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


def needs_rows(metric: Metric) -> bool:
    """Tell whether a metric is read off single rows: capped at one of them, or a quantile of them."""
    return metric.kind == "quantile" or (metric.kind == "mean" and metric.winsorise is not None)


_STRATUM_FIRST = ("metric", "arm", "generation", "phase")
"""Rows lie by metric and stratum: SQLite then sums groups without sorting."""
_STRATUM_COLUMNS = {"unit_id": String, "arm": String, "generation": Integer, "phase": Integer}
_UNIT_COLUMNS = {**_STRATUM_COLUMNS, "since": BigInteger, "since_day": Integer}
_ROW_COLUMNS = {"metric": String, **_STRATUM_COLUMNS}

_AGE_KEY = (*_STRATUM_FIRST, "age", "unit_id")
_AGE_COLUMNS = {
    "metric": String,
    **_STRATUM_COLUMNS,
    "since_day": Integer,
    "age": Integer,
    **dict.fromkeys(("num", "den"), Float),
}


def _literally(connection: Connection, query: Select[Any]) -> str:
    """Write a query with its values."""
    return str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))


def _value_name(place: int) -> str:
    """Name the column that holds units' values of an attribute."""
    return f"segment_{place}"


def _stratum(rows: FromClause) -> list[ColumnElement[Any]]:
    return [rows.c.arm, rows.c.generation, rows.c.phase]


_SUMS = {"num": ("num", "post"), "den": ("den", "post"), BEFORE[0]: ("num", "pre"), BEFORE[1]: ("den", "pre")}


def _sums(days: FromClause, columns: Sequence[str]) -> list[ColumnElement[float]]:
    """Add up the days of a unit and metric into some of _TOTALS."""
    return [
        (
            cast(func.max(case((days.c.side == "pre", 1), else_=0)), Float)
            if name == PAST
            else func.coalesce(func.sum(days.c[_SUMS[name][0]]).filter(days.c.side == _SUMS[name][1]), 0.0)
        ).label(name)
        for name in columns
    ]


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
    values = (
        value_of(question.run, attribute, p.unit_id).label(_value_name(place))
        for place, attribute in enumerate(question.segments)
    )
    found = select(p.unit_id, p.arm, p.generation, p.phase, p.since, p.since_day, *values)
    found = found.where(p.forced == 0)
    return found if question.paired else found.where(p.arms == 1)


def _excluded(question: Question, name: str) -> Select[Any]:
    """Select the units that a rule leaves out, beside its name."""
    d, rule = unit_days.c, question.exclusions[name]
    found = (
        select(literal(name).label("rule"), d.unit_id)
        .where(d.run == question.run, d.experiment == question.experiment, d.metric == rule.metric)
        .where(d.side == "post", d.day <= question.as_of_day)
        .distinct()
    )
    if rule.per == "day":
        return found.where(d.num > rule.above)
    return found.group_by(d.unit_id, d.arm).having(func.sum(d.num) > rule.above)


def _skewness(one: Aggregates) -> float:
    """Give the skewness from the aggregates of values and their squares."""
    (mean, _), ((spread, third), _) = one.means.tolist(), one.moments.tolist()
    if spread <= 0:
        return 0.0
    return float((third - 2 * mean * spread) / one.n / (spread / one.n) ** 1.5)


def _ages(question: Question, metric: str, units: FromClause) -> Select[Any]:
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
