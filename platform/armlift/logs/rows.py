"""The rows of a log as arrays in memory: ids as numbers, for what must look at all rows again and again.

A row takes 25 bytes, one more for each kind of feedback that is counted and 8 for each that is measured, and
8 more where the log knows durations: 150 MB for the 4.7 million rows of KuaiRec's small matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from armlift.logs.log import LogBatch
from armlift.logs.reader import Log
from armlift.logs.sessions import MEASURED

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Places = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows in time order.

    `units` and `items` are their ids, ascending as strings; `unit` and `item` the places of each row's ids in
    them, int32 [n]. `ts` is in UTC milliseconds. `feedback` maps each kind the log knows to bool [n], or to
    float64 [n] where it is measured. `random` and `duration` are as in `LogBatch`, None where not known.
    """

    units: tuple[str, ...]
    items: tuple[str, ...]
    unit: Codes
    item: Codes
    ts: Ints
    feedback: Mapping[str, Bools | Floats]
    random: Bools | None
    duration: Floats | None

    def __len__(self) -> int:
        return len(self.ts)


def read_rows(log: Log, *, since: int | None = None, until: int | None = None, untimed: bool = False) -> Rows:
    """Read the rows of a log from `since` on and before `until` (UTC milliseconds), in one pass.

    With `untimed` those follow that have no time; their `ts` is -1.
    """
    units: dict[str, int] = {}
    items: dict[str, int] = {}
    parts: dict[str, list[npt.NDArray[np.generic]]] = {}
    for batch in log.batches():
        first = 0 if since is None else int(np.searchsorted(batch.ts, since))
        last = len(batch) if until is None else int(np.searchsorted(batch.ts, until))
        for name, column in _columns(batch, units, items, slice(first, last)).items():
            parts.setdefault(name, []).append(column)
        if last < len(batch):
            break
    for batch in log.untimed() if untimed else ():
        for name, column in _columns(batch, units, items, slice(None)).items():
            parts.setdefault(name, []).append(column)
    return _rows(log, units, items, {name: np.concatenate(some) for name, some in parts.items()})


def _columns(
    batch: LogBatch, units: dict[str, int], items: dict[str, int], some: slice
) -> dict[str, npt.NDArray[np.generic]]:
    """Give the columns of some rows; new ids get the next numbers in `units` and `items`."""
    found: dict[str, npt.NDArray[np.generic]] = {
        "unit": _codes(batch.units[some], units),
        "item": _codes(batch.items[some], items),
        "ts": batch.ts[some],
    }
    for kind, values in batch.feedback.items():
        found[f"feedback {kind}"] = values[some] if kind in MEASURED else values[some] != 0
    if batch.random is not None:
        found["random"] = batch.random[some]
    if batch.duration is not None:
        found["duration"] = batch.duration[some]
    return found


def _codes(ids: list[str], known: dict[str, int]) -> Codes:
    code = known.setdefault
    return np.array([code(one, len(known)) for one in ids], dtype=np.int32)


def _rows(
    log: Log, units: dict[str, int], items: dict[str, int], columns: dict[str, npt.NDArray[np.generic]]
) -> Rows:
    """Put the ids in ascending order; a log without such rows gives empty columns."""
    (own, unit), (others, item) = (
        _ascending(ids, columns.get(name, np.empty(0))) for ids, name in ((units, "unit"), (items, "item"))
    )
    dtypes = {kind: np.float64 if kind in MEASURED else np.bool_ for kind in sorted(log.summary.kinds)}
    feedback: dict[str, Bools | Floats] = {
        kind: columns.get(f"feedback {kind}", np.empty(0)).astype(dtype, copy=False)
        for kind, dtype in dtypes.items()
    }
    random, duration = columns.get("random"), columns.get("duration")
    return Rows(
        units=own,
        items=others,
        unit=unit,
        item=item,
        ts=columns.get("ts", np.empty(0)).astype(np.int64, copy=False),
        feedback=feedback,
        random=None if random is None else random.astype(np.bool_, copy=False),
        duration=None if duration is None else duration.astype(np.float64, copy=False),
    )


def _ascending(ids: dict[str, int], codes: npt.NDArray[np.generic]) -> tuple[tuple[str, ...], Codes]:
    """Give ids in ascending order, and the places in it of codes that count ids as they came."""
    names = tuple(sorted(ids))
    place = np.empty(len(names), dtype=np.int32)
    place[[ids[name] for name in names]] = np.arange(len(names), dtype=np.int32)
    return names, place[codes.astype(np.int64, copy=False)]
