"""A lab with live experiments, and users who come to it hour by hour: for tests and figures of the guard."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from armlift import running
from armlift.events import (
    Codec,
    Event,
    Exposure,
    Feedback,
    Impression,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import Ingester
from armlift.lab import Lab
from armlift.runs import LIVE, Subjects
from armlift.splitter import assign_many
from armlift.store.database import connect, reading, upgrade, writing
from armlift.streams.embedded import EmbeddedStream

START = 1_700_002_800_000
"""When experiments begin: 2023-11-14, at a full hour."""
HOUR = 3_600_000
SHOWN = 6
"""Items a visit shows."""
CLICKS, SPREAD = 0.3, 10.0
"""Users' mean chance to click, and how alike they are: the sum of the beta distribution's parameters."""
METRICS = """
clicks: {kind: mean, of: {event: click}}
click_rate:
  {kind: ratio, margin: 0.02, numerator: {event: click}, denominator: {event: impression}}
"""
EXPERIMENT = """
name: %s
arms: {old: 1, new: 1}
control: old
layer: {name: %s}
metrics: {primary: [clicks], guardrails: [click_rate]}
"""


def make_lab(folder: Path, names: Sequence[str] = ("one",)) -> Lab:
    """Make a lab of two arms and experiments on them, each in a layer of its own."""
    texts = {
        "armlift.toml": 'default_arm = "old"\n',
        "metrics.yaml": METRICS,
        **{f"arms/{arm}.yaml": f"name: {arm}\nmodel: random\n" for arm in ("old", "new")},
        **{f"experiments/{name}.yaml": EXPERIMENT % (name, name) for name in names},
    }
    for file, text in texts.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Lab(folder)


def start_all(lab: Lab, engine: Engine) -> None:
    """Start every experiment of a lab."""
    with writing(engine) as connection:
        for name in lab.experiment_names():
            running.start(connection, lab, name, reason="to see", by="ada", at=START)


@contextmanager
def live() -> Iterator[tuple[Lab, Engine]]:
    """Give a lab whose one experiment runs, with an SQLite database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(Path(folder))
        engine = connect("sqlite:///live.db", lab.folder)
        upgrade(engine)
        start_all(lab, engine)
        try:
            yield lab, engine
        finally:
            engine.dispose()


@dataclass
class Crowd:
    """Users of a lab: some are new every hour, and three in ten come back the hour after.

    Arm `new` changes users' chance to click by the factor 1 + `effect`; a share `lost` of its exposures never
    arrives, and a share `failing` of its requests is answered by a fallback. `exposed` counts the exposures
    that arrived in the last hour, by arm; `units` those in all, by experiment and arm.
    """

    lab: Lab
    engine: Engine
    ingester: Ingester
    stream: EmbeddedStream
    seed: int
    per_hour: int
    effect: float = 0.0
    lost: float = 0.0
    failing: float = 0.0
    hours: int = 0
    exposed: dict[str, int] = field(default_factory=dict)
    units: dict[tuple[str, str], int] = field(default_factory=dict)
    met: dict[tuple[str, str], str] = field(default_factory=dict)
    back: list[str] = field(default_factory=list)

    @property
    def now(self) -> int:
        """Give the time at the end of the last hour."""
        return START + self.hours * HOUR - 1

    def hour(self) -> None:
        """Let an hour pass: users come, and what they do is ingested."""
        rng = np.random.default_rng((self.seed, self.hours))
        begin = START + self.hours * HOUR
        first = self.hours * self.per_hour
        fresh = [f"s{self.seed}u{number}" for number in range(first, first + self.per_hour)]
        units = [*fresh, *self.back]
        times = begin + np.sort(rng.integers(0, HOUR, len(units)))
        arms = self._arms(units, begin)
        self.exposed = {}
        codec = Codec(self.lab.settings.kinds.names)
        for place, (unit, ts) in enumerate(zip(units, times.tolist(), strict=True)):
            own = {name: arm for name, chosen in arms.items() if (arm := chosen[place]) is not None}
            self.stream.publish(unit, codec.encode(self._visit(rng, unit, ts, own)))
        self.stream.flush()
        self.ingester.drain()
        self.back = [unit for unit in fresh if rng.random() < 0.3]
        self.hours += 1

    def _arms(self, units: Sequence[str], ts: int) -> dict[str, list[str | None]]:
        """Ask the splitter, with the experiments as they are in SQL."""
        found = {}
        with reading(self.engine) as connection:
            started = running.every(connection)
        for one in started:
            phase = one.phase_at(ts)
            assert phase is not None
            stored = [self.met.get((one.name, unit)) for unit in units]
            given = assign_many(one.split(self.lab), phase, units, stored=stored)
            found[one.name] = [
                given.arms[arm] if exposed else None
                for arm, exposed in zip(given.arm.tolist(), given.exposed.tolist(), strict=True)
            ]
        return found

    def _visit(self, rng: np.random.Generator, unit: str, ts: int, arms: Mapping[str, str]) -> list[Event]:
        """Give the events of a visit; where several experiments run, the first one's arm answers."""
        arm = next(iter(arms.values()), self.lab.settings.default_arm)
        failed = arm == "new" and rng.random() < self.failing
        lost = arm == "new" and rng.random() < self.lost
        made: list[Event] = []
        for name, own in () if lost else arms.items():
            made += self._expose(name, unit, own, ts)
        request = request_identity(ts, f"{unit}|{ts}")
        chance = rng.beta(CLICKS * SPREAD, (1 - CLICKS) * SPREAD) * (1 + self.effect * (arm == "new"))
        clicked = rng.random(SHOWN) < chance
        for place in range(SHOWN):
            item = f"i{place}"
            what = (request, unit, arm, "v", item, place, 0, None, None, failed)
            made.append(Impression(impression_identity(request, item), LIVE, ts, *what))
            if clicked[place]:
                did = (request, unit, item, "click", 1.0)
                made.append(Feedback(feedback_identity(request, item, "click", 0), LIVE, ts, *did))
        return made

    def _expose(self, name: str, unit: str, arm: str, ts: int) -> Iterator[Event]:
        """Give the exposure of a unit that has not met its arm before."""
        if (name, unit) not in self.met:
            self.met[name, unit] = arm
            self.exposed[arm] = self.exposed.get(arm, 0) + 1
            self.units[name, arm] = self.units.get((name, arm), 0) + 1
            yield Exposure(exposure_identity(ts, LIVE, unit, name, arm), LIVE, ts, unit, name, 0, 0, arm, "v")


@contextmanager
def crowd(
    lab: Lab, engine: Engine, *, seed: int, per_hour: int, effect: float = 0.0, lost: float = 0.0,
    failing: float = 0.0,
) -> Iterator[Crowd]:  # fmt: skip
    """Give users of a lab, with a stream of their own."""
    with EmbeddedStream(lab.folder / f"stream{seed}") as stream:
        codec = Codec(lab.settings.kinds.names)
        ingester = Ingester(engine, stream, codec, lab.calendar, Subjects())
        yield Crowd(lab, engine, ingester, stream, seed, per_hour, effect, lost, failing)
