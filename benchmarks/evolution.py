"""Simulated users who meet arm after arm, with the same luck, at a strength of evolution.

An arm is trained once, on the days before, and served with one recall after another from the same weights;
an oracle recalls beside it. A user's course rests on its arm alone, so that what it did under each arm gives
both the truth, every user under both arms, and a split experiment, every user under one.
"""

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from oracles import Oracle

from armlift.arm import Arm, History, ItemTable
from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.simulation.attributes import DEGREE, Population, values_of
from armlift.simulation.course import Course, Page, Service, unit_of
from armlift.simulation.laboratory import Laboratory, Size
from armlift.simulation.traffic import Traffic
from armlift.simulation.users import Users
from armlift.trials import redefined
from armlift_arms.recgpt import RecGpt, RecGptConfig

Floats = npt.NDArray[np.float64]
Served = Arm | Oracle

USERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "kuairand" / "user_features_pure.csv"

WORLD: dict[str, object] = {
    "videos": 1_000, "taste_categories": 12, "history_days": 5, "sessions_per_day": 1.0, "fatigue": 0.0,
}  # fmt: skip
"""A small world. Arms show nothing a second time, and where the app does it costs no click."""
ARM: dict[str, object] = {
    "name": "recgpt", "model": "recgpt", "history_kinds": ("click",), "recall": (5, 5), "dim": 32,
    "layers": 1, "length": 20, "dropout": 0.1, "item_dropout": 0.1, "negatives": 128, "batch_tokens": 256,
    "learning_rate": 3e-3, "averaging": 1.0, "pretraining_epochs": 6, "epochs": 2,
}  # fmt: skip
"""A small decoder, which learns in seconds; what is not named here is as in the stock arm."""
K = 10
HISTORY = 300

ONE_STEP = "[10]"
SAID = {"[9, 1]": (9, 1), "[7, 3]": (7, 3), "[5, 5]": (5, 5)}
HEARD = {
    "[7, 3] heard": (7, 3),
    "[5, 5] heard": (5, 5),
    "[4, 3, 3] heard": (4, 3, 3),
    "[2, 2, 2, 2, 2] heard": (2,) * 5,
}
ORACLE = "oracle [10]"
ORACLES = {"oracle [5, 5]": (5, 5), "oracle, item by item": (1,) * K}
PROMPTS = {"K = 0": 0, "K = 1": 1, "K = 3": 3}

IMPRESSIONS, CLICKS, LONG_VIEWS = range(3)
"""The columns of totals."""


class Scale(NamedTuple):
    """How much is simulated for one seed: users, and days of the experiment; `arm` changes its definition."""

    users: int = 1_000
    days: int = 2
    arm: Mapping[str, object] = {}


@dataclass(frozen=True)
class Cell:
    """What the users of a seed did: totals by arm, and before the experiment, float64 [n, 3] each.

    `groups` are users' degrees of activity, [n].
    """

    strength: float
    seed: int
    units: list[str]
    groups: list[str]
    past: Floats
    totals: dict[str, Floats]


def recalls(strength: float, seed: int, scale: Scale) -> Cell:
    """Serve one training with every recall, and oracles beside it."""
    beginning = Beginning.of(strength, seed, scale)
    arm = beginning.trained()
    arms: dict[str, Served] = {ONE_STEP: redefined(arm, {"recall": (K,)})}
    arms |= {name: redefined(arm, {"recall": recall}) for name, recall in SAID.items()}
    heard = {"recall_as": "behaviour"}
    arms |= {name: redefined(arm, {"recall": recall, **heard}) for name, recall in HEARD.items()}
    model = beginning.laboratory.model
    arms |= {name: Oracle(model, recall) for name, recall in {ORACLE: (K,), **ORACLES}.items()}
    return beginning.cell(arms)


def prompts(strength: float, seed: int, scale: Scale, population: Population | None = None) -> Cell:
    """Serve one training for each number of prompts, in one step."""
    beginning = Beginning.of(strength, seed, scale, population)
    return beginning.cell(
        {name: beginning.trained(prompts=count, recall=(K,)) for name, count in PROMPTS.items()}
    )


