"""Policies: uniform, as another log tells it, and as slates."""

from collections.abc import Callable

import numpy as np
import pytest

from armlift.errors import InputError
from armlift.offpolicy.logged_rows import LoggedRows
from armlift.offpolicy.policies import SlatePolicy, told_by, uniform

MakeRows = Callable[..., LoggedRows]


def test_uniform_shows_all_alike(make_rows: MakeRows) -> None:
    rows = make_rows(("u", "a", 1, 1.0, 0.5), ("u", "b", 2, 1.0, 0.5)).widened(["c", "d"])
    policy = uniform(rows)
    assert policy.target(rows).tolist() == [0.25, 0.25]
    values = np.arange(8.0).reshape(2, 4)
    assert policy.expected(values, rows, np.array([1, 0])).tolist() == [5.5, 1.5]


def test_constant_propensities_are_the_policy_and_the_unseen_share_the_rest(make_rows: MakeRows) -> None:
    other = make_rows(
        ("u", "a", 1, 0.0, 0.5), ("v", "a", 1, 0.0, 0.5), ("u", "b", 1, 0.0, 0.3), ("u", "b", 2, 0.0, 1.0)
    )
    rows = make_rows(("x", "c", 1, 0.0, 0.2), ("x", "d", 1, 0.0, 0.2), ("x", "b", 1, 0.0, 0.2))
    policy, wide = told_by(other, rows, "other.csv")
    assert wide.catalogue == ("b", "c", "d", "a")
    assert policy.notes == ()
    assert policy.table == pytest.approx(np.array([[0.3, 0.1, 0.1, 0.5]]))
    assert policy.target(wide) == pytest.approx([0.1, 0.1, 0.3])


def test_propensities_that_vary_give_the_shares_and_are_said(make_rows: MakeRows) -> None:
    other = make_rows(
        ("u", "a", 1, 0.0, 0.5), ("v", "a", 1, 0.0, 0.6), ("w", "a", 1, 0.0, 0.6), ("u", "b", 1, 0.0, 0.3)
    )
    policy, _ = told_by(other, make_rows(("x", "a", 1, 0.0, 0.2)), "other.csv")
    assert policy.table.tolist() == [[0.75, 0.25]]
    (note,) = policy.notes
    assert note.startswith("the policy's propensities vary within 1 of 2 items and positions")


def test_propensities_beyond_one_are_scaled_and_said(make_rows: MakeRows) -> None:
    other = make_rows(("u", "a", 1, 0.0, 0.75), ("u", "b", 1, 0.0, 0.75))
    policy, _ = told_by(other, make_rows(("x", "a", 1, 0.0, 0.2)), "other.csv")
    assert policy.table.tolist() == [[0.5, 0.5]]
    assert "add up to 1 within 0.5 only" in policy.notes[0]


def test_a_position_the_policy_lacks_is_refused(make_rows: MakeRows) -> None:
    with pytest.raises(InputError, match=r"--policy other.csv: shows nothing at position 2, which the log"):
        told_by(make_rows(("u", "a", 1, 0.0, 0.5)), make_rows(("u", "a", 2, 0.0, 0.5)), "other.csv")


def test_slates_share_their_probability(make_rows: MakeRows) -> None:
    rows = make_rows(("u", "a", 0, 1.0, 0.5), ("u", "b", 0, 1.0, 0.5), ("v", "c", 0, 1.0, 0.5))
    slates = np.array([[1, 2], [0, -1], [-1, -1]])
    policy = SlatePolicy("arm", slates, np.array([0, 0, 1]))
    assert policy.target(rows).tolist() == [0.0, 0.5, 0.0]
    values = np.array([[1.0, 2.0, 4.0]])
    assert policy.expected(values, rows, np.arange(3)).tolist() == [3.0, 3.0, 1.0]
    empty = SlatePolicy("arm", slates, np.array([2, 2, 2]))
    assert empty.target(rows).tolist() == [0.0, 0.0, 0.0]
    assert empty.expected(values, rows, np.arange(3)).tolist() == [0.0, 0.0, 0.0]
