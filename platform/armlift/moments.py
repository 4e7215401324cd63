"""Means and centred second moments of columns, computed in the database.

One pass adds up the columns and their products. Where a mean is large against its spread, the difference of
such sums has lost digits: a second pass then adds the products of distances from the means, now known.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
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

from armlift.stats.aggregates import Aggregates, merge

Key = tuple[Any, ...]
Array = npt.NDArray[np.float64]

MOST_LOST = 100.0
"""The square of a mean, against the variance, up to which one pass is enough: it costs two digits of 16."""
_WHOLE = 2.0**53
"""Whole numbers below it are exact."""


class _Sums(NamedTuple):
    """Rows, sums of the columns [p], and of their products [p, p]."""

    n: int
    totals: Array
    products: Array


def aggregates_of(
    connection: Connection, source: FromClause, values: Mapping[str, ColumnElement[float]]
) -> Aggregates:
    """Compute n, means, and centred second moments of some columns over the rows of a source."""
    found = aggregates_by(connection, source, true(), [], values)
    return found.get((), Aggregates.empty(tuple(values)))


def aggregates_by(
    connection: Connection,
    source: FromClause,
    where: ColumnElement[bool],
    keys: Sequence[ColumnElement[Any]],
    values: Mapping[str, ColumnElement[float]],
) -> dict[Key, Aggregates]:
    """Compute n, means, and centred second moments of some columns, grouped by keys.

    Sums are taken in the order in which rows lie in the source.
    """
    names, columns = tuple(values), list(values.values())
    found, lost = {}, {}
    for key, sums in sorted(_sums(connection, source, where, keys, columns, {}).items()):
        found[key] = one = _centred(names, sums)
        if _digits_lost(one, sums):
            lost[key] = one.means
    if lost:
        for key, sums in _sums(connection, source, where, keys, columns, lost).items():
            found[key] = Aggregates(names, sums.n, lost[key], sums.products)
    return found


def with_idle(
    found: Mapping[Key, Aggregates],
    units: Mapping[Key, int],
    names: Sequence[str],
    values: Mapping[str, float] | None = None,
) -> dict[Key, Aggregates]:
    """Add the units that have no row: those that `units` counts beyond the rows found, by key.

    Each has the values given, 0 where none is.
    """
    at = np.array([(values or {}).get(name, 0.0) for name in names])
    nothing = np.zeros((len(names), len(names)))
    all_units = {}
    for key in sorted(found.keys() | units.keys()):
        one = found.get(key, Aggregates.empty(tuple(names)))
        idle = units.get(key, one.n) - one.n
        all_units[key] = merge(one, Aggregates(one.names, idle, at, nothing))
    return all_units


def _sums(
    connection: Connection,
    source: FromClause,
    where: ColumnElement[bool],
    keys: Sequence[ColumnElement[Any]],
    values: Sequence[ColumnElement[float]],
    centres: Mapping[Key, Array],
) -> dict[Key, _Sums]:
    """Add up columns and their products, by keys; with centres only of their keys, and around them."""
    rows: FromClause = source
    columns = list(values)
    if centres:
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
        same = [column == listed.c[label] for column, label in zip(keys, labels, strict=True)]
        rows = source.join(listed, and_(true(), *same))
        columns = [value - listed.c[f"c{i}"] for i, value in enumerate(values)]
    pairs = list(_pairs(range(len(columns))))
    query = select(
        *keys, func.count(), *map(func.sum, columns), *(func.sum(columns[i] * columns[j]) for i, j in pairs)
    )
    found = {}
    p, q = len(keys), len(columns)
    for row in connection.execute(query.select_from(rows).where(where).group_by(*keys)):
        if row[p]:
            products = np.zeros((q, q))
            for (i, j), value in zip(pairs, row[p + 1 + q :], strict=True):
                products[i, j] = products[j, i] = value
            totals = np.array(row[p + 1 : p + 1 + q], dtype=np.float64)
            found[tuple(row[:p])] = _Sums(row[p], totals, products)
    return found


def _centred(names: tuple[str, ...], sums: _Sums) -> Aggregates:
    """Turn sums of products into those of distances from the means, without rounding on the way."""
    n = sums.n
    totals = [Fraction(total) for total in sums.totals.tolist()]
    moments = np.zeros_like(sums.products)
    for i, j in _pairs(range(len(names))):
        exact = Fraction(sums.products.item(i, j)) - totals[i] * totals[j] / n
        moments[i, j] = moments[j, i] = float(exact)
    constant = np.diag(moments) == 0
    moments[constant] = 0.0
    moments[:, constant] = 0.0
    return Aggregates(names, n, sums.totals / n, moments)


def _digits_lost(one: Aggregates, sums: _Sums) -> bool:
    """Tell whether a mean is too large for one pass; not where all that was added is whole, hence exact."""
    squares = np.diag(sums.products)
    whole = (squares < _WHOLE) & (squares == np.floor(squares)) & (sums.totals == np.floor(sums.totals))
    return bool(np.any(~whole & (one.n * one.means**2 > MOST_LOST * np.diag(one.moments))))


def _pairs(places: Sequence[int]) -> Iterable[tuple[int, int]]:
    return ((i, j) for at, i in enumerate(places) for j in places[at:])
