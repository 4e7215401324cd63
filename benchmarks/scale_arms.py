"""What a night costs an arm: a pass of training that goes on from a parent, prompts, and memory of the items.

    python scale_arms.py ARM UNITS ITEMS LAB > figures.json

measures one arm in this process, whose peak of memory it tells.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scale_meter import told

from armlift import prompts
from armlift.arm import Arm, Behaviour, History, ItemTable, Request, arm_class, new_arm
from armlift.artefacts import load_artefact, save_artefact
from armlift.days import utc_now
from armlift.evaluation import BATCH
from armlift.lab import Lab
from armlift.store.database import open_database, writing

ARMS = ("popularity", "sasrec", "recgpt")
LENGTH, FEW_UNITS = 50, 50
ITEMS, MANY_ITEMS = 12_000, 60_000
"""The catalogue of trainings, and one beside which their memory is held."""
ONCE = {"epochs": 1, "pretraining_epochs": 1}
Costs = dict[str, tuple[float, int]]


def measure(lab: Path, units: int) -> Costs:
    """Measure every arm with so many units, each in a process of its own."""
    found: Costs = {}
    for arm in ARMS:
        with told(f"{arm}, {units:,} units"):
            done = _alone(arm, units, ITEMS, lab)
            few, many = (_alone(arm, FEW_UNITS, items, lab)["parent_peak"] for items in (ITEMS, MANY_ITEMS))
        behaviours = units * LENGTH
        found[f"arms.{arm}.training"] = (done["training"] / behaviours, behaviours)
        if done["prompts"] is not None:
            found[f"arms.{arm}.prompts"] = (done["prompts"] / units, units)
        # Never none: the names of items are held, whatever else.
        grown = max(many - few, MANY_ITEMS - ITEMS)
        found[f"arms.{arm}.item_memory"] = (grown / (MANY_ITEMS - ITEMS), MANY_ITEMS)
    return found


def _alone(arm: str, units: int, items: int, lab: Path) -> dict[str, Any]:
    words = [sys.executable, __file__, arm, str(units), str(items), str(lab)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def main(name: str, units: int, items: int, folder: Path) -> None:
    """Train a parent on few units, go on from it with all, let them be prompted, and print what it took."""
    lab, names, now = Lab(folder), [f"v{number:06}" for number in range(items)], utc_now()
    table, histories = ItemTable(names), [_history(number, names, now) for number in range(units)]
    with tempfile.TemporaryDirectory() as place:
        parent = Path(place) / "parent"
        parent.mkdir()
        arm = _new(lab, name)
        arm.fit(histories[:FEW_UNITS], table, until=now, warm=None)
        arm.save(parent)
        found: dict[str, float | None] = {"parent_peak": _peak(), "training": None, "prompts": None}
        if units > FEW_UNITS:
            arm, goes_on = _new(lab, name), "warm" in arm.capabilities
            began = time.perf_counter()
            arm.fit(histories, table, until=now, warm=parent if goes_on else None)
            found["training"] = time.perf_counter() - began
            if "prompts" in arm.capabilities:
                found["prompts"] = _prompts(lab, arm, histories, now, place)
    json.dump(found, sys.stdout)


def _peak() -> int:
    """Give the most memory this process has had, in bytes; getrusage would count who started it too."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(line) * 1024


def _prompts(lab: Lab, arm: Arm, histories: Sequence[History], now: int, place: str) -> float:
    """Time how long an arm, stored and loaded as at night, takes to write prompts."""
    created = "2026-01-01T00:00:00+00:00"
    made = save_artefact(arm, place, data_hash="scale", data_until=now, created=created)
    loaded, _ = load_artefact(place, arm.config.name, made.version)
    began = time.perf_counter()
    write_prompts(lab, loaded, histories, now)
    return time.perf_counter() - began


def _new(lab: Lab, name: str) -> Arm:
    """Make a stock arm that is trained in one pass."""
    definition = lab.arm(name).model_dump()
    definition |= {key: value for key, value in ONCE.items() if key in definition}
    return new_arm(arm_class(definition["model"]).config_class.model_validate(definition))


def _history(number: int, names: Sequence[str], now: int) -> History:
    """Walk a unit through the catalogue."""
    places = [(number * 7919 + at * (1 + number % 5)) % len(names) for at in range(LENGTH)]
    return History(
        f"u{number}",
        [Behaviour(names[place], "click", 1.0, now - LENGTH + at) for at, place in enumerate(places)],
    )


def write_prompts(lab: Lab, arm: Arm, histories: Sequence[History], now: int) -> None:
    """Let an arm write prompts to units, and store them, as a night does."""
    engine = open_database(lab, create=True)
    said: dict[str, prompts.Told] = {}
    for first in range(0, len(histories), BATCH):
        requests = [
            Request(one.unit, one.unit, now, 1, one.behaviours) for one in histories[first : first + BATCH]
        ]
        for request, slate in zip(requests, arm.recommend(requests), strict=True):
            said[request.unit] = prompts.told(slate.prompts, request.history)
    with writing(engine) as connection:
        prompts.write(connection, arm.config.name, arm.version, said, written=now)
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
