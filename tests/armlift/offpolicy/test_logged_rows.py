"""Logged rows: dirty ones are counted, folds are of units, catalogues grow."""

from collections.abc import Callable
from typing import Any

import numpy as np

from armlift.offpolicy.logged_rows import LoggedRows

MakeRows = Callable[..., LoggedRows]


def test_dirty_rows_are_left_out_by_reason(make_rows: MakeRows) -> None:
    good: tuple[Any, ...] = ("u", "a", 1, 1.0, 0.5, "r")
    nan = float("nan")
    rows = make_rows(
        good,
        (None, "a", 1, 1.0, 0.5, "r1"),
        ("u", None, 1, 1.0, 0.5, "r2"),
        ("u", "a", None, 1.0, 0.5, "r3"),
        ("u", "a", 1, nan, 0.5, "r4"),
        ("u", "a", 1, None, 0.5, "r4"),
        ("u", "a", 1, 1.0, 0.0, "r5"),
        ("u", "a", 1, 1.0, 1.5, "r6"),
        ("u", "a", 1, 1.0, nan, "r6"),
        ("u", "a", 1, 1.0, None, "r6"),
        ("u", "a", 1, 1.0, 0.5, None),
        ("u", "a", 2, 1.0, 0.5, "r7"),
        ("u", "b", 2, 1.0, 0.5, "r7"),
    )
    assert len(rows) == 1
    assert rows.dropped == {
        "blank_unit": 1,
        "blank_item": 1,
        "blank_position": 1,
        "bad_reward": 2,
        "bad_propensity": 4,
        "blank_request": 1,
        "repeated_slot": 2,
    }


def test_a_unit_lies_in_one_fold(make_rows: MakeRows) -> None:
    rows = make_rows(*((f"u{n % 400}", "a", 1, 0.0, 0.5) for n in range(1200)))
    folds = rows.folds(5)
    assert all(len(set(folds[rows.units == unit].tolist())) == 1 for unit in set(rows.units.tolist()))
    assert min(np.bincount(folds, minlength=5)) > 150


def test_a_wider_catalogue_keeps_the_rows(make_rows: MakeRows) -> None:
    rows = make_rows(("u", "b", 3, 1.0, 0.5), ("v", "a", 1, 1.0, 0.5))
    wide = rows.widened(["c", "a", "c"])
    assert (rows.catalogue, wide.catalogue, wide.positions) == (("a", "b"), ("a", "b", "c"), (1, 3))
    assert wide.rows_by_cell().tolist() == [[1, 0, 0], [0, 1, 0]]
