"""Do intervals hold the known truth where arms are trained? A small Transformer anew for each experiment.

Each experiment trains `sasrec` (tiny: dim 16, one block, three epochs) and `popularity` on the past of its
own users, and then they meet both, and a twin of `sasrec` with the same weights. The truth is that of these
very weights: other users, of another seed, meet each in turn; the twin's is 0. See `simulator_coverage` for
the rest.

`python benchmarks/simulator_trained.py [EXPERIMENTS [TRUTH_USERS]]` runs this part by itself.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from figures import Figure, show
from simulator_coverage import Cell, Interval, Key, cell_of, figures, reported, table, true_lifts
from simulator_world import experiment_of, fitted, in_processes, laboratory_of

from armlift.simulation.laboratory import Size

EXPERIMENTS = 100
TRUTH_USERS = 3_000
USERS, DAYS, SLATE = 750, 2, 5
TRUTH_SEED = 3_000_000
WORLD: dict[str, Any] = {
    "history_days": 2,
    "sessions_per_day": 1.0,
    "rows_per_session": 5.0,
    "videos": 200,
}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "sasrec": {
        "name": "sasrec", "model": "sasrec", "dim": 16, "layers": 1, "heads": 1, "length": 20,
        "negatives": 64, "epochs": 3, "batch_tokens": 1024, "validation_share": 0.1,
    },
    "popularity": {"name": "popularity", "model": "popularity"},
}  # fmt: skip
CONTROL, TWIN = "sasrec", "twin"
PLAN = "trained anew"


class Trained(NamedTuple):
    """What one experiment reported, and the truth of its arms."""

    told: dict[Key, Interval | None]
    truth: dict[Key, tuple[float, float]]


def run(asked: tuple[int, int]) -> Trained:
    """Train the arms of an experiment, run it, and find the truth of what was trained."""
    seed, truth_users = asked
    name, weights = f"trained-{seed}", dict.fromkeys(DEFINITIONS, 1.0)
    experiment = experiment_of(name, {**weights, TWIN: 1.0}, CONTROL, simulation=WORLD)
    laboratory = laboratory_of(experiment, Size(USERS, DAYS, SLATE, seed))
    past = laboratory.past_data()
    arms = {arm: fitted(definition, past) for arm, definition in DEFINITIONS.items()}
    deployed = experiment_of(name, weights, CONTROL, simulation=WORLD)
    elsewhere = laboratory_of(deployed, Size(truth_users, DAYS, SLATE, TRUTH_SEED + seed))
    truth = true_lifts(elsewhere, arms)
    nothing = {(TWIN, metric): (0.0, 0.0) for _, metric in truth}
    return Trained(reported(laboratory, {**arms, TWIN: arms[CONTROL]}), truth | nothing)


def measure(experiments: int, truth_users: int) -> list[Cell]:
    """Run the experiments."""
    runs = []
    for found in in_processes(run, [(seed, truth_users) for seed in range(experiments)]):
        runs.append(found)
        print(f"\rtrained: {len(runs)} of {experiments}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [cell_of(PLAN, key, [(one.told[key], one.truth[key]) for one in runs]) for key in runs[0].truth]


def all_of(cells: Sequence[Cell]) -> Figure:
    """Give the coverage of all cells together; within one experiment they are alike, so it has no goal."""
    held, of = (int(np.sum([getattr(one, what) for one in cells])) for what in ("held", "of"))
    return Figure(f"{PLAN}: all", held / of, "of intervals", "nominal", 0.95, held / of / 0.95, "none", True)


def main(experiments: int = EXPERIMENTS, truth_users: int = TRUTH_USERS) -> None:
    """Measure and print."""
    cells = measure(experiments, truth_users)
    print(table(cells))
    show([*figures("known truth", cells), all_of(cells)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
