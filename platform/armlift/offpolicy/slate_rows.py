"""Slates of rows that name their request, as the slate estimators take them."""

from typing import NamedTuple

import numpy as np

from armlift.offpolicy.logged_rows import Codes, LoggedRows
from armlift.offpolicy.policies import TablePolicy
from armlift.stats.aggregates import Array
from armlift.stats.slate_ope import Slates

_SAME = 1e-4
"""Propensities this near (as a part of them) to 1 / whole number are it; files are rounded."""


class SlateRows(NamedTuple):
    """Slates, and what was taken for granted about either policy.

    `logged` and `target` [n] are the rows' probabilities where each row stands for itself: those of its item
    at its place whatever is before it, or, where the log's are not known, both given what is before it.
    """

    slates: Slates
    logged: Array
    target: Array
    notes: tuple[str, ...]


def slates_of(rows: LoggedRows, policy: TablePolicy) -> SlateRows:
    """Put rows of one request together, one slot a position.

    The policy's slots draw from its table: without repeats (from what the slots before left) where no slate
    of the log repeats an item, else independently. A slot that a slate lacks has weight 1 and reward 0.
    """
    assert rows.requests is not None
    _, request = np.unique(rows.requests, return_inverse=True)
    k = len(rows.positions)
    shape = (int(request.max()) + 1, k)
    items = np.full(shape, -1, dtype=np.intp)
    rewards, logged, target_at = np.zeros(shape), np.ones(shape), np.ones(shape)
    at = (request, rows.places)
    items[at], rewards[at], logged[at] = rows.items, rows.rewards, rows.logged
    target_at[at] = policy.target(rows)
    units = np.zeros(shape[0], dtype=np.uint64)
    units[request] = rows.units
    distinct = not _repeats(items)
    target = _without_repeats(items, target_at, policy.table) if distinct else target_at
    pool = _uniform_pool(logged) if distinct and bool((items >= 0).all()) else None
    notes = [
        "slates: the policy draws each slot from "
        + ("what the slots before left" if distinct else "all items, whatever the slots before hold")
    ]
    notes.append(
        f"slates: the log draws uniformly without repeats from {pool} items"
        if pool
        else "slates: estimates by row or item, and the pseudo-inverse, take slots for independent draws"
    )
    slates = Slates(units, rewards, logged, target)
    if pool is None:
        return SlateRows(slates, rows.logged, target[at], tuple(notes))
    anywhere = policy.table.sum(axis=0)[items]
    logged_at = np.full(shape, 1.0 / pool)
    slates = slates._replace(logged_at=logged_at, target_at=target_at, target_any=anywhere, pool=pool)
    return SlateRows(slates, logged_at[at], target_at[at], tuple(notes))


def _repeats(items: Codes) -> bool:
    ordered = np.sort(items, axis=1)
    return bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any())


def _without_repeats(items: Codes, target_at: Array, table: Array) -> Array:
    """Give each slot's probability given those before it: its own over what they left, or 0 of nothing."""
    target = target_at.copy()
    for slot in range(1, items.shape[1]):
        before = items[:, :slot]
        taken = np.where(before >= 0, table[slot][before], 0.0).sum(axis=1)
        left = 1.0 - taken
        shown = items[:, slot] >= 0
        share = np.divide(target_at[:, slot], left, out=np.zeros(len(left)), where=left > 1e-12)
        target[:, slot] = np.where(shown, np.minimum(share, 1.0), 1.0)
    return target


def _uniform_pool(logged: Array) -> int | None:
    """Give m where every slot j (from 0) has the propensity 1 / (m - j), else None."""
    pool = round(1.0 / float(logged[0, 0]))
    wanted = pool - np.arange(logged.shape[1])
    if wanted[-1] < 1 or not bool((np.abs(logged * wanted - 1.0) < _SAME).all()):
        return None
    return pool
