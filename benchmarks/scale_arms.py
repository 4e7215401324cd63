"""What a night costs an arm: training that goes on from a parent, by pass and beside; prompts; items' memory.

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
ITEMS, MANY_ITEMS = 100_000, 200_000
"""The catalogue of trainings, and one beside which their memory is held."""
PASSES = 3
Costs = dict[str, tuple[float, int]]


def measure(lab: Path, units: int) -> Costs:
    """Measure every arm with so many units, each in a process of its own."""
    found: Costs = {}
    for arm in ARMS:
        with told(f"{arm}, {units:,} units"):
            done = _alone(arm, units, ITEMS, lab)
            few, many = (_alone(arm, 0, items, lab)["parent_peak"] for items in (ITEMS, MANY_ITEMS))
        sizes = {"fit": units * LENGTH, "epoch": units * LENGTH, "prompts": units}
        for name, size in sizes.items():
            if done[name] is not None:
                found[f"arms.{arm}.{name}"] = (done[name] / size, size)
        found[f"arms.{arm}.item_memory"] = ((many - few) / (MANY_ITEMS - ITEMS), MANY_ITEMS)
    return found


def _alone(arm: str, units: int, items: int, lab: Path) -> dict[str, Any]:
    words = [sys.executable, __file__, arm, str(units), str(items), str(lab)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def main(name: str, units: int, items: int, folder: Path) -> None:
    """Train a parent on few units; go on from it with all, let them be prompted; print what it took."""
    lab, names, now = Lab(folder), [f"v{number:06}" for number in range(items)], utc_now()
    table = ItemTable(names)
    histories = [_history(number, names, now) for number in range(max(units, FEW_UNITS))]
    with tempfile.TemporaryDirectory() as place:
        parent = Path(place) / "parent"
        parent.mkdir()
        arm = _new(lab, name, 1)
        arm.fit(histories[:FEW_UNITS], table, until=now, warm=None)
        arm.save(parent)
        found: dict[str, float | None] = {"parent_peak": _peak()}
        if units:
            warm = parent if "warm" in arm.capabilities else None
            taken = []
            for passes in (1, PASSES) if warm else (1,):
                arm = _new(lab, name, passes)
                began = time.process_time()
                arm.fit(histories, table, until=now, warm=warm)
                taken.append(time.process_time() - began)
            epoch = (taken[-1] - taken[0]) / (PASSES - 1) if warm else None
            found |= {"fit": taken[0] - (epoch or 0.0), "epoch": epoch, "prompts": None}
            if "prompts" in arm.capabilities:
                found["prompts"] = _prompts(lab, arm, histories, now, place)
    json.dump(found, sys.stdout)


def _peak() -> int:
    """Give the most memory this process has had, in bytes; getrusage would count who started it too."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(line) * 1024


def _prompts(lab: Lab, arm: Arm, histories: Sequence[History], now: int, place: str) -> float:
    """Give the CPU seconds that an arm, stored and loaded as at night, takes to write prompts."""
    created = "2026-01-01T00:00:00+00:00"
    made = save_artefact(arm, place, data_hash="scale", data_until=now, created=created)
    loaded, _ = load_artefact(place, arm.config.name, made.version)
    began = time.process_time()
    write_prompts(lab, loaded, histories, now)
    return time.process_time() - began


def _new(lab: Lab, name: str, passes: int) -> Arm:
    """Make a stock arm that is trained in so many passes."""
    definition = lab.arm(name).model_dump()
    given = {"epochs": passes, "patience": passes, "pretraining_epochs": 1}
    definition |= {key: value for key, value in given.items() if key in definition}
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
