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

    `units` counts all units by stratum, with rows or without.
    """

    units: Mapping[Key, int]
    values: Mapping[str, float]


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
    rows = _sums(connection, source, where, keys, list(values.values()))
    groups = _groups(rows, names, filled)
    centres = {key: group.means for key, group in groups.items()}
    moments = _moments(connection, source, where, keys, list(values.values()), centres)
    found = {}
    for key, group in groups.items():
        matrix = moments.get(key, np.zeros((len(names), len(names))))
        away = group.idle_at - group.means
        found[key] = Aggregates(names, group.n, group.means, matrix + group.idle * np.outer(away, away))
    return found


class _Group(NamedTuple):
    """The units of a key: how many, their means, how many have no row, and the values these have."""

    n: int
    means: Array
    idle: int
    idle_at: Array


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
    rows: Mapping[Key, tuple[int, Array]], names: Sequence[str], filled: Mapping[Any, Filled | None]
) -> dict[Key, _Group]:
    """Add the units without a row to the sums of those that have one."""
    nothing = np.zeros(len(names))
    fills = {first: fill for first, fill in filled.items() if fill is not None}
    units = {(first, *stratum): n for first, fill in fills.items() for stratum, n in fill.units.items()}
    found = {}
    for key in sorted(rows.keys() | units.keys()):
        count, total = rows.get(key, (0, nothing))
        idle = units.get(key, count) - count
        fill = fills.get(key[0]) if key else None
        at = nothing if fill is None else np.array([fill.values.get(name, 0.0) for name in names])
        found[key] = _Group(count + idle, (total + idle * at) / (count + idle), idle, at)
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
