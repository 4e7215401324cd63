"""Units of a run: found by bounded look-ups, drawn the same each time, with what they did."""

import pytest
from sqlalchemy import Engine, insert

from armlift.arm import Behaviour
from armlift.lab import Lab
from armlift.runs import Run
from armlift.store.database import writing
from armlift.store.tables import aliases
from armlift_dashboards.run_units import (
    Met,
    between,
    examples,
    find_unit,
    label_of,
    met_items,
    runs_of,
    sampled,
)

Walkers = tuple[Lab, Engine, Run, str]


@pytest.mark.parametrize(
    ("low", "high", "share", "found"),
    [
        ("100", "300", 0.5, "200000000000"),
        ("9000000000", "9000002999", 0.5, "900000149950000000"),
        ("00ff", "80ff", 0.5, "40ff00000000"),
        ("a", "a", 0.3, "a000000000000"),
    ],
)
def test_a_text_lies_at_a_share_of_the_way(low: str, high: str, share: float, found: str) -> None:
    assert between(low, high, share) == found


def test_texts_rise_with_their_share_whatever_ids_are_made_of() -> None:
    for low, high in (("1", "99"), ("3fa9", "e01b"), ("Anna", "zoë"), ("u-1", "u-9"), ("a", "b\U0001f600")):
        found = [between(low, high, share / 10) for share in range(11)]
        assert found == sorted(found)
        assert len(set(found)) > 5


def test_examples_are_spread_over_all_units(walkers: Walkers) -> None:
    _, engine, run, _ = walkers
    with engine.connect() as connection:
        found = examples(connection, run, 5)
        nobody = examples(connection, run._replace(run="other"), 5)
    assert found == ["unit006", "unit018", "unit030", "unit042", "unit054"]
    assert nobody == []


def test_the_same_seed_draws_the_same_units_each_once(walkers: Walkers) -> None:
    _, engine, run, _ = walkers
    with engine.connect() as connection:
        first, again, other = (list(sampled(connection, run, seed, 400)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == len(set(first)) > 50
    assert set(first) <= {f"unit{unit:03}" for unit in range(60)}


def test_a_unit_is_found_with_its_arm_and_its_history(walkers: Walkers) -> None:
    _, engine, run, _ = walkers
    with engine.connect() as connection:
        whole, last = (find_unit(connection, run, "unit004", limit) for limit in (200, 4))
        assert [label_of(one) for one in runs_of(connection)] == ["demo, simulated, run 1"]
    assert (whole.unit, whole.arm, len(whole.history), whole.known) == ("unit004", "recgpt1", 16, True)
    assert [one.item for one in whole.history[::2]] == [f"item{number:02}" for number in range(4, 12)]
    assert last.history == whole.history[-4:]
    assert met_items(last.history) == [
        Met("item10", last.history[0].ts, ["click", "play 12 s"]),
        Met("item11", last.history[2].ts, ["click", "play 12 s"]),
    ]


@pytest.mark.parametrize("asked", ["nobody", "unit\0", "u" * 500, "é'; --"])
def test_a_unit_that_is_not_known_is_not_made_up(walkers: Walkers, asked: str) -> None:
    _, engine, run, _ = walkers
    with engine.connect() as connection:
        found = find_unit(connection, run, asked, 200)
    assert (found.known, found.asked, found.arm, list(found.history)) == (False, asked, None, [])


def test_merged_ids_count_as_their_unit(walkers: Walkers) -> None:
    _, engine, run, _ = walkers
    with writing(engine) as connection:
        rows = [("unit000", 5, "unit001"), ("unit000", 9, "unit002"), ("unit002", 5, "unit003")]
        connection.execute(
            insert(aliases), [{"run": "walk", "anonymous_id": a, "ts": ts, "unit_id": u} for a, ts, u in rows]
        )
    with engine.connect() as connection:
        merged, into, other = (
            find_unit(connection, run, unit, 200) for unit in ("unit000", "unit001", "unit003")
        )
    assert (merged.unit, merged.asked) == ("unit001", "unit000")
    assert list(merged.history) == list(into.history)
    assert len(into.history) == 32, "the first merge wins: unit000 counts for unit001 alone"
    assert len(other.history) == 32, "unit002 itself, not what was merged into it"


def test_only_what_was_taken_is_listed_if_asked() -> None:
    history = [
        Behaviour(*row) for row in (("a", "play", 3.0, 1), ("b", "click", 1.0, 2), ("b", "rating", 4.5, 3))
    ]
    assert met_items(history) == [Met("a", 1, ["play 3 s"]), Met("b", 2, ["click", "rating 4.5"])]
    assert [one.item for one in met_items(history, ("click",))] == ["b"]
    assert met_items([], ("click",)) == []
