"""A log cut in time: arms are fitted on what is before, and asked for what each unit takes first after it."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from armlift.arm import History, ItemTable, Request
from armlift.errors import InputError
from armlift.heldout import DEEPEST, Asked
from armlift.logs.reader import Log
from armlift.training import TrainingData


class Later(NamedTuple):
    """A behaviour after the cut."""

    item: str
    kind: str
    ts: int


class TimeSplit:
    """What of a log is held out: each unit's first behaviour of some kinds, from the cut on, on a new item.

    New is what the unit has no behaviour on before the cut. The history told is the one before the cut. Units
    without a behaviour of these kinds before the cut, or without such a one after it, are skipped. A target
    that no row before the cut shows is in no catalogue, and missed; `unknown` counts them.
    """

    split = "time"

    def __init__(
        self, training: TrainingData, later: Mapping[str, list[Later]], kinds: frozenset[str], file_hash: str
    ) -> None:
        self._training, self._later, self._kinds = training, later, kinds
        self.file_hash = file_hash
        if not self.tested:
            raise InputError(
                f"{', '.join(sorted(kinds))}: no unit has such a behaviour before the cut, and one "
                f"on an item new to it after the cut: there is nothing to test"
            )

    @property
    def items(self) -> ItemTable:
        """Give the catalogue: every item that a row before the cut shows."""
        return self._training.items

    @property
    def until(self) -> int:
        """Give the cut, UTC milliseconds."""
        return self._training.until

    @property
    def data_hash(self) -> str:
        """Hash what is trained on: the log and the cut."""
        return self._training.data_hash

    @property
    def tested(self) -> int:
        """Count the units that are asked for."""
        return self._counts[0]

    @property
    def skipped(self) -> int:
        """Count the units before the cut that are not."""
        return self._counts[1] - self._counts[0]

    @property
    def unknown(self) -> int:
        """Count the targets that are in no catalogue."""
        return self._counts[2]

    @cached_property
    def _counts(self) -> tuple[int, int, int]:
        known = set(self.items.ids)
        units = sum(1 for _ in self.histories())
        targets = [one.target for one in self.asked()]
        return len(targets), units, sum(target not in known for target in targets)

    def histories(self) -> Iterator[History]:
        """Give the histories before the cut."""
        return self._training.histories()

    def asked(self) -> Iterator[Asked]:
        """Make the request of each unit that is tested, in the order of `histories`."""
        for unit, behaviours in self.histories():
            if not any(behaviour.kind in self._kinds for behaviour in behaviours):
                continue
            met = {behaviour.item for behaviour in behaviours}
            for item, kind, ts in self._later.get(unit, ()):
                if kind in self._kinds and item not in met:
                    yield Asked(Request(unit, unit, ts, DEEPEST, behaviours), item)
                    break


class LogSource:
    """A log and a cut (UTC milliseconds) as the source of a study; one pass before the cut, one after it.

    Memory holds the behaviours after the cut. Raises InputError for a cut that leaves no row on one side.
    """

    def __init__(self, log: Log, until: int) -> None:
        first, last = log.summary.first_ts, log.summary.last_ts
        if not first < until <= last:
            raise InputError(f"the cut must leave rows of the log on both sides, {until} does not")
        self.kinds = log.summary.kinds
        self._log, self._until = log, until
        self._splits: dict[frozenset[str], TimeSplit] = {}

    def data(self, kinds: Iterable[str]) -> TimeSplit | None:
        """Hold behaviours of some kinds out; None where the log tells of none of them."""
        wanted = self.kinds & {*kinds}
        if not wanted:
            return None
        if wanted not in self._splits:
            file_hash = self._log.summary.sha256
            self._splits[wanted] = TimeSplit(self._training, self._later, wanted, file_hash)
        return self._splits[wanted]

    @property
    def notes(self) -> tuple[str, ...]:
        """Tell what must be known of the data that were asked for."""
        return tuple(
            f"{', '.join(sorted(kinds))}: {found.unknown:,} of {found.tested:,} targets are items that no "
            f"row before the cut shows; they count as missed"
            for kinds, found in self._splits.items()
            if found.unknown
        )

    def close(self) -> None:
        """Remove temporary files."""
        if "_training" in self.__dict__:
            self._training.close()

    @cached_property
    def _training(self) -> TrainingData:
        return TrainingData(self._log, self._until)

    @cached_property
    def _later(self) -> dict[str, list[Later]]:
        found: dict[str, list[Later]] = {}
        for batch in self._log.batches():
            start = int(np.searchsorted(batch.ts, self._until))
            happened = [
                (row, kind)
                for kind, values in batch.feedback.items()
                for row in (np.flatnonzero(values[start:]) + start).tolist()
            ]
            for row, kind in sorted(happened):
                later = Later(batch.items[row], kind, int(batch.ts[row]))
                found.setdefault(batch.units[row], []).append(later)
        return found