def all_recalls(strength: float, seeds: Sequence[int], scale: Scale) -> list[Cell]:
    """Do all seeds of a strength in one process: its world is calibrated once."""
    one_thread()
    found = []
    for seed in seeds:
        found.append(recalls(strength, seed, scale))
        print(f"evolution {strength}, seed {seed}: done", file=sys.stderr, flush=True)
    return found


def all_prompts(strength: float, seeds: Sequence[int], scale: Scale) -> list[Cell]:
    """Do all seeds of the study of K in one process, on the real table of users where it is at hand."""
    one_thread()
    population = Population.of_table(USERS, [DEGREE]) if USERS.exists() else Population.synthetic()
    found = []
    for seed in seeds:
        found.append(prompts(strength, seed, scale, population))
        print(f"prompts, seed {seed}: done", file=sys.stderr, flush=True)
    return found


def one_thread() -> None:
    """Keep processes from taking each other's cores."""
    import torch

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Beginning:
    """Users at the end of the days before the experiment, and what they did in them, float64 [n, 3]."""

    laboratory: Laboratory
    course: Course
    users: Users
    past: Floats
    arm: Mapping[str, object]

    @classmethod
    def of(
        cls, strength: float, seed: int, scale: Scale, population: Population | None = None
    ) -> "Beginning":
        """Let the app's own policy show for some days."""
        laboratory = laboratory_of(strength, seed, scale, population)
        course = laboratory.course()
        users = course.draw(0, scale.users)
        past = np.zeros((scale.users, 3))
        for page in course.past(users, range(-laboratory.settings.history_days, 0)):
            count(past, page)
        return cls(laboratory, course, users, past, {**ARM, **scale.arm, "seed": seed})

    def trained(self, **changes: object) -> RecGpt:
        """Train the arm on the days before."""
        arm = RecGpt(RecGptConfig.model_validate({**self.arm, **changes}))
        pairs = enumerate(self.users.histories)
        histories = [History(unit_of(row), list(history)) for row, history in pairs if history]
        items = ItemTable(self.laboratory.model.world.ids)
        arm.fit(histories, items, until=self.course.start_of(0))
        return arm

    def cell(self, arms: Mapping[str, Served]) -> Cell:
        """Let the same users meet each arm."""
        units = [unit_of(row) for row in range(len(self.users))]
        groups = [str(one) for one in values_of(self.users.attributes, DEGREE)]
        totals = {name: self.met(arm) for name, arm in arms.items()}
        settings, seed = self.laboratory.settings, self.laboratory.size.seed
        return Cell(settings.evolution, seed, units, groups, self.past, totals)

    def met(self, arm: Served) -> Floats:
        """Let all users meet an arm from the first request on; gives what they did, float64 [n, 3]."""
        users = same(self.users)
        if isinstance(arm, Oracle):
            arm.meet(users)
        traffic = Traffic.everybody(0, len(users))
        service = Service([cast(Arm, arm)], np.zeros(1), np.zeros(1, dtype=np.bool_))
        found = np.zeros_like(self.past)
        for day in range(self.laboratory.size.days):
            for page in self.course.day(users, day, traffic, service):
                count(found, page)
        return found


def laboratory_of(
    strength: float, seed: int, scale: Scale, population: Population | None = None
) -> Laboratory:
    """Calibrate the world of a strength, which all seeds share, for the users of a seed."""
    experiment = Experiment.model_validate(
        {
            "name": "evolution",
            "arms": {"recgpt": 1, "recgpt1": 1},
            "control": "recgpt1",
            "metrics": {"primary": ["click_rate"]},
            "simulation": {**WORLD, "evolution": strength},
        }
    )
    size = Size(scale.users, scale.days, K, seed)
    return Laboratory.of(experiment, Calendar("UTC"), size, HISTORY, population)


def count(totals: Floats, page: Page) -> None:
    """Add what users did with a page to their totals."""
    response = page.response
    for column, there in enumerate((response.shown, response.click, response.long_view)):
        totals[page.rows, column] += there.sum(axis=1)


def same(users: Users) -> Users:
    """Copy users, so that each arm meets them as they were."""
    changed: dict[str, Any] = {
        name: of.copy() for name, of in vars(users).items() if isinstance(of, np.ndarray)
    }
    changed["histories"] = [deque(history, history.maxlen) for history in users.histories]
    return replace(users, **changed)
