"""Means and centred second moments of columns, computed in the database in two passes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Float, FromClause, func, literal_column, select

from armlift.stats.aggregates import Aggregates
from armlift.store.sums import OrderedSum


def aggregates_of(
    connection: Connection,
    source: FromClause,
    keys: Sequence[ColumnElement[Any]],
    values: Mapping[str, ColumnElement[float]],
    order: ColumnElement[Any],
) -> dict[tuple[Any, ...], Aggregates]:
    """Compute n, means, and centred second moments of some columns of a source, grouped by keys.

    Sums are taken in the order of a column of the source, so that they are the same in every database.
    """
    names = tuple(values)
    sums = ((OrderedSum(values[name], order) / func.count()).label(name) for name in names)
    means = select(*keys, func.count().label("n"), *sums)
    first: dict[tuple[Any, ...], tuple[int, Sequence[float]]] = {
        tuple(row[: len(keys)]): (row[len(keys)], row[len(keys) + 1 :])
        for row in connection.execute(means.select_from(source).group_by(*keys))
        if row[len(keys)]
    }
    found = {}
    for key, (n, centre) in first.items():
        centred = {
            name: values[name] - literal_column(repr(float(mean)), Float)
            for name, mean in zip(names, centre, strict=True)
        }
        pairs = list(_pairs(names))
        moments = select(*(OrderedSum(centred[a] * centred[b], order) for a, b in pairs)).select_from(source)
        where = [column == value for column, value in zip(keys, key, strict=True)]
        row = connection.execute(moments.where(*where)).one()
        found[key] = Aggregates(names, n, np.array(centre, dtype=np.float64), _matrix(names, pairs, row))
    return found


def _pairs(names: Sequence[str]) -> Iterable[tuple[str, str]]:
    return ((a, b) for i, a in enumerate(names) for b in names[i:])


def _matrix(
    names: Sequence[str], pairs: Sequence[tuple[str, str]], row: Iterable[float]
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    matrix = np.zeros((len(names), len(names)), dtype=np.float64)
    for (a, b), value in zip(pairs, row, strict=True):
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = value
    return matrix
