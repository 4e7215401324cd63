"""Rows of a log with propensities, as off-policy evaluation takes them, whatever file they came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from armlift.hashing import Keys, keys_of, mix_many, uniforms
from armlift.stats.aggregates import Array

Codes = npt.NDArray[np.intp]
UNIT, ITEM, POSITION, REWARD, PROPENSITY, REQUEST = (
    "unit", "item", "position", "reward", "propensity", "request",
)  # fmt: skip
_FOLD_SALT = 0x5851F42D4C957F2D
DIRT: Mapping[str, pl.Expr] = {
    "blank_unit": pl.col(UNIT).is_null(),
    "blank_item": pl.col(ITEM).is_null(),
    "blank_position": pl.col(POSITION).is_null(),
    "bad_reward": pl.col(REWARD).is_null() | ~pl.col(REWARD).is_finite(),
    "bad_propensity": pl.col(PROPENSITY).is_null() | ~((pl.col(PROPENSITY) > 0) & (pl.col(PROPENSITY) <= 1)),
}
"""Why a row is left out, in the order asked; a row counts for the first reason it meets."""
REQUEST_DIRT: Mapping[str, pl.Expr] = {
    "blank_request": pl.col(REQUEST).is_null(),
    "repeated_slot": pl.struct(REQUEST, POSITION).is_duplicated(),
}
"""Why a row of a log with slates is left out, besides; of a slot told twice no row is known to be right."""


@dataclass(frozen=True, eq=False)
class LoggedRows:
    """Items shown, with the logging policy's probability of each and what came of it: arrays [n].

    `units` and `requests` are hashes (the latter None where the log knows no slates), `items` and `places`
    indices into `catalogue` and `positions`. `logged` is the probability of the item at its place; in slates,
    given the items before it. `unit` says what stands for a unit; `dropped` counts rows left out, by reason.
    """

    source: str
    unit: str
    units: Keys
    items: Codes
    places: Codes
    rewards: Array
    logged: Array
    catalogue: tuple[str, ...]
    positions: tuple[int, ...]
    requests: Keys | None = None
    dropped: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.units)

    def widened(self, names: Iterable[str]) -> Self:
        """Give the same rows with more items in the catalogue, as a policy may show what the log does not."""
        known = set(self.catalogue)
        more = sorted({name for name in names if name not in known})
        return replace(self, catalogue=(*self.catalogue, *more))

    def folds(self, count: int) -> Codes:
        """Give each row a fold from 0 to count - 1 by the hash of its unit: a unit lies in one fold."""
        chances = uniforms(mix_many(self.units ^ np.uint64(_FOLD_SALT)))
        return np.floor(chances * count).astype(np.intp)

    def rows_by_cell(self) -> Array:
        """Count rows by place and item: float64 [positions, catalogue]."""
        shape = (len(self.positions), len(self.catalogue))
        cells = np.ravel_multi_index((self.places, self.items), shape)
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def rows_of(frame: pl.DataFrame, source: str, unit: str, *, notes: tuple[str, ...] = ()) -> LoggedRows:
    """Make rows of a frame with the columns UNIT, ITEM, POSITION, REWARD, PROPENSITY, and maybe REQUEST.

    Units, items and requests are strings. Dirty rows are left out and counted.
    """
    dirt = {**DIRT, **REQUEST_DIRT} if REQUEST in frame.columns else DIRT
    dropped: dict[str, int] = {}
    for reason, bad in dirt.items():
        clean = frame.filter(~bad.fill_null(True))
        if len(clean) < len(frame):
            dropped[reason] = len(frame) - len(clean)
        frame = clean
    catalogue, items = np.unique(frame[ITEM].to_numpy().astype(str), return_inverse=True)
    positions, places = np.unique(frame[POSITION].to_numpy(), return_inverse=True)
    requests = keys_of(frame[REQUEST].to_list()) if REQUEST in frame.columns else None
    return LoggedRows(
        source=source,
        unit=unit,
        units=keys_of(frame[UNIT].to_list()),
        items=items.astype(np.intp),
        places=places.astype(np.intp),
        rewards=frame[REWARD].to_numpy().astype(np.float64),
        logged=frame[PROPENSITY].to_numpy().astype(np.float64),
        catalogue=tuple(map(str, catalogue.tolist())),
        positions=tuple(map(int, positions.tolist())),
        requests=requests,
        dropped=dropped,
        notes=notes,
    )
