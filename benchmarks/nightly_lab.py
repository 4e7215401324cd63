"""A lab whose simulated users live for a week: all stock arms in one experiment, nights between the days."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.arm import Arm, Request, Slate
from armlift.lab import Lab, init_lab
from armlift.runs import Run
from armlift.simulation.laboratory import Size
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream
from armlift_pipelines.history import line
from armlift_pipelines.job_runs import JobRun
from armlift_pipelines.rehearsal import Rehearsal

ARMS = ("random", "popularity", "covisitation", "sasrec", "comirec", "recgpt1", "recgpt")
CONTROL, EXPERIMENT = "popularity", "week"
_SHORT = {"dim": 32, "length": 20, "batch_tokens": 2048, "negatives": 256, "epochs": 12, "patience": 3}
_DECODER = {**_SHORT, "heads": 1, "learning_rate": 0.002}
SMALLER: Mapping[str, Mapping[str, float]] = {
    "sasrec": _DECODER,
    "comirec": _SHORT,
    "recgpt1": {**_DECODER, "pretraining_epochs": 4},
    "recgpt": {**_DECODER, "pretraining_epochs": 4},
}
"""What is made smaller in stock definitions, by which a night takes a quarter of the time."""
_WORLD = """
name: {name}
arms: {{{arms}}}
control: {control}
metrics: {{primary: [click_rate], secondary: [long_view_rate, clicks, active_days]}}
simulation:
  {{history_days: {past}, sessions_per_day: 1.5, rows_per_session: 10, videos: 600, taste_categories: 12}}
"""


class Met(NamedTuple):
    """The first slate that an arm gave a unit on a day: had it the unit's stored prompts in view?"""

    unit: str
    prompted: bool


class Week(NamedTuple):
    """What a week came to: `first` holds the first slates by (day, arm), also those asked for to compare."""

    lab: Lab
    engine: Engine
    run: Run
    first: Mapping[tuple[int, str], Mapping[str, Met]]
    seconds: float


def make_lab(
    folder: Path, *, arms: Sequence[str] = ARMS, control: str = CONTROL, past: int = 4,
    smaller: Mapping[str, Mapping[str, float]] | None = None,
) -> Lab:  # fmt: skip
    """Make a lab of stock arms with one experiment, whose nights' data sets are all kept."""
    if not (folder / "armlift.toml").exists():
        init_lab(folder)
        for path in (folder / "experiments").glob("*.yaml"):
            path.unlink()
        weights = ", ".join(f"{arm}: 1" for arm in arms)
        text = _WORLD.format(name=EXPERIMENT, arms=weights, control=control, past=past)
        (folder / "experiments" / f"{EXPERIMENT}.yaml").write_text(text, encoding="utf-8")
        nightly = folder / "nightly.yaml"
        kept = nightly.read_text(encoding="utf-8").replace("datasets: 3", "datasets: 30")
        nightly.write_text(kept, encoding="utf-8")
        for arm, changes in (SMALLER if smaller is None else smaller).items():
            change(folder / "arms" / f"{arm}.yaml", changes)
    return Lab(folder)


def change(path: Path, changes: Mapping[str, float]) -> None:
    """Change settings in an arm's definition."""
    text = path.read_text(encoding="utf-8")
    for name, value in changes.items():
        text, found = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.M)
        assert found == 1, name
    path.write_text(text, encoding="utf-8")


class Watched(Rehearsal):
    """A rehearsal that notes the first slate an arm gives each unit on a day."""

    first: dict[tuple[int, str], dict[str, Met]]
    _today: int

    def _night(self, day: int) -> Mapping[str, Arm]:
        arms = super()._night(day)
        self._today = day
        return arms

    def _arm(self, name: str, when: date) -> Arm:
        known = self._loaded.get(name)
        arm = super()._arm(name, when)
        if arm is not known and "prompts" in arm.capabilities:
            self._note(name, arm)
        return arm

    def _note(self, name: str, arm: Arm) -> None:
        recommend = arm.recommend

        def noting(requests: Sequence[Request]) -> list[Slate]:
            slates = recommend(requests)
            met = self.first.setdefault((self._today, name), {})
            for request, slate in zip(requests, slates, strict=True):
                if request.unit not in met:
                    met[request.unit] = Met(request.unit, any(one.stored for one in slate.prompts))
            return slates

        arm.recommend = noting  # type: ignore[method-assign]


def live(lab: Lab, size: Size) -> Week:
    """Let users live through their days; a week that was broken off is completed."""
    engine = open_database(lab, create=True)
    rehearsal = Watched(lab, lab.experiment(EXPERIMENT), size, engine, tell=_tell)
    rehearsal.first = {}
    begin = time.perf_counter()
    with EmbeddedStream(lab.folder / "stream") as stream:
        run = rehearsal.run(stream)
    return Week(lab, engine, run, rehearsal.first, time.perf_counter() - begin)


def _tell(one: JobRun) -> None:
    print(line(one), flush=True)
