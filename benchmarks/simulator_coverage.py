"""Do the reported 95 % intervals hold the truth that the simulator knows? Experiments on simulated users.

The interval of an experiment is about the population its users are drawn from, so the truth is that
population's: the lift of a large number of other users, who all meet each arm in turn with the same luck. The
lift of the experiment's own users under both arms would be held too often, as their drawing is in the
interval's width and not in its error. The truth has a standard error of its own, printed as a share of the
experiments'.

Every experiment has fresh users, with a seed of their own, that the splitter parts afresh; what they do is
kept and compared as a report does it, at a plain level of 5 % (metrics are guardrails, so that no family
adjusts their intervals). The world is calibrated once, and arms are fitted once, on the past of users of
another seed: they are what is compared, not what is drawn.

`python benchmarks/simulator_coverage.py [EXPERIMENTS_A_PLAN [TRUTH_USERS]]` runs this part by itself.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from figures import Figure, show
from simulator_world import (
    METRICS_ASKED,
    UNCOUNTED,
    experiment_of,
    fitted,
    in_processes,
    laboratory_of,
    splitting,
)

from armlift.arm import Arm
from armlift.experiment import Experiment
from armlift.simulation.laboratory import Laboratory, Size
from armlift.simulation.truth import Keeper, compare, scratch_run, truth_of
from armlift.store.database import scratch

EXPERIMENTS = 500
"""Of each plan."""
USERS = 1_000
TRUTH_USERS = 40_000
DAYS = 3
SLATE = 5
PAST_SEED, TRUTH_SEED = 2_000_000, 1_000_000
ALLOWED = 3.0
"""Monte-Carlo errors by which a coverage may be off."""
NOMINAL = 0.95
WORLD: dict[str, Any] = {
    "history_days": 2,
    "sessions_per_day": 1.0,
    "rows_per_session": 4.0,
    "videos": 400,
    "planted": {"planted": 0.15},
}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "random": {"name": "random", "model": "random"},
    "twin": {"name": "twin", "model": "random"},
    "planted": {"name": "planted", "model": "random"},
    "popularity": {"name": "popularity", "model": "popularity"},
}
ARMS = dict.fromkeys(DEFINITIONS, 1.0)
RAMP = [
    {"traffic": 0.3},
    {"start": "2022-04-23", "traffic": 1.0},
    {"start": "2022-04-24T12:00:00", "traffic": 1.0, "weights": {**ARMS, "popularity": 2.0}},
]
"""A ramp, and weights that change while it runs."""
PLANS: dict[str, dict[str, Any]] = {"one phase": {}, "ramp, new weights": {"phases": RAMP}}

Key = tuple[str, str]
"""A challenger and a metric."""


class Interval(NamedTuple):
    """What an experiment reported of a challenger in a metric: lift and interval, fractions."""

    lift: float
    low: float
    high: float


class Cell(NamedTuple):
    """How often intervals held the true lift over `of` experiments; without an interval they are `unknown`.

    `lift` is the mean estimate and `spread` the estimates' standard deviation; `error` is the truth's.
    """

    plan: str
    arm: str
    metric: str
    truth: float
    error: float
    lift: float
    spread: float
    held: int
    of: int
    unknown: int

    @property
    def covered(self) -> float:
        """Give the share of intervals that held the truth."""
        return self.held / self.of

    @property
    def allowed(self) -> float:
        """Give by how much coverage may be off: some Monte-Carlo standard errors of a nominal one."""
        return ALLOWED * math.sqrt(NOMINAL * (1 - NOMINAL) / self.of)

    @property
    def holds(self) -> bool:
        """Tell whether the coverage is nominal within Monte-Carlo error."""
        return abs(self.covered - NOMINAL) <= self.allowed


def define(plan: str, seed: int) -> Experiment:
    """Define one of the experiments of a plan: its name makes the splitter part its users afresh."""
    return experiment_of(f"coverage-{seed}", ARMS, "random", simulation=WORLD, **PLANS[plan])


@cache
def arms() -> Mapping[str, Arm]:
    """Fit the arms, on the past of users who are in no experiment."""
    past = laboratory_of(define("one phase", PAST_SEED), Size(5_000, DAYS, SLATE, PAST_SEED)).past_data()
    return {name: fitted(definition, past) for name, definition in DEFINITIONS.items()}


def reported(laboratory: Laboratory, arms: Mapping[str, Arm]) -> dict[Key, Interval | None]:
    """Run one experiment and give its plain intervals, None where there is none."""
    experiment = laboratory.experiment
    run = scratch_run(laboratory, METRICS_ASKED, paired=False)
    with scratch() as engine:
        kept = Keeper(laboratory, METRICS_ASKED, list(arms), engine)
        laboratory.run(
            arms, splitting(laboratory), page=kept.page, block=kept.block, mode=experiment.training_data
        )
        found = compare(engine, run, laboratory, experiment, METRICS_ASKED)
    intervals: dict[Key, Interval | None] = {}
    for one in (one.comparison for one in found if one.comparison.role == "guardrail"):
        known = one.lift is not None and one.lift_low is not None and one.lift_high is not None
        told = Interval(one.lift, one.lift_low, one.lift_high) if known else None  # type: ignore[arg-type]
        intervals[one.arm, one.metric] = told
    return intervals


def true_lifts(laboratory: Laboratory, arms: Mapping[str, Arm]) -> dict[Key, tuple[float, float]]:
    """Give the true lift of each challenger in each metric, and its standard error."""
    found = truth_of(laboratory, arms, METRICS_ASKED, traffic_of=splitting(laboratory))
    return {
        (one.arm, one.metric): (one.lift, one.error)
        for one in found
        if one.metric != UNCOUNTED and one.lift is not None and one.error is not None
    }


class Task(NamedTuple):
    """A piece of work: an experiment of a plan, or with `truth` what holds for its population."""

    plan: str
    truth: bool
    size: Size


def _done(task: Task) -> Mapping[Key, Any]:
    laboratory = laboratory_of(define(task.plan, task.size.seed), task.size)
    return true_lifts(laboratory, arms()) if task.truth else reported(laboratory, arms())


def cell_of(plan: str, key: Key, runs: Sequence[tuple[Interval | None, tuple[float, float]]]) -> Cell:
    """Count how often the intervals of experiments held the truth, which comes with its error.

    Where each experiment has a truth of its own, `spread` is that of the estimates around theirs.
    """
    told = [(one, truth, error) for one, (truth, error) in runs if one is not None]
    lifts, truths, errors = (
        np.array(column)
        for column in zip(*((one.lift, truth, error) for one, truth, error in told), strict=True)
    )
    held = sum(one.low <= truth <= one.high for one, truth, _ in told)
    spread = float((lifts - truths).std(ddof=1))
    truth, error, lift = (float(column.mean()) for column in (truths, errors, lifts))
    return Cell(plan, *key, truth, error, lift, spread, held, len(told), len(runs) - len(told))


def measure(experiments: int, truth_users: int) -> list[Cell]:
    """Run the experiments of every plan, and the truth of each."""
    truths = [Task(plan, True, Size(truth_users, DAYS, SLATE, TRUTH_SEED)) for plan in PLANS]
    runs = [
        Task(plan, False, Size(USERS, DAYS, SLATE, seed)) for plan in PLANS for seed in range(experiments)
    ]
    done = []
    for one in in_processes(_done, [*truths, *runs]):
        done.append(one)
        print(f"\r{len(done)} of {len(truths) + len(runs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    cells = []
    for number, plan in enumerate(PLANS):
        start = len(PLANS) + number * experiments
        found = done[start : start + experiments]
        cells += [
            cell_of(plan, key, [(told[key], truth) for told in found]) for key, truth in done[number].items()
        ]
    return cells


def table(cells: Sequence[Cell]) -> str:
    """Set the coverage of each effect and metric in columns."""
    lines = [
        f"{'plan':<18} {'arm':<13} {'metric':<17} {'true lift':>9} {'+-':>7} {'mean lift':>9} {'spread':>7} "
        f"{'coverage':>8} {'+-':>6}  of"
    ]
    for one in cells:
        error = math.sqrt(NOMINAL * (1 - NOMINAL) / one.of)
        unknown = f", {one.unknown} unknown" if one.unknown else ""
        mark = "" if one.holds else "  <- off"
        lines.append(
            f"{one.plan:<18} {one.arm:<13} {one.metric:<17} {one.truth:>+9.4f} {one.error:>7.4f} "
            f"{one.lift:>+9.4f} {one.spread:>7.4f} {one.covered:>8.4f} {error:>6.4f}  {one.of}{unknown}{mark}"
        )
    return "\n".join(lines)


def figures(name: str, cells: Sequence[Cell]) -> list[Figure]:
    """Give one figure a cell, one of them all, and what the truth's own error is against the estimates'."""
    found = [
        Figure(
            f"{name}: {one.plan}, {one.arm}, {one.metric}", one.covered, "of intervals", "nominal", NOMINAL,
            one.covered / NOMINAL, f".95 +- {one.allowed:.4f}", one.holds,
        )
        for one in cells
    ]  # fmt: skip
    unknown = sum(one.unknown for one in cells)
    found.append(
        Figure(f"{name}: experiments without interval", unknown, "intervals", "none", 0.0, None, "0",
               unknown == 0)
    )  # fmt: skip
    share = max(one.error / one.spread for one in cells)
    found.append(
        Figure(f"{name}: truth's error / estimates' spread", share, "at most", "none", 0.0, None, "< 0.2",
               share < 0.2)
    )  # fmt: skip
    return found


def main(experiments: int = EXPERIMENTS, truth_users: int = TRUTH_USERS) -> None:
    """Measure and print."""
    cells = measure(experiments, truth_users)
    print(table(cells))
    every, held = sum(one.of for one in cells), sum(one.held for one in cells)
    print(f"all: {held / every:.4f} of {every:,} intervals, {experiments:,} experiments a plan")
    show(figures("known truth", cells))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
