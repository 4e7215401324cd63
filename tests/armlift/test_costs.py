"""Files of costs: the stock one, and one line for whatever is wrong in another."""

from pathlib import Path

import pytest
import yaml

from armlift.complaints import Location
from armlift.costs import FILE, Cost, Costs, Point, read_costs, stock_costs
from armlift.errors import InputError


@pytest.fixture
def mine(root: Path, tmp_path: Path) -> Path:
    """Give a copy of the stock costs."""
    path = tmp_path / FILE
    path.write_bytes((root / "platform" / "armlift" / "stock" / FILE).read_bytes())
    return path


def change(path: Path, location: Location, value: object) -> None:
    """Put a value into a file of costs; None takes the key out."""
    data = yaml.safe_load(path.read_text())
    place = data
    for step in location[:-1]:
        place = place[step]
    if value is None:
        del place[location[-1]]
    else:
        place[location[-1]] = value
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def test_the_stock_costs_are_sound_and_name_where_they_come_from(root: Path) -> None:
    costs = stock_costs()
    named = dict(costs.named())
    assert len(named) == len(Costs.model_fields) - 1 + sum(
        2 + (one.epoch is not None) + (one.prompts is not None) for one in costs.arms.values()
    )
    assert {"ingest_time", "arms.recgpt.epoch", "arms.recgpt.prompts"} <= named.keys()
    assert costs.arms["popularity"].prompts is None
    for name, cost in named.items():
        assert (root / "benchmarks" / f"{cost.benchmark}.py").is_file(), name
        assert cost.machine


def test_a_file_of_costs_is_read_as_the_stock_one(mine: Path) -> None:
    assert read_costs(mine) == stock_costs()


def test_a_cost_is_that_of_the_largest_size() -> None:
    points = (Point(size=10, value=2.0), Point(size=1000, value=3.0))
    cost = Cost(unit="s/user", measured=points, items=50, benchmark="b", machine="m", date="2026-01-01")
    assert (cost.value, cost.size, cost.growth) == (3.0, 1000, 1.5)
    # More items are taken to cost in proportion, fewer not to cost less.
    assert [cost.for_items(items) for items in (10, 50, 200)] == [3.0, 3.0, 12.0]
    assert cost.beyond_items(200) == 4.0


@pytest.mark.parametrize(
    ("location", "value", "says"),
    [
        (("ingest_time", "unit"), "ms/event", "ingest_time.unit: 'ms/event' must be 's/event'"),
        (("arms", "recgpt", "prompts", "unit"), "s/event", "'s/event' must be 'core s/user'"),
        (("rollup_time",), None, "rollup_time: is missing"),
        (("rollup_times",), {}, "rollup_times: unknown key, must be one of "),
        (
            ("follow_cpu", "measured", 0, "value"),
            0.0,
            "follow_cpu.measured.0.value: 0.0 must be greater",
        ),
        (("follow_cpu", "measured", 0, "value"), "fast", "'fast' must be a number"),
        (("follow_cpu", "measured", 0, "size"), 0, "follow_cpu.measured.0.size: 0 must be greater than or"),
        (("follow_cpu", "measured"), [], "[] must have at least 1 item"),
        (
            ("follow_cpu", "measured"),
            [{"size": 10, "value": 1.0}, {"size": 10, "value": 1.0}],
            "follow_cpu.measured: sizes 10, 10 must ascend",
        ),
        (("follow_cpu", "date"), "yesterday", "follow_cpu.date: 'yesterday' must match pattern"),
        (("arms",), {}, "arms: {} must have at least 1 item"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    mine: Path, location: Location, value: object, says: str
) -> None:
    change(mine, location, value)
    with pytest.raises(InputError) as caught:
        read_costs(mine)
    text = str(caught.value)
    assert says in text
    assert text.startswith(f"{mine}:")
    assert int(text.removeprefix(f"{mine}:").partition(":")[0]) >= 1
    assert "\n" not in text
