"""Units that act at random, for tests of data sets: what these must hold is told in plain Python too."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from sqlalchemy import Engine

from armlift.arm import Behaviour
from armlift.days import utc_day
from armlift.hashing import places_of
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.sink import insert_new
from armlift_pipelines.dataset import Span

TICK = 300_000
"""Milliseconds; everything happens in the first 1,100 of them, which are four days."""
SPAN = Span("live", 50 * TICK, 900 * TICK, 1000 * TICK)
ARMS = ("A", "B", "C")
UNITS = 120


class World:
    """Units of one of three unequal arms or none, some of which acted under another id at first."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.acts: dict[str, list[Behaviour]] = defaultdict(list)
        self.met: dict[str, tuple[str, int]] = {}
        for number in range(UNITS):
            unit = f"unit-{number}"
            arm = [None, *ARMS][rng.choice(4, p=[0.2, 0.5, 0.2, 0.1])]
            if arm is not None:
                self.met[unit] = (arm, TICK * int(rng.integers(100, 1000)))
            for _ in range(rng.integers(0, 25)):
                item = f"{rng.choice(['x', arm or 'x'])}{rng.zipf(1.7) % 30}"
                kind, value = str(rng.choice(["click", "like"])), float(rng.integers(3))
                self.acts[unit].append(Behaviour(item, kind, value, TICK * int(rng.integers(1100))))

    def fill(self, engine: Engine, leave_out: str | None = None) -> None:
        """Write the events of all units, or of all but one, into a database."""
        units = [unit for unit in self.acts if unit != leave_out]
        with writing(engine) as connection:
            for table, rows in (
                (tables.feedback, self._feedback(units)),
                (tables.exposures, self._exposures(units)),
                (tables.impressions, self._impressions(units)),
            ):
                insert_new(connection, table, list(rows))
            merged = [
                {"run": "live", "anonymous_id": f"guest of {unit}", "ts": 7, "unit_id": unit}
                for unit in units
            ]
            connection.execute(tables.aliases.insert(), merged)

    def _feedback(self, units: list[str]) -> Iterator[tuple[object, ...]]:
        for unit in units:
            for n, (item, kind, value, ts) in enumerate(self.acts[unit]):
                # Clocks differ: some requests are of the next day.
                day, who = utc_day(ts) + (n % 5 == 0), f"guest of {unit}" if n < 3 else unit
                yield (day, utc_day(ts), f"{unit}/{n}", "live", ts, "r", who, item, kind, value, 0)

    def _exposures(self, units: list[str]) -> Iterator[tuple[object, ...]]:
        for unit in units:
            arm, at = self.met.get(unit, ("", 0))
            for n, ts in enumerate((at, at + 1) if arm else ()):
                identity, day = f"{unit}/{n}", utc_day(ts)
                yield (day, day, identity, "live", ts, unit, "e", 0, 0, arm, "v", False, False)

    def _impressions(self, units: list[str]) -> Iterator[tuple[object, ...]]:
        ts = 950 * TICK
        for unit in units:
            for n, item in enumerate(("x1", "x2", "x1")):
                place = (utc_day(ts), utc_day(ts), f"{unit}/{n}", "live", ts, "r", unit)
                yield (*place, "A", "v", item, n, 0, None, None, False)

    def learnt(self) -> Iterator[tuple[str, list[Behaviour], str | None, int | None]]:
        """Give what a data set must: each unit's behaviours before the cut, the arm it had met by then."""
        units = list(self.acts)
        for _, unit in sorted(zip(places_of(units).tolist(), units, strict=True)):
            acts = [one for one in self.acts[unit] if SPAN.first <= one.ts < SPAN.until]
            acts.sort(key=lambda one: (one.ts, one.item, one.kind, one.value))
            arm, ts = self.met.get(unit, (None, None))
            if acts:
                yield (
                    (unit, acts, arm, ts) if ts is not None and ts < SPAN.until else (unit, acts, None, None)
                )
