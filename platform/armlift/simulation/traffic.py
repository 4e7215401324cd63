"""Who meets which arm: the splitter's answers for a block of simulated users, or one arm for everybody."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armlift.audience import Columns
from armlift.simulation.draws import Ints
from armlift.splitter import RULES, Split, assign_many

NEVER = np.iinfo(np.int64).max
APP = -1
"""The number of the arm that is none: the app's own policy answers."""


@dataclass
class Traffic:
    """The arms of n users, by phase; arrays [n], or [phases, n].

    `starts` (UTC milliseconds) are those of the phases. `arm` is a user's arm, APP until its first exposure
    at `exposed` (UTC milliseconds, NEVER before), in `phase`. `rules` are the numbers in RULES of those that
    decided.
    """

    starts: Sequence[int]
    choices: npt.NDArray[np.int16]
    rules: npt.NDArray[np.int8]
    arm: npt.NDArray[np.int16]
    phase: npt.NDArray[np.int16]
    exposed: Ints

    @classmethod
    def split(
        cls, split: Split, starts: Sequence[int], units: Sequence[str], attributes: Columns | None
    ) -> "Traffic":
        """Let the splitter assign units."""
        found = [assign_many(split, phase, units, attributes) for phase in range(len(starts))]
        choices = [np.where(one.exposed, one.arm, APP).astype(np.int16) for one in found]
        return cls._of(starts, np.stack(choices), np.stack([one.rule for one in found]))

    @classmethod
    def everybody(cls, arm: int, count: int) -> "Traffic":
        """Give every user one arm from the first request on."""
        choices = np.full((1, count), arm, dtype=np.int16)
        return cls._of([0], choices, np.full((1, count), RULES.index("range"), dtype=np.int8))

    def deployed(self, arm: int) -> "Traffic":
        """Give everybody who may meet an arm this one instead, at the same times; nobody has come yet."""
        choices = np.where(self.choices >= 0, arm, APP).astype(np.int16)
        return self._of(self.starts, choices, self.rules)

    @classmethod
    def _of(
        cls, starts: Sequence[int], choices: npt.NDArray[np.int16], rules: npt.NDArray[np.int8]
    ) -> "Traffic":
        n = choices.shape[1]
        return cls(
            starts, choices, rules, np.full(n, APP, np.int16), np.zeros(n, np.int16), np.full(n, NEVER)
        )

    @property
    def ever(self) -> npt.NDArray[np.bool_]:
        """Tell who may meet an arm in some phase, bool [n]."""
        found: npt.NDArray[np.bool_] = np.any(self.choices >= 0, axis=0)
        return found

    def phase_at(self, now: Ints) -> Ints:
        """Give the phase at some times (UTC milliseconds [n]), -1 before the first."""
        found: Ints = np.searchsorted(np.asarray(self.starts), now, side="right") - 1
        return found

    def enter(self, rows: Ints, now: Ints) -> npt.NDArray[np.bool_]:
        """Let users ask at a time (UTC milliseconds [n]); tells whom that exposes first, bool [n]."""
        phase = self.phase_at(now)
        choice = np.where(phase >= 0, self.choices[phase, rows], APP)
        first: npt.NDArray[np.bool_] = (self.exposed[rows] == NEVER) & (choice >= 0)
        new = rows[first]
        self.arm[new], self.phase[new], self.exposed[new] = choice[first], phase[first], now[first]
        return first
