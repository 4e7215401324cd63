"""Randomly exposed rows of KuaiRand-form logs: each shows a uniform draw of a pool, whoever is asked.

An arm is asked as a replay does in `match`: once a session, with the unit's behaviours before it, for slates
of its whole catalogue.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from armlift.arm import Arm, Behaviour, Request
from armlift.errors import InputError
from armlift.events import request_identity
from armlift.logs.reader import Log
from armlift.logs.sessions import Session, sessions
from armlift.offpolicy.logged_rows import (
    ITEM,
    POSITION,
    PROPENSITY,
    REWARD,
    UNIT,
    LoggedRows,
    rows_of,
)
from armlift.offpolicy.policies import SlatePolicy

GAP_MS = 30 * 60_000
BATCH = 256
"""Requests that an arm answers at a time."""

Ask = Callable[[Sequence[Request]], list[Sequence[str]]]


class Settings(NamedTuple):
    """How an arm is asked: items a slate has, and behaviours of a history, from the cut (UTC ms) on."""

    k: int = 10
    history_limit: int = 1000
    start: int = 0


@dataclass(frozen=True)
class _Shown:
    """A randomly exposed row, and the number of its session among those with such rows."""

    unit: str
    item: str
    reward: float
    request: int


def random_rows(log: Log, kind: str, *, start: int = 0, pool: int | None = None) -> LoggedRows:
    """Give the randomly exposed rows from `start` (UTC milliseconds) on; the reward is the kind's value.

    Each has the propensity 1 / pool; by default the pool is the number of distinct videos of all random rows.
    Raises InputError where there are none, the log does not tell of the kind, or shows more than the pool.
    """
    rows, _ = _rows(log, kind, pool, Settings(start=start), None)
    return rows


def rows_and_slates(
    log: Log, kind: str, arm: Arm, settings: Settings, *, pool: int | None = None
) -> tuple[LoggedRows, SlatePolicy]:
    """Give the randomly exposed rows from the start on, and the arm as the policy that answers them."""

    def ask(requests: Sequence[Request]) -> list[Sequence[str]]:
        return [slate.items for slate in arm.recommend(requests)]

    rows, slates = _rows(log, kind, pool, settings, ask)
    rows = rows.widened(item for slate in slates for item in slate)
    index = {item: place for place, item in enumerate(rows.catalogue)}
    table = np.full((len(slates), settings.k), -1, dtype=np.intp)
    for number, slate in enumerate(slates):
        table[number, : len(slate)] = [index[item] for item in slate]
    asked = rows.requests
    assert asked is not None
    name = f"{arm.config.name} {arm.version}"
    return replace(rows, requests=None), SlatePolicy(name, table, asked.astype(np.intp))


def _rows(
    log: Log, kind: str, pool: int | None, settings: Settings, ask: Ask | None
) -> tuple[LoggedRows, list[Sequence[str]]]:
    """Go over the log once: rows, whose `requests` are numbers of slates, and the slates."""
    if not log.summary.random_rows:
        raise InputError(
            f"{log.summary.files[0]}: has no randomly exposed rows (is_rand = 1), and so no propensities"
        )
    if kind not in log.summary.kinds:
        told = ", ".join(sorted(log.summary.kinds))
        raise InputError(f"--reward {kind}: the log does not tell of it, must be one of {told}")
    pass_ = _Pass(log, kind, settings, ask)
    shown = list(pass_.shown())
    if not shown:
        raise InputError(f"{log.summary.files[0]}: has no randomly exposed rows from the cut on")
    size = len(pass_.pool) if pool is None else pool
    if size < len(pass_.pool):
        raise InputError(f"--pool {size}: the random rows show {len(pass_.pool)} videos, must be as many")
    frame = pl.DataFrame(
        {
            UNIT: [one.unit for one in shown],
            ITEM: [one.item for one in shown],
            POSITION: [0] * len(shown),
            REWARD: [one.reward for one in shown],
            PROPENSITY: [1.0 / size] * len(shown),
        }
    )
    # What the pool holds and no row shows has no name, but a policy may show it.
    unseen = (f"unseen {number}" for number in range(size - len(pass_.pool)))
    notes = [f"each propensity is 1 / {size:,}"]
    if log.summary.synthetic:
        notes.append("SYNTHETIC DATA: users are simulated, these figures say nothing of real ones")
    made = rows_of(frame, "random exposure", "users", notes=tuple(notes))
    requests = np.array([one.request for one in shown], dtype=np.uint64)
    made = replace(made.widened([*pass_.pool, *unseen]), requests=requests, dropped=dict(log.dropped))
    return (made if ask is not None else replace(made, requests=None)), pass_.slates


class _Pass:
    """One pass over a log: its random rows from the start on, and answers to their sessions."""

    def __init__(self, log: Log, kind: str, settings: Settings, ask: Ask | None) -> None:
        self._log, self._kind, self._settings, self._ask = log, kind, settings, ask
        self._histories: dict[str, deque[Behaviour]] = {}
        self._waiting: list[Request] = []
        self.pool: set[str] = set()
        self.slates: list[Sequence[str]] = []

    def shown(self) -> Iterator[_Shown]:
        """Give the random rows; `pool` and `slates` are complete at the end."""
        number = 0
        for session in sessions(self._log.batches(), GAP_MS, cut=self._settings.start):
            random = [one for one in session.impressions if one.random]
            self.pool.update(one.item for one in random)
            if random and session.impressions[0].ts >= self._settings.start:
                for one in random:
                    yield _Shown(session.unit, one.item, dict(one.feedback).get(self._kind, 0.0), number)
                self._wait(session)
                number += 1
            if self._ask is not None:
                self._remember(session)
        self._answer()

    def _wait(self, session: Session) -> None:
        if self._ask is None:
            return
        unit, ts = session.unit, session.impressions[0].ts
        history = tuple(self._histories.get(unit, ()))
        identity = request_identity(ts, f"ope|{unit}|{ts}")
        self._waiting.append(Request(identity, unit, ts, self._settings.k, history))
        if len(self._waiting) >= BATCH:
            self._answer()

    def _answer(self) -> None:
        if self._ask is not None and self._waiting:
            self.slates += self._ask(self._waiting)
            self._waiting = []

    def _remember(self, session: Session) -> None:
        limit = self._settings.history_limit
        history = self._histories.setdefault(session.unit, deque(maxlen=limit))
        for item, ts, _, feedback in session.impressions:
            history.extend(Behaviour(item, kind, value, ts) for kind, value in feedback)
