"""Groups of units: thirds that keep equal numbers together, and categories of which the rare go together."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from armlift.sequences import SplitData, read_sequences
from armlift.usergroups import by_attribute, by_history, categories, terciles


def test_thirds_are_named_by_their_ends() -> None:
    groups = terciles("length", {f"u{number}": float(number) for number in range(1, 10)})
    assert [group.name for group in groups] == ["length: 1-3", "length: 4-6", "length: 7-9"]
    assert [len(group.units) for group in groups] == [3, 3, 3]
    assert terciles("length", {}) == []
    assert [group.name for group in terciles("length", {"a": 2.0, "b": 2.0})] == ["length: 2"]


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 9).map(float), min_size=1))
def test_every_unit_is_in_one_third_and_equal_numbers_stay_together(numbers: Mapping[str, float]) -> None:
    groups = terciles("number", numbers)
    assert sorted(unit for group in groups for unit in group.units) == sorted(numbers)
    ends = [({numbers[unit] for unit in group.units}) for group in groups]
    assert all(max(left) < min(right) for left, right in pairwise(ends))


def test_rare_values_go_together() -> None:
    values = {f"u{at}{copy}": f"v{at:02}" for at in range(14) for copy in range(1 + (at < 12))}
    groups = categories("range", values)
    assert len(groups) == 13
    assert groups[0].name == "range: v00"
    assert groups[-1] == ("range: other values", frozenset({"u120", "u130"}))


def test_units_of_data_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "sequences.txt"
    path.write_text("a 1 2 3\nb 1 2\nc 2 3 1 4\nd 5\n")
    data = SplitData(read_sequences(path), "test", "click")
    assert [group.name for group in by_history(data, ["click"])] == [
        f"history length: {length}" for length in (1, 2, 3)
    ]
    table: dict[str, dict[str, object]] = {
        "a": {"level": "high"},
        "b": {"level": None},
        "c": {"level": "low"},
        "z": {"level": "low"},
    }
    groups = by_attribute("level", table)(data, ["click"])
    assert groups == [("level: high", frozenset({"a"})), ("level: low", frozenset({"c"}))]
