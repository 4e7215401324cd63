from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.audience import All, Compare, Holds, Node, Not, Some, Within, parse_audience
from armlift.errors import InputError

NAN = float("nan")

FORMS: list[tuple[str, Node]] = [
    ("days == 3", Compare("days", "==", 3)),
    ("days != 3", Compare("days", "!=", 3)),
    ("days < 3", Compare("days", "<", 3)),
    ("days <= 3.5", Compare("days", "<=", 3.5)),
    ("days > -3", Compare("days", ">", -3)),
    ("  days >= 3\n", Compare("days", ">=", 3)),
    ("degree == 'full'", Compare("degree", "==", "full")),
    ("lives == True", Compare("lives", "==", True)),
    ("3 < days", Compare("days", ">", 3)),
    ("3 >= days", Compare("days", "<=", 3)),
    ("3 == days", Compare("days", "==", 3)),
    ("18 <= age < 65", All((Compare("age", ">=", 18), Compare("age", "<", 65)))),
    ("degree in ['a', 'b']", Within("degree", ("a", "b"))),
    ("days in (1, -2)", Within("days", (1, -2))),
    ("days in {1}", Within("days", (1,))),
    ("days in []", Within("days", ())),
    ("days not in [1]", Not(Within("days", (1,)))),
    ("lives", Holds("lives")),
    ("not lives", Not(Holds("lives"))),
    ("a and b and c", All((Holds("a"), Holds("b"), Holds("c")))),
    ("a or b and not c", Some((Holds("a"), All((Holds("b"), Not(Holds("c"))))))),
    ("(a or b) and c", All((Some((Holds("a"), Holds("b"))), Holds("c")))),
]

REFUSED = [
    "open('x')",
    "f(days) > 3",
    "days > f()",
    "__import__('os').system('x')",
    "user.days > 3",
    "days.real",
    "user['days'] > 3",
    "days + 1 > 3",
    "days > 1 + 2",
    "-days",
    "lambda: 1",
    "lambda days: days > 3",
    "a if b else c",
    "[a]",
    "[a for a in b]",
    "{'a': 1}",
    "days in {1: 2}",
    "days in range(3)",
    "days in others",
    "days in [1, *others]",
    "days == other",
    "days == [1]",
    "days == None",
    "days == 1j",
    "days == b'x'",
    "days == f'{x}'",
    "days == ...",
    "days == -'x'",
    "days is True",
    "'a' in degree",
    "1 < 2",
    "True",
    "None",
    "3",
    "'text'",
    "(days := 3)",
    "await days",
    "f'{days}'",
    "days = 3",
    "days; lives",
    "import os",
    "days >",
    "days > 3 &",
    "days & 3",
    "~days",
    "@days",
    "",
    "   ",
    "days\x00",
    "(" * 300 + "days" + ")" * 300,
]

