"""What the simulator's benchmarks share: metrics, arms, traffic as the splitter parts it, and workers."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from armlift.arm import Arm, arm_class, new_arm
from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.metric import METRICS, Metrics
from armlift.simulation.course import unit_of
from armlift.simulation.laboratory import Laboratory, PastData, Size
from armlift.simulation.traffic import Traffic
from armlift.simulation.users import Users
from armlift.splitter import Split

T = TypeVar("T")
R = TypeVar("R")
CALENDAR = Calendar("UTC")
LIMIT = 200
"""Behaviours a history keeps: what labs do unless told otherwise."""
PROCESSES = int(os.environ.get("ARMLIFT_BENCH_PROCESSES", "2"))
UNCOUNTED = "shown"
"""The primary metric, whose intervals are adjusted; the others are guardrails, whose intervals are plain."""
_PER_ITEM = {"kind": "ratio", "denominator": {"event": "impression"}}
_LOOKBACK = {"cuped": "14d"}
METRICS_ASKED: Metrics = METRICS.validate_python(
    {
        UNCOUNTED: {"kind": "mean", "of": {"event": "impression"}},
        "click_rate": {**_PER_ITEM, "numerator": {"event": "click"}},
        "click_rate_cuped": {**_PER_ITEM, **_LOOKBACK, "numerator": {"event": "click"}},
        "watch_time": {**_PER_ITEM, "numerator": {"event": "play", "aggregate": "sum"}},
        "clicks": {"kind": "mean", "of": {"event": "click"}},
        "clicks_cuped": {"kind": "mean", **_LOOKBACK, "of": {"event": "click"}},
        "long_views_cuped": {"kind": "mean", **_LOOKBACK, "of": {"event": "long_view"}},
        "clickers": {"kind": "proportion", "of": {"event": "click"}},
        "watchers_cuped": {"kind": "proportion", **_LOOKBACK, "of": {"event": "long_view"}},
        "active_days": {"kind": "mean", "of": {"event": "impression", "aggregate": "days"}},
        "day_1_retention": {"kind": "retention", "day": 1},
    }
)


def experiment_of(name: str, arms: Mapping[str, float], control: str, **rest: Any) -> Experiment:
    """Define an experiment with the metrics asked for here."""
    plain = [metric for metric in METRICS_ASKED if metric != UNCOUNTED]
    metrics = {"primary": [UNCOUNTED], "guardrails": plain}
    asked = {"name": name, "arms": arms, "control": control, "metrics": metrics, **rest}
    return Experiment.model_validate(asked)


def laboratory_of(experiment: Experiment, size: Size) -> Laboratory:
    """Make a laboratory as a lab with the settings of a new one would."""
    return Laboratory.of(experiment, CALENDAR, size, LIMIT)


def fitted(definition: Mapping[str, Any], past: PastData) -> Arm:
    """Make an arm of its definition and fit it."""
    config_class = arm_class(definition["model"]).config_class
    arm = new_arm(config_class.model_validate(definition))
    arm.fit(past.histories(), past.items, until=past.until)
    return arm


def splitting(laboratory: Laboratory) -> Callable[[Users], Traffic]:
    """Give whoever lets the splitter assign a block of users."""
    experiment = laboratory.experiment
    split = Split.of(experiment, default_arm=experiment.control)
    course = laboratory.course()
    starts = [
        course.start_of(0) if phase.start is None else CALENDAR.parse(phase.start)
        for phase in experiment.phases
    ]

    def traffic(users: Users) -> Traffic:
        units = [unit_of(users.first + row) for row in range(len(users))]
        return Traffic.split(split, starts, units, None)

    return traffic


def in_processes(work: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
    """Do pieces of work that know nothing of one another, some at a time; the results come in order."""
    if PROCESSES < 2:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, parts)
