"""Live experiments: their definitions in memory, looked for anew every second, for pure assignment."""

import logging
import threading
from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from armlift.hashing import key_of, mix
from armlift.lab import Lab
from armlift.refreshing import Refreshing, line_of
from armlift.runs import LIVE
from armlift.splitter import Assignment, Split, assign
from armlift.started import RunningExperiment, every
from armlift.store.database import DATABASE_ERRORS
from armlift.store.tables import audit_log

logger = logging.getLogger("armlift.serve")
CHECK_EVERY = 1.0
"""Seconds between two looks for what has changed."""
SILENT_AFTER = 3.0
"""Seconds after which a database that has not answered counts as away."""
BEFORE = "before_first_phase"
"""The rule of a unit that comes before its experiment begins."""
UNKNOWN = "unknown"
"""The rule of a unit that may keep an arm from an earlier phase, where the database cannot tell."""
NONE = "no_experiment"
"""The rule of a unit that no experiment of a layer takes in."""


class Live(NamedTuple):
    """An experiment that was started, ready for assignment."""

    running: RunningExperiment
    split: Split

    @property
    def name(self) -> str:
        """Give the experiment's name."""
        return self.running.name

    def looks_up(self, now: int) -> bool:
        """Tell whether the database must be asked for a unit: what it met before, or its attributes."""
        return (self.running.phase_at(now) or 0) > 0 or self.split.audience is not None

    def assign(
        self, unit: str, now: int, attributes: Mapping[str, object], stored: Assignment | None,
        *, forced: str | None = None, known: bool = True,
    ) -> Assignment:  # fmt: skip
        """Assign a unit at a time (UTC milliseconds).

        `stored` is its first exposed assignment, where that is `known`. Where it is not, a unit that an
        earlier phase would have given another arm gets the default arm, unexposed.
        """
        phase = self.running.phase_at(now)
        if phase is None:
            return Assignment(self.split.default_arm, False, BEFORE, 0, 0)
        found = assign(self.split, phase, unit, attributes, stored=stored, forced=forced)
        if known or found.rule not in ("range", "outside"):
            return found
        earlier = (assign(self.split, one, unit, attributes) for one in range(phase))
        if any(one.exposed and one.arm != found.arm for one in earlier):
            return found._replace(arm=self.split.default_arm, exposed=False, rule=UNKNOWN)
        return found


class LiveExperiments(Refreshing):
    """The experiments that were started, as they are in SQL; several threads may share them.

    In a `with` block, or between `start` and `stop`, changes are looked for every `check_every` seconds.
    While the database is away, what was known last holds; `failure` says so.
    """

    def __init__(self, lab: Lab, engine: Engine, *, check_every: float = CHECK_EVERY) -> None:
        super().__init__("live", check_every)
        self._lab, self._engine = lab, engine
        self._change: int | None = None
        self._failure: str | None = None
        self._looking = threading.Lock()
        self._asked: float | None = None
        self.all: Mapping[str, Live] = {}
        """By name."""
        self.read = False
        """Whether they were ever read."""

    @property
    def failure(self) -> str | None:
        """Say why they cannot be read now, also where the database has not answered for a while."""
        asked = self._asked
        if asked is not None and (silent := monotonic() - asked) > SILENT_AFTER:
            return f"the database has not answered for {silent:.0f} s"
        return self._failure

    @property
    def runs(self) -> frozenset[str]:
        """Name the runs that live events may bear."""
        return frozenset({LIVE, *(one.running.run for one in self.all.values())})

    def of_layer(self, layer: str, unit: str) -> Live | None:
        """Give the running experiment of a layer in whose slice a unit falls."""
        slot: int | None = None
        for one in self.all.values():
            if one.running.experiment.layer.name == layer and one.running.state == "running":
                slot = mix(key_of(unit) ^ one.split.layer_salt) if slot is None else slot
                if one.split.layer[0] <= slot < one.split.layer[1]:
                    return one
        return None

    def has_layer(self, layer: str) -> bool:
        """Tell whether an experiment of a layer was ever started."""
        return any(one.running.experiment.layer.name == layer for one in self.all.values())

    def refresh(self) -> None:
        """Read them anew where one has changed."""
        with self._looking:
            self._asked = monotonic()
            try:
                failure = self._look()
                if failure is not None and self._failure is None:
                    logger.warning("experiments cannot be read, what was known last holds: %s", failure)
                self._failure = failure
            finally:
                self._asked = None

    def _look(self) -> str | None:
        """Read them where one has changed; says why they cannot be read."""
        try:
            with self._engine.connect() as connection:
                # Whatever changes one of them writes to the audit log, in the same transaction.
                change = connection.scalar(select(func.max(audit_log.c.number)))
                if self.read and change == self._change:
                    return None
                found = every(connection)
        except DATABASE_ERRORS as error:
            return line_of(error)
        self.all = {one.name: Live(one, one.split(self._lab)) for one in found}
        self._change, self.read = change, True
        return None