NAMES = st.sampled_from(["a", "b", "c", "absent"])
VALUES = st.sampled_from([-1, 0, 1, 2, 0.5, 2.5, True, False, "", "x", "y"])
CELLS = st.sampled_from([-1, 0, 1, 2, 0.5, NAN, True, False, "", "x", "z", None])
JOINS = st.sampled_from(["and", "or"])
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def conditions(values: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    leaves = st.one_of(
        names,
        st.builds("{} {} {!r}".format, names, OPERATORS, values),
        st.builds("{1!r} {2} {0}".format, names, values, OPERATORS),
        st.builds("{} in {!r}".format, names, st.lists(values, max_size=3)),
        st.builds("{} not in {!r}".format, names, st.lists(values, max_size=3)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds("not ({})".format, inner), st.builds("({}) {} ({})".format, inner, JOINS, inner)
        ),
        max_leaves=5,
    )


ARRAYS: dict[str, npt.NDArray[Any]] = {
    "floats with gaps": np.array([1.0, NAN, 2.0, 0.0, NAN, 0.5, -1.0]),
    "float32": np.array([1, NAN, 2, 0, 0.5, -1, 2.5], np.float32),
    "integers": np.array([1, 0, 2, -1, 2, 2, 1]),
    "unsigned": np.array([1, 0, 2, 5, 2, 2, 1], np.uint64),
    "truths": np.array([True, False, True, True, False, False, True]),
    "texts": np.array(["x", "", "y", "z", "x", "xx", "2"]),
    "objects": np.array(["x", None, 1, NAN, True, 0.5, ""], dtype=object),
}


@pytest.mark.parametrize(("text", "node"), FORMS)
def test_every_form_is_parsed(text: str, node: Node) -> None:
    assert parse_audience(text).node == node


@pytest.mark.parametrize("text", REFUSED)
def test_everything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^audience") as caught:
        parse_audience(text)
    assert "\n" not in str(caught.value)


def test_the_error_shows_the_part_and_what_is_allowed() -> None:
    with pytest.raises(InputError) as caught:
        parse_audience("days > 3 and len(name) > 2")
    assert "'len(name) > 2' is not understood, must be comparisons of an attribute" in str(caught.value)


def test_attributes_are_named() -> None:
    audience = parse_audience("a > 1 and (b in ['x'] or not c) and 1 < a < 5")
    assert audience.attributes == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "value", "answer"),
    [
        ("x == 3", 3, True),
        ("x == 3", 3.0, True),
        ("x == 1", True, True),
        ("x == 3", "3", False),
        ("x != 3", "3", False),
        ("not x == 3", "3", True),
        ("x < 'b'", "a", True),
        ("x < 3", "a", False),
        ("x > 'a'", 3, False),
        ("x in [1, 'a']", "a", True),
        ("x in [1, 'a']", 1.0, True),
        ("x in [1, 'a']", "1", False),
        ("x in []", 1, False),
        ("x", 0, False),
        ("x", 0.1, True),
        ("x", "", False),
        ("x", "no", True),
        ("x == 9007199254740993", 9007199254740992, False),
    ],
)
def test_one_value(text: str, value: object, answer: bool) -> None:
    assert parse_audience(text).matches({"x": value}) is answer
    assert parse_audience(text).matches_many({"x": [value]}, 1).tolist() == [answer]


@pytest.mark.parametrize("attributes", [None, {}, {"y": 1}, {"x": None}, {"x": NAN}])
@pytest.mark.parametrize(
    "text", ["x == 3", "x != 3", "x < 3", "x >= 3", "x in [3]", "x", "x == 'a'", "x < 9 > y"]
)
def test_a_missing_attribute_meets_nothing(text: str, attributes: dict[str, object] | None) -> None:
    assert parse_audience(text).matches(attributes) is False
    assert parse_audience(f"not ({text})").matches(attributes) is True


@given(conditions(VALUES, NAMES), st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8))
def test_many_equals_each(text: str, rows: list[tuple[object, ...]]) -> None:
    audience = parse_audience(text)
    units = [dict(zip("abc", row, strict=True)) for row in rows]
    expected = list(map(audience.matches, units))
    columns = {name: [unit[name] for unit in units] for name in "abc"}
    objects: Any = {name: np.array([*column, None], dtype=object)[:-1] for name, column in columns.items()}
    assert audience.matches_many(columns, len(rows)).tolist() == expected
    assert audience.matches_many(objects, len(rows)).tolist() == expected


@given(conditions(VALUES, NAMES), *[st.sampled_from(sorted(ARRAYS))] * 3)
def test_many_equals_each_for_arrays(text: str, a: str, b: str, c: str) -> None:
    audience = parse_audience(text)
    columns: Any = {"a": ARRAYS[a], "b": ARRAYS[b], "c": ARRAYS[c]}
    cells = zip(*(column.tolist() for column in columns.values()), strict=True)
    expected = [audience.matches(dict(zip("abc", row, strict=True))) for row in cells]
    assert audience.matches_many(columns, 7).tolist() == expected


@given(
    conditions(st.integers(-3, 3) | st.sampled_from([0.5, True]), st.sampled_from("ab")),
    st.fixed_dictionaries({"a": st.integers(-3, 3), "b": st.floats(-3, 3)}),
)
def test_a_condition_means_what_it_means_in_python(text: str, attributes: dict[str, object]) -> None:
    assert parse_audience(text).matches(attributes) is bool(eval(text, {}, dict(attributes)))


def test_no_units_and_no_attributes() -> None:
    audience = parse_audience("a > 1 or not b")
    empty: Any = np.array([], np.float64)
    assert audience.matches_many({"a": empty}, 0).shape == (0,)
    assert audience.matches_many(None, 3).tolist() == [True, True, True]
