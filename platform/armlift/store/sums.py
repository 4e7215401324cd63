"""Sums of floating-point numbers that are the same, bit for bit, in every database."""

from typing import Any

from sqlalchemy import CompoundSelect, Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class OrderedSum(FunctionElement[float]):
    """A sum (of values, by a key) that adds in the order of the key.

    PostgreSQL is told to. SQLite adds rows as it reads them: they must come in order, by an index or
    `sorted_by` the key, and be `Scanned` in joins.
    """

    type = Float()
    inherit_cache = True


class Scanned(FunctionElement[Any]):
    """A column of the rows that are added up, in a join: SQLite is to scan them, in order.

    It would make an index of them otherwise, and read them in the order of whatever else stands in it.
    """

    inherit_cache = True


@compiles(Scanned)
def _column(element: Scanned, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(Scanned, "sqlite")
def _no_key(element: Scanned, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


def sorted_by(key: str, rows: CompoundSelect[Any]) -> CompoundSelect[Any]:
    """Have SQLite sort rows that are added up; without a limit it would take their order for needless."""
    return rows.order_by(rows.selected_columns[key]).limit(-1)


@compiles(OrderedSum)
def _sum(element: OrderedSum, compiler: SQLCompiler, **options: Any) -> str:
    values, _ = element.clauses
    return f"sum({compiler.process(values, **options)})"


@compiles(OrderedSum, "postgresql")
def _sum_in_order(element: OrderedSum, compiler: SQLCompiler, **options: Any) -> str:
    values, key = (compiler.process(clause, **options) for clause in element.clauses)
    return f"sum({values} ORDER BY {key})"
