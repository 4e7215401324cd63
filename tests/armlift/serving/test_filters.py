"""Filters: rules over items and units, caps, availability; arms are asked for more where little is left."""

from pathlib import Path

import pytest

from armlift.arm import Slate
from armlift.errors import InputError
from armlift.serving.filters import FilterFile, Filters, Item, read_filters

ITEMS = {
    f"i{number}": Item(number != 3, {"rated": "18+" if number % 2 else "6+", "author": f"a{number // 4}"})
    for number in range(16)
}


class Slates:
    """Gives the first items by number, as many as are asked for and there are."""

    def __init__(self, asked: list[int], most: int = 100) -> None:
        self._asked, self._most = asked, most

    def __call__(self, k: int) -> Slate:
        self._asked.append(k)
        size = min(k, self._most)
        names = [f"i{number}" for number in range(size)]
        return Slate(names, [float(size - at) for at in range(size)], [0] * size, [0.5] * size)


def filters(**file: object) -> Filters:
    return Filters(FilterFile.model_validate(file), ITEMS)


def test_without_rules_a_slate_stays_as_it_is() -> None:
    asked: list[int] = []
    slate, removed = Filters(FilterFile(), {}).apply(Slates(asked), 5, {})
    assert (list(slate.items), asked, dict(removed)) == (["i0", "i1", "i2", "i3", "i4"], [5], {})
    assert list(slate.propensities) == [0.5] * 5


def test_what_is_not_available_is_shown_to_nobody() -> None:
    asked: list[int] = []
    slate, removed = filters().apply(Slates(asked), 5, {})
    assert (list(slate.items), asked) == (["i0", "i1", "i2", "i4", "i5"], [5, 10])
    assert removed == {"unavailable": 1}
    assert list(slate.propensities) == [None] * 5, "with what probability is not known any more"
    assert list(slate.scores) == [10.0, 9.0, 8.0, 6.0, 5.0]


def test_a_rule_holds_for_the_units_it_names() -> None:
    rule = {"name": "adults_only", "hide": 'rated == "18+"', "units": "age < 18"}
    made = filters(filters=[rule])
    young, removed = made.apply(Slates([]), 4, {"age": 17})
    assert list(young.items) == ["i0", "i2", "i4", "i6"]
    assert removed == {"unavailable": 1, "adults_only": 2}
    for attributes in ({"age": 18}, {}, {"age": "17"}):
        assert list(made.apply(Slates([]), 4, attributes).slate.items) == ["i0", "i1", "i2", "i4"]


def test_caps_and_hidden_items() -> None:
    slate, removed = filters(caps={"author": 2}, hidden=["i0"]).apply(Slates([]), 4, {})
    assert list(slate.items) == ["i1", "i2", "i4", "i5"]
    assert removed == {"hidden": 1, "unavailable": 1}
    slate, removed = filters(caps={"author": 1}).apply(Slates([]), 4, {})
    assert list(slate.items) == ["i0", "i4", "i8", "i12"]
    assert removed == {"cap_author": 8, "unavailable": 1}
    unknown = Slates([], 100)
    assert len(Filters(FilterFile(caps={"maker": 1}), ITEMS).apply(unknown, 4, {}).slate.items) == 4


def test_where_an_arm_has_no_more_a_slate_is_short() -> None:
    asked: list[int] = []
    made = filters(filters=[{"name": "odd", "hide": 'rated == "18+"'}])
    slate, _ = made.apply(Slates(asked, 6), 5, {})
    assert (list(slate.items), asked) == (["i0", "i2", "i4"], [5, 10])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("filters: [{name: a, hide: 'rated ='}]", "serving.yaml:1: filters.0.hide: "),
        ("filters: [{name: a}]", "filters.0.hide: is missing"),
        ("caps: {author: 0}", "caps.author: 0"),
        ("filter: []", "filter: unknown key, must be one of caps, filters, hidden"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "serving.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_filters(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lab_without_the_file_has_no_filters(tmp_path: Path) -> None:
    assert read_filters(tmp_path) == FilterFile()
