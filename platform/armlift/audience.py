"""Who takes part: a condition on a unit's attributes, parsed to a small tree.

    register_days >= 30 and user_active_degree in ["full_active", "high_active"] and not is_live_streamer

Python's parser reads the text, but nothing is ever evaluated: only the few forms below are taken over. A
comparison with a missing attribute, or of a text with a number, is false; `not` turns that into true.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from armlift.errors import InputError

Value = str | int | float | bool
Mask = npt.NDArray[np.bool_]
Column = Sequence[object] | npt.NDArray[Any]
Columns = Mapping[str, Column]
"""Attributes of n units, by name: sequences or arrays of length n."""

_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_COMPARE: dict[str, Callable[[Any, Any], object]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORMS = "comparisons of an attribute with a value, `in [..]`, an attribute alone, and, or, not"


@dataclass(frozen=True)
class Compare:
    """An attribute against one value."""

    attribute: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Within:
    """An attribute among values."""

    attribute: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Holds:
    """An attribute that is true, or a number other than 0, or a text that is not empty."""

    attribute: str


@dataclass(frozen=True)
class Not:
    """The contrary."""

    part: "Node"


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple["Node", ...]


Node = Compare | Within | Holds | Not | All | Some


@dataclass(frozen=True)
class Audience:
    """A parsed condition; `text` is what was written."""

    text: str
    node: Node

    def matches(self, attributes: Mapping[str, object] | None) -> bool:
        """Tell whether one unit's attributes meet the condition."""
        return _holds(self.node, attributes or {})

    def matches_many(self, attributes: Columns | None, n: int) -> Mask:
        """Tell it for n units given as columns of length n; equal to `matches` of each.

        Raises InputError for a column of another length.
        """
        for name, column in (attributes or {}).items():
            if len(column) != n:
                raise InputError(f"attribute {name!r} has {len(column)} values, must be {n}, one a unit")
        return _holds_many(self.node, attributes or {}, n)

    @property
    def attributes(self) -> frozenset[str]:
        """Name the attributes the condition looks at."""
        return frozenset(_names(self.node))


def parse_audience(text: str) -> Audience:
    """Parse a condition; raises InputError that shows the part that is not understood."""
    try:
        tree = ast.parse(text.replace("\n", " ").strip(), mode="eval")
        return Audience(text, _node(tree.body))
    except SyntaxError as error:
        raise InputError(f"audience {text!r} is not a condition ({error.msg}), must be {_FORMS}") from error
    except (RecursionError, MemoryError) as error:
        raise InputError(
            "audience is nested too deeply, must be a condition that a person can read"
        ) from error


def _node(tree: ast.expr) -> Node:
    match tree:
        case ast.BoolOp(op=ast.And(), values=values):
            return All(tuple(map(_node, values)))
        case ast.BoolOp(op=ast.Or(), values=values):
            return Some(tuple(map(_node, values)))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Not(_node(operand))
        case ast.Name(id=name):
            return Holds(name)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [left, *comparators]
            parts = tuple(_comparison(a, op, b) for a, op, b in zip(sides, ops, sides[1:], strict=False))
            return parts[0] if len(parts) == 1 else All(parts)
    raise InputError(f"audience: {ast.unparse(tree)!r} is not understood, must be {_FORMS}")


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Node:
    if isinstance(op, ast.In | ast.NotIn) and isinstance(left, ast.Name):
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise InputError(f"audience: {ast.unparse(right)!r} is not a list, must be like ['a', 'b']")
        within = Within(left.id, tuple(_value(part) for part in right.elts))
        return within if isinstance(op, ast.In) else Not(within)
    symbol = _OPERATORS.get(type(op))
    if symbol and isinstance(left, ast.Name):
        return Compare(left.id, symbol, _value(right))
    if symbol and isinstance(right, ast.Name):
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(symbol, symbol)
        return Compare(right.id, mirrored, _value(left))
    shown = ast.unparse(ast.Compare(left, [op], [right]))
    raise InputError(f"audience: {shown!r} is not understood, must be {_FORMS}")


def _value(tree: ast.expr) -> Value:
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        number = _value(tree.operand)
        if isinstance(number, int | float):
            return -number
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str | int | float | bool):
        return tree.value
    raise InputError(
        f"audience: {ast.unparse(tree)!r} is not a value, must be a text, a number, True or False"
    )


def _names(node: Node) -> set[str]:
    match node:
        case All(parts) | Some(parts):
            return set().union(*map(_names, parts))
        case Not(part):
            return _names(part)
        case _:
            return {node.attribute}


def _missing(value: object) -> bool:
    # NaN is the only value unequal to itself
    return value is None or value != value


def _compare(actual: object, symbol: str, value: Value) -> bool:
    kind = str if isinstance(value, str) else (int, float)  # truth values are numbers, as in Python
    return isinstance(actual, kind) and not _missing(actual) and bool(_COMPARE[symbol](actual, value))


def _test(node: Compare | Within | Holds, actual: object) -> bool:
    """Answer a leaf for one attribute value."""
    if isinstance(node, Compare):
        return _compare(actual, node.operator, node.value)
    if isinstance(node, Within):
        return any(_compare(actual, "==", value) for value in node.values)
    return not _missing(actual) and bool(actual)


def _holds(node: Node, attributes: Mapping[str, object]) -> bool:
    match node:
        case All(parts):
            return all(_holds(part, attributes) for part in parts)
        case Some(parts):
            return any(_holds(part, attributes) for part in parts)
        case Not(part):
            return not _holds(part, attributes)
        case _:
            return _test(node, attributes.get(node.attribute))


def _holds_many(node: Node, attributes: Columns, n: int) -> Mask:
    match node:
        case All(parts):
            masks = [_holds_many(part, attributes, n) for part in parts]
            return np.asarray(np.logical_and.reduce(masks), np.bool_)
        case Some(parts):
            masks = [_holds_many(part, attributes, n) for part in parts]
            return np.asarray(np.logical_or.reduce(masks), np.bool_)
        case Not(part):
            return ~_holds_many(part, attributes, n)
        case _:
            return _test_many(node, attributes.get(node.attribute), n)


def _test_many(node: Compare | Within | Holds, column: Column | None, n: int) -> Mask:
    if column is None:
        return np.zeros(n, dtype=np.bool_)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biufU":
        # Few distinct values stand in a column of attributes: each is tested once, by the scalar rule.
        values, inverse = np.unique(column, return_inverse=True)
        answers = np.fromiter((_test(node, value.item()) for value in values), np.bool_, len(values))
        return answers[inverse.reshape(-1)] if n else np.zeros(0, dtype=np.bool_)
    return np.fromiter((_test(node, value) for value in column), dtype=np.bool_, count=n)
