"""Policies to evaluate: their probability of each logged item, and means over what they would show."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from armlift.errors import InputError
from armlift.offpolicy.logged_rows import Codes, LoggedRows
from armlift.stats.aggregates import Array

_SAME = 1e-6
"""Propensities of one item and position that differ by less than this part of them are the same."""


class Policy(Protocol):
    """A policy as seen from the rows of one log."""

    @property
    def name(self) -> str:
        """Give its name."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what must be known of it."""
        ...

    def target(self, rows: LoggedRows) -> Array:
        """Give the policy's probability of each row's item at its place: [n]."""
        ...

    def expected(self, values: Array, rows: LoggedRows, which: Codes) -> Array:
        """Give, for some rows, the mean over what the policy shows there of `values` [positions, catalogue].

        What it shows outside the catalogue, and nothing, count 0.
        """
        ...


@dataclass(frozen=True, eq=False)
class TablePolicy:
    """A policy that shows every unit the same: `table` [positions, catalogue] has its probabilities."""

    name: str
    table: Array
    notes: tuple[str, ...] = ()

    def target(self, rows: LoggedRows) -> Array:
        """Look each row's probability up."""
        found: Array = self.table[rows.places, rows.items]
        return found

    def expected(self, values: Array, rows: LoggedRows, which: Codes) -> Array:
        """Average by place, and look up."""
        means: Array = (self.table * values).sum(axis=1)
        return means[rows.places[which]]


@dataclass(frozen=True, eq=False)
class SlatePolicy:
    """A policy that answered each row's request by a slate, all of whose items are alike to it.

    `slates` [requests, k] holds indices into the catalogue, -1 behind a slate's end; `asked` [n] is each
    row's request. An item of a slate of s has probability 1 / s. Of an arm that explores a slate is a draw:
    its chance to hold an item is the arm's own, so that the mean over requests is that of the arm.
    """

    name: str
    slates: Codes
    asked: Codes
    notes: tuple[str, ...] = ()

    def target(self, rows: LoggedRows) -> Array:
        """Give 1 / s where the slate holds the row's item, else 0."""
        held = (self.slates[self.asked] == rows.items[:, None]).any(axis=1)
        found: Array = np.where(held, 1.0 / np.maximum(self._sizes, 1.0)[self.asked], 0.0)
        return found

    def expected(self, values: Array, rows: LoggedRows, which: Codes) -> Array:
        """Average over the slate's items."""
        slates = self.slates[self.asked[which]]
        found = np.where(slates >= 0, values[rows.places[which][:, None], slates], 0.0).sum(axis=1)
        means: Array = found / np.maximum(self._sizes, 1.0)[self.asked[which]]
        return means

    @property
    def _sizes(self) -> Array:
        sizes: Array = (self.slates >= 0).sum(axis=1).astype(np.float64)
        return sizes


def uniform(rows: LoggedRows) -> TablePolicy:
    """Give the policy that shows every item of the catalogue alike."""
    shape = (len(rows.positions), len(rows.catalogue))
    return TablePolicy("uniform", np.full(shape, 1.0 / max(1, shape[1])))


def told_by(other: LoggedRows, rows: LoggedRows, name: str) -> tuple[TablePolicy, LoggedRows]:
    """Give the policy that another log's propensities tell, and `rows` with its items in their catalogue.

    Where each item has one propensity a position, these are the policy, and items that position never showed
    share the rest. Where propensities vary (with users, or time) the policy is the shares of the other log's
    rows: its average over that log. Raises InputError where `rows` have a position that the other log lacks.
    """
    if missing := sorted({*rows.positions} - {*other.positions}):
        raise InputError(
            f"--policy {name}: shows nothing at position {missing[0]}, which the log has; "
            f"must have positions {', '.join(map(str, rows.positions))}"
        )
    rows = rows.widened(other.catalogue)
    other = other.widened(rows.catalogue)
    place = {position: index for index, position in enumerate(other.positions)}
    wanted = [place[position] for position in rows.positions]
    column = {item: index for index, item in enumerate(other.catalogue)}
    order = [column[item] for item in rows.catalogue]
    table, notes = _table_of(other)
    return TablePolicy(name, table[np.ix_(wanted, order)], notes), rows


def _table_of(log: LoggedRows) -> tuple[Array, tuple[str, ...]]:
    """Give a log's policy by position and item, [positions, catalogue], and what must be known of it."""
    counts = log.rows_by_cell()
    cell = (log.places, log.items)
    least, most = np.full(counts.shape, np.inf), np.zeros(counts.shape)
    np.minimum.at(least, cell, log.logged)
    np.maximum.at(most, cell, log.logged)
    shown = counts > 0
    vary = int((most[shown] > least[shown] * (1 + _SAME)).sum())
    if vary:
        table = counts / counts.sum(axis=1, keepdims=True)
        return table, (
            f"the policy's propensities vary within {vary} of {int(shown.sum())} items and positions; taken "
            f"is its average, the share of its {len(log):,} rows, whose own error no interval counts",
        )
    table = np.where(shown, most, 0.0)
    rest = 1.0 - table.sum(axis=1, keepdims=True)
    hidden = (~shown).sum(axis=1, keepdims=True)
    table = np.where(shown, table, np.maximum(rest, 0.0) / np.maximum(hidden, 1))
    sums = table.sum(axis=1, keepdims=True)
    off = float(np.abs(sums - 1.0).max())
    said = (
        f"the policy's propensities add up to 1 within {off:.2g} only and were scaled" if off > 1e-3 else ""
    )
    return table / sums, (said,) if said else ()
