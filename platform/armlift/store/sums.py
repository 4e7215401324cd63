"""Sums of floating-point numbers that are the same, bit for bit, in every database."""

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class OrderedSum(FunctionElement[float]):
    """A sum (of values, by a key) that adds in the order of the key.

    SQLite reads rows in that order anyway, by index; PostgreSQL in the order in which they were written.
    """

    type = Float()
    inherit_cache = True


@compiles(OrderedSum)
def _sum(element: OrderedSum, compiler: SQLCompiler, **options: Any) -> str:
    values, _ = element.clauses
    return f"sum({compiler.process(values, **options)})"


@compiles(OrderedSum, "postgresql")
def _sum_in_order(element: OrderedSum, compiler: SQLCompiler, **options: Any) -> str:
    values, key = (compiler.process(clause, **options) for clause in element.clauses)
    return f"sum({values} ORDER BY {key})"
