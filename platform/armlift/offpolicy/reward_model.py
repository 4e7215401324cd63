"""The reward model of doubly robust estimates: mean rewards by item and position, cross-fitted over units."""

from typing import NamedTuple

import numpy as np

from armlift.offpolicy.logged_rows import LoggedRows
from armlift.offpolicy.policies import Policy
from armlift.stats.aggregates import Array

FOLDS = 5
PRIOR = 50.0
"""So many rows does the coarser mean weigh, in the mean of an item, a position, or both."""


class Predictions(NamedTuple):
    """A model's reward of each row's item, and its mean over what the policy shows there: arrays [n]."""

    predicted: Array
    expected: Array


def predict(rows: LoggedRows, policy: Policy, *, folds: int = FOLDS) -> Predictions:
    """Predict each row's rewards from the rows of units in other folds, so that no unit predicts itself."""
    fold = rows.folds(folds)
    predicted, expected = np.zeros(len(rows)), np.zeros(len(rows))
    shape = (len(rows.positions), len(rows.catalogue))
    cells = np.ravel_multi_index((rows.places, rows.items), shape)
    for number in range(folds):
        own, others = np.flatnonzero(fold == number), fold != number
        counts, sums = (
            np.bincount(cells[others], weights, minlength=shape[0] * shape[1])
            .reshape(shape)
            .astype(np.float64)
            for weights in (np.ones(int(others.sum())), rows.rewards[others])
        )
        values = shrunk_means(counts, sums)
        predicted[own] = values[rows.places[own], rows.items[own]]
        expected[own] = policy.expected(values, rows, own)
    return Predictions(predicted, expected)


def shrunk_means(counts: Array, sums: Array) -> Array:
    """Give mean rewards [positions, items] of cells with these counts and sums of rewards.

    A mean over n rows of sum s, shrunk to m, is (s + PRIOR m) / (n + PRIOR): items' and positions' means to
    the mean of all, a cell's to item + position - all.
    """
    total = counts.sum()
    overall = sums.sum() / total if total else 0.0
    by_item = _shrink(counts.sum(axis=0), sums.sum(axis=0), overall)
    by_position = _shrink(counts.sum(axis=1), sums.sum(axis=1), overall)
    return _shrink(counts, sums, by_item[None, :] + by_position[:, None] - overall)


def _shrink(counts: Array, sums: Array, towards: Array | float) -> Array:
    shrunk: Array = (sums + PRIOR * towards) / (counts + PRIOR)
    return shrunk
