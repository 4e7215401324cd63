"""Units: what serving knows of those it answers, a bounded memory over the database.

What a unit does is told by its events the moment they are accepted (`apply`), long before they are stored;
what it did before is read from the database at its first request. The two are joined by the ids of events
whenever a unit is asked for, so that it does not matter which came first.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.arm import Behaviour
from armlift.events import Alias, Event, Exposure, Feedback, happened
from armlift.forgotten import Forgotten
from armlift.serving.unit_memory import NOTHING, Key, Parts, UnitMemory, earliest, pack
from armlift.serving.unit_rows import Did, Found, Merge, Met, UnitRows
from armlift.splitter import Assignment

MOST = 50_000
"""Units that are kept in memory."""
_TIMES = 3
"""Times that units are read, at most, when some are merged meanwhile."""


class Unit(NamedTuple):
    """What an answer needs to know of a unit.

    `history` is its latest behaviours of all kinds, oldest first: by time, then item, kind and value.
    `exposed` holds, by experiment, its first exposure that was not forced, as `splitter.assign` takes it for
    `stored`. `attributes` are those stored for the run. An id that was merged into a unit is that unit, whose
    name is `counts_as`; for others it is their own.
    """

    history: tuple[Behaviour, ...]
    exposed: Mapping[str, Assignment]
    attributes: Mapping[str, str]
    counts_as: str


class UnitFigures(NamedTuple):
    """How the memory fares: ids it holds now; then, counted since its start, units that were in it when asked
    for (`hits`) or had to be read (`misses`), how often the database was asked, entries that made room for
    others, and how many of these held events so young that they may not be in the database yet.
    """

    units: int
    hits: int
    misses: int
    reads: int
    evicted: int
    evicted_young: int


class Units:
    """Knows units by (run, id), the newest `limit` behaviours of each, at most `most` of them in memory.

    Several threads may share it. Only what is asked for or told is here; who was used longest ago goes first.
    """

    def __init__(
        self, engine: Engine, *, limit: int, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rows = UnitRows(engine, limit)
        self._limit = limit
        self._lock = threading.Lock()
        self._memory = UnitMemory(limit, most, clock)
        self._changes = 0
        """Counts what makes rows that were read before it useless: merges, and `forget_read`."""
        self._forgotten = Forgotten()
        self._reading = 0
        self._hits = self._misses = self._reads = 0

    @property
    def figures(self) -> UnitFigures:
        """Give the figures at this moment."""
        with self._lock:
            return UnitFigures(len(self._memory), self._hits, self._misses, self._reads, *self._memory.lost)

    def known(self, run: str, unit: str) -> Unit | None:
        """Give a unit from memory alone; None where it has not been read, also where events were told."""
        with self._lock:
            parts = self._memory.find((run, unit))
            self._hits += parts is not None
        return None if parts is None else self._join(parts)

    def read(self, keys: Sequence[tuple[str, str]]) -> list[Unit]:
        """Give units, one for each (run, id): from memory, and all others by one set of queries a run.

        A unit that nobody has heard of has an empty history. Raises what the database raises
        (`DATABASE_ERRORS`); what was told of the units is kept.
        """
        found: dict[Key, Parts] = {}
        with self._lock:
            missing, changes = self._look(dict.fromkeys(keys), found), self._changes
            self._hits += len(found)
            self._misses += len(missing)
            self._reading += 1
        try:
            for times in range(_TIMES):
                if not missing:
                    break
                rows = self._ask(missing)
                with self._lock:
                    same, changes = changes == self._changes, self._changes
                    if same or times == _TIMES - 1:
                        self._take(rows, found, keep=same)
                        break
        finally:
            with self._lock:
                self._reading -= 1
        return [self._join(found[key]) for key in keys]

    def apply(self, events: Iterable[Event]) -> None:
        """Let events count at once; those that count already change nothing.

        Impressions and forced exposures say nothing of a unit, and are left out; so is what was forgotten.
        """
        did: defaultdict[Key, list[Did]] = defaultdict(list)
        met: defaultdict[Key, dict[str, Met]] = defaultdict(dict)
        for event in self._lasting(events):
            key = (event.run, event.unit_id)
            if type(event) is Feedback:
                identity = bytes.fromhex(event.event_id)
                did[key].append(Did(event.ts, event.item_id, event.kind, float(event.value), identity))
            elif type(event) is Exposure and not event.forced:
                first = Met(event.ts, event.arm, event.phase, event.generation)
                met[key] = earliest(met[key], {event.experiment: first})
            elif type(event) is Alias:
                with self._lock:
                    merge = Merge(event.anonymous_id, event.ts, event.unit_id)
                    self._changes += self._memory.merge(event.run, merge)
        for key in {**did, **met}:
            with self._lock:
                self._memory.tell(key, did.get(key, ()), met.get(key, NOTHING))

    def forget(self, forgotten: Forgotten) -> None:
        """Forget what units did before they were forgotten, now and where it is told later."""
        self._forgotten = forgotten
        with self._lock:
            keys = self._memory.keys()
        gone = forgotten.among({unit for _, unit in keys})
        with self._lock:
            self._changes += 1
            for key in keys:
                if key[1] in gone:
                    self._memory.erase(key, gone[key[1]].at)

    def _lasting(self, events: Iterable[Event]) -> Iterable[Event]:
        """Leave out events of before their unit was forgotten."""
        if not self._forgotten:
            return events
        return [one for one in events if not any(self._forgotten.covers(*at) for at in happened(one))]

    def forget_read(self) -> None:
        """Read every unit anew at its next use; what was told of them and may not be stored yet is kept."""
        with self._lock:
            self._changes += 1
            self._memory.forget_read()

    def _look(self, keys: Iterable[Key], found: dict[Key, Parts]) -> list[Key]:
        missing = []
        for key in keys:
            parts = self._memory.find(key)
            if parts is None:
                missing.append(key)
            else:
                found[key] = parts
        return missing

    def _ask(self, keys: Sequence[Key]) -> dict[str, Found]:
        """Read units from the database, run by run."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for run, unit in keys:
            ids[run].append(unit)
        with self._lock:
            self._reads += len(ids)
        return {run: self._rows.read(run, some, self._merges) for run, some in ids.items()}

    def _merges(self, run: str, ids: Iterable[str]) -> list[Merge]:
        with self._lock:
            return [*self._memory.merges(run, ids)]

    def _take(self, rows: Mapping[str, Found], found: dict[Key, Parts], *, keep: bool) -> None:
        """Put what was read together with what was told meanwhile, and keep it if nothing spoke against."""
        # What another reads at this time may be older: it would lack what is no longer kept apart here.
        settle = self._reading == 1
        for run, (unit_of, stored) in rows.items():
            packed = {unit: pack(one) for unit, one in stored.items()}
            for unit, one in stored.items():
                if keep:
                    self._memory.keep((run, unit), one, packed[unit], settle=settle)
            for asked, unit in unit_of.items():
                found[run, asked] = self._memory.around((run, unit), stored[unit].ids, packed[unit])
        self._memory.trim()

    def _join(self, parts: Parts) -> Unit:
        stored = parts.join(self._limit)
        history = tuple([Behaviour(one.item, one.kind, one.value, one.ts) for one in stored.did])
        exposed = {
            name: Assignment(met.arm, True, "stored", met.phase, met.generation)
            for name, met in stored.met.items()
        }
        return Unit(history, exposed, stored.attributes, parts.unit)
