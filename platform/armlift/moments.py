"""Means and centred second moments of columns, computed in the database in two passes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    FromClause,
    and_,
    func,
    literal,
    select,
    true,
    union_all,
)

from armlift.stats.aggregates import Aggregates

Key = tuple[Any, ...]
Array = npt.NDArray[np.float64]


class Filled(NamedTuple):
    """How units without a row are counted: with the values given, 0 where none is.

    `units` counts all units by stratum and indicator, rows or not; the column `indicator`, if any, has the
    value that the last part of the key says.
    """

    units: Mapping[Key, int]
    values: Mapping[str, float]
    indicator: str | None = None


def aggregates_of(
    connection: Connection, source: FromClause, values: Mapping[str, ColumnElement[float]]
) -> Aggregates:
    """Compute n, means, and centred second moments of some columns over the rows of a source."""
    found = aggregates_by(connection, source, true(), [], values, {})
    return found.get((), Aggregates.empty(tuple(values)))


def aggregates_by(
    connection: Connection,
    source: FromClause,
    where: ColumnElement[bool],
    keys: Sequence[ColumnElement[Any]],
    values: Mapping[str, ColumnElement[float]],
    filled: Mapping[Any, Filled | None],
) -> dict[Key, Aggregates]:
    """Compute n, means, and centred second moments of some columns, grouped by keys.

    The first key says, by `filled`, how units without a row are counted, the others are their stratum; where
    it says None they are not. Sums are taken in the order in which rows lie in the source.
    """
    names = tuple(values)
    indicators = {one.indicator for one in filled.values() if one is not None} - {None}
    split = [values[name] for name in names if name in indicators]
    rows = _sums(connection, source, where, [*keys, *split], list(values.values()))
    groups = _groups(rows, names, len(keys), filled)
    centres = {key: group.means for key, group in groups.items()}
    moments = _moments(connection, source, where, keys, list(values.values()), centres)
    found = {}
    for key, group in groups.items():
        matrix = moments.get(key, np.zeros((len(names), len(names))))
        for count, point in group.idle:
            matrix = matrix + count * np.outer(point - group.means, point - group.means)
        found[key] = Aggregates(names, group.n, group.means, matrix)
    return found


class _Group(NamedTuple):
    """The units of a key: how many, their means, and the points at which those without a row lie."""

    n: int
    means: Array
    idle: Sequence[tuple[int, Array]]


def _sums(
    connection: Connection,
    source: FromClause,
    where: ColumnElement[bool],
    keys: Sequence[ColumnElement[Any]],
    values: Sequence[ColumnElement[float]],
) -> dict[Key, tuple[int, Array]]:
    """Count rows and add columns, by keys."""
    query = select(*keys, func.count(), *map(func.sum, values)).select_from(source).where(where)
    rows = connection.execute(query.group_by(*keys)).all()
    p = len(keys)
    return {tuple(row[:p]): (row[p], np.array(row[p + 1 :], dtype=np.float64)) for row in rows if row[p]}


def _groups(
    rows: Mapping[Key, tuple[int, Array]],
    names: Sequence[str],
    keys: int,
    filled: Mapping[Any, Filled | None],
) -> dict[Key, _Group]:
    counts: dict[Key, int] = {}
    totals: dict[Key, Array] = {}
    for key, (n, sums) in rows.items():
        counts[key[:keys]] = counts.get(key[:keys], 0) + n
        totals[key[:keys]] = totals.get(key[:keys], np.zeros(len(names))) + sums
    idle: dict[Key, list[tuple[int, Array]]] = {}
    for first, fill in filled.items():
        for unit_key, units in (fill.units if fill else {}).items():
            assert fill is not None
            *stratum, mark = unit_key
            key = (first, *stratum)
            split = (*key, mark) if fill.indicator else key
            merged = sum(n for (k, (n, _)) in rows.items() if k[: len(split)] == split)
            point = np.array(
                [mark if name == fill.indicator else fill.values.get(name, 0.0) for name in names]
            )
            if fill.indicator:
                idle.setdefault(key, []).append((units - merged, point))
            else:
                known = idle.setdefault(key, [(-merged, point)])
                known[0] = (known[0][0] + units, point)
    found = {}
    for key in sorted(counts.keys() | idle.keys()):
        points = [(n, point) for n, point in idle.get(key, []) if n]
        n = counts.get(key, 0) + sum(count for count, _ in points)
        total = totals.get(key, np.zeros(len(names))) + sum((c * x for c, x in points), np.zeros(len(names)))
        found[key] = _Group(n, total / n, points)
    return found


def _moments(
    connection: Connection,
    source: FromClause,
    where: ColumnElement[bool],
    keys: Sequence[ColumnElement[Any]],
    values: Sequence[ColumnElement[float]],
    centres: Mapping[Key, Array],
) -> dict[Key, Array]:
    """Add the products of columns' distances from their means, by keys."""
    if not centres:
        return {}
    labels = [f"k{i}" for i in range(len(keys))]
    listed = union_all(
        *(
            select(
                *(literal(part).label(label) for part, label in zip(key, labels, strict=True)),
                *(literal(float(mean), Float).label(f"c{i}") for i, mean in enumerate(means)),
            )
            for key, means in centres.items()
        )
    ).cte("centres")
    away = [value - listed.c[f"c{i}"] for i, value in enumerate(values)]
    pairs = list(_pairs(range(len(values))))
    same = [column == listed.c[label] for column, label in zip(keys, labels, strict=True)]
    query = (
        select(*keys, *(func.sum(away[i] * away[j]) for i, j in pairs))
        .select_from(source)
        .join(listed, and_(true(), *same))
        .where(where)
        .group_by(*keys)
    )
    found = {}
    for row in connection.execute(query):
        matrix = np.zeros((len(values), len(values)))
        for (i, j), value in zip(pairs, row[len(keys) :], strict=True):
            matrix[i, j] = matrix[j, i] = 0.0 if value is None else value
        found[tuple(row[: len(keys)])] = matrix
    return found


def _pairs(places: Sequence[int]) -> Iterable[tuple[int, int]]:
    return ((i, j) for i in places for j in places[i:])
