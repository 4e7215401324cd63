"""Slates of rows: what is put together, and how the policy and the log are taken to draw."""

from collections.abc import Callable

import numpy as np
import pytest

from armlift.offpolicy.logged_rows import LoggedRows
from armlift.offpolicy.policies import TablePolicy, uniform
from armlift.offpolicy.slate_rows import slates_of

MakeRows = Callable[..., LoggedRows]


def test_a_uniform_log_without_repeats_is_known(make_rows: MakeRows) -> None:
    rows = make_rows(
        ("u", "a", 1, 1.0, 0.333333, "r"),
        ("u", "b", 2, 0.0, 0.5, "r"),
        ("v", "c", 2, 1.0, 0.5, "s"),
        ("v", "b", 1, 0.0, 0.333333, "s"),
    )
    made = slates_of(rows, uniform(rows))
    slates = made.slates
    assert slates.pool == 3
    assert sorted(slates.rewards.tolist()) == [[0.0, 1.0], [1.0, 0.0]]
    assert slates.target == pytest.approx(np.tile([1 / 3, 1 / 2], (2, 1)))
    assert slates.logged_at == pytest.approx(np.full((2, 2), 1 / 3))
    assert slates.target_any == pytest.approx(np.full((2, 2), 2 / 3))
    assert made.logged == pytest.approx(np.full(4, 1 / 3))
    assert made.target == pytest.approx(np.full(4, 1 / 3))
    assert "uniformly without repeats from 3 items" in made.notes[1]


def test_slots_draw_from_what_is_left(make_rows: MakeRows) -> None:
    rows = make_rows(("u", "a", 1, 1.0, 0.5, "r"), ("u", "b", 2, 1.0, 0.9, "r"))
    policy = TablePolicy("test", np.array([[0.6, 0.4], [0.2, 0.8]]))
    made = slates_of(rows, policy)
    assert made.slates.target.tolist() == [[0.6, pytest.approx(1.0)]]
    assert (made.slates.pool, made.slates.target_at, made.slates.target_any) == (None, None, None)
    assert made.target == pytest.approx([0.6, 1.0])
    assert made.logged.tolist() == [0.5, 0.9]
    sure = TablePolicy("sure", np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert slates_of(rows, sure).slates.target.tolist() == [[1.0, 0.0]]


def test_a_log_that_repeats_items_draws_independently_and_short_slates_are_filled(
    make_rows: MakeRows,
) -> None:
    rows = make_rows(("u", "a", 1, 1.0, 0.5, "r"), ("u", "a", 2, 1.0, 0.5, "r"), ("v", "b", 2, 3.0, 0.5, "s"))
    policy = TablePolicy("test", np.array([[0.6, 0.4], [0.2, 0.8]]))
    made = slates_of(rows, policy)
    found = sorted(
        zip(
            made.slates.rewards.tolist(),
            made.slates.target.tolist(),
            made.slates.logged.tolist(),
            strict=True,
        )
    )
    assert found == [([0.0, 3.0], [1.0, 0.8], [1.0, 0.5]), ([1.0, 1.0], [0.6, 0.2], [0.5, 0.5])]
    assert "whatever the slots before hold" in made.notes[0]
