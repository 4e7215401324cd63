"""Symbiosis: how far off the lift is when arms learn from one another's data, and when they do not.

Every night both arms are fitted anew. The control, `popularity`, ranks by the clicks of the last days, of
what it and others showed; the challenger, `random`, shows everything alike and learns nothing. Alone,
popularity can learn only from what it shows itself: what the app's policy once showed often stays on top,
better videos that nobody is shown stay unknown. Beside `random` and with `pooled` data it lives on what that
finds. So theory predicts that `pooled` overstates popularity and understates the lift of `random`: a bias
below 0. With `own` data each arm learns from its own units, as many as the smaller arm has, and there is no
such path.

The truth of full deployment is a world for each arm, in which all users meet it and it learns from them. The
sharp bias compares each unit of the experiment with itself in the world of its own arm, with the same luck:
what is left is what the data of the other arm did. The plain bias is the estimate less the lift of all users
of both worlds, and has the noise of the split in it.

`python benchmarks/simulator_symbiosis.py [SEEDS]` runs this part by itself.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from figures import Figure, show
from simulator_world import experiment_of, fitted, in_processes, laboratory_of, splitting

from armlift.arm import Arm
from armlift.simulation.course import Page
from armlift.simulation.laboratory import Laboratory, Size
from armlift.simulation.traffic import APP, Traffic
from armlift.simulation.users import Users
from armlift.training_mix import Mode

Floats = npt.NDArray[np.float64]

SEEDS = 20
FIRST_SEED = 5_000
"""Setting and definition of `own` were chosen by looking at earlier seeds."""
USERS, DAYS, SLATE = 8_000, 4, 10
WORLD: dict[str, Any] = {
    "retrain": "nightly",
    "history_days": 1,
    "sessions_per_day": 1.0,
    "rows_per_session": 6.0,
    "videos": 300,
    "popularity_exponent": 1.5,
    "taste_strength": 1.0,
    "evolution": 0.0,
}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "popularity": {
        "name": "popularity", "model": "popularity", "half_life_days": 0.5, "history_kinds": ["click"],
    },
    "random": {"name": "random", "model": "random"},
}  # fmt: skip
WEIGHTS = {"popularity": 1.0, "random": 1.0}
CONTROL, CHALLENGER = DEFINITIONS
MODES: tuple[Mode, ...] = get_args(Mode)
SURE, FAIR = 3.0, 3.0
"""Monte-Carlo errors that a bias must exceed to be there, and must not exceed to be none."""


class Lived(NamedTuple):
    """Clicks and impressions of each user while the experiment ran, and its arm: arrays [users]."""

    clicks: Floats
    shown: Floats
    arm: npt.NDArray[np.int16]

    def rate(self, who: npt.NDArray[np.bool_]) -> float:
        """Give the clicks an impression of some users."""
        return float(self.clicks[who].sum() / self.shown[who].sum())


class Biases(NamedTuple):
    """What one experiment missed the truth by, by mode; lifts and biases are fractions, rates are clicks an
    impression.

    `overstated` is how much better the control did, as a fraction, than the same units in its own world.
    """

    truth: float
    sharp: dict[str, float]
    plain: dict[str, float]
    overstated: dict[str, float]


def live(laboratory: Laboratory, arms: Mapping[str, Arm], arm: int | None, mode: Mode) -> Lived:
    """Let users live through an experiment, or with `arm` through that arm's full deployment."""
    users = laboratory.size.users
    clicks, shown, met = np.zeros(users), np.zeros(users), np.full(users, APP, dtype=np.int16)
    split = splitting(laboratory)

    def traffic(block: Users) -> Traffic:
        return split(block) if arm is None else split(block).deployed(arm)

    def page(block: Users, here: Traffic, one: Page) -> None:
        served = one.arm != APP
        rows = block.first + one.rows[served]
        clicks[rows] += one.response.click[served].sum(axis=1)
        shown[rows] += one.response.shown[served].sum(axis=1)
        met[rows] = one.arm[served]

    laboratory.run(arms, traffic, page=page, mode=mode)
    return Lived(clicks, shown, met)


def biases(seed: int) -> Biases:
    """Run an experiment of one seed with each mode, and both arms' full deployment."""
    name = f"symbiosis-{seed}"
    experiment = experiment_of(name, WEIGHTS, CONTROL, simulation=WORLD)
    laboratory = laboratory_of(experiment, Size(USERS, DAYS, SLATE, seed))
    past = laboratory.past_data()
    arms = {name: fitted(definition, past) for name, definition in DEFINITIONS.items()}
    alone = [live(laboratory, arms, number, "pooled") for number in range(len(arms))]
    sharp: dict[str, float] = {}
    plain: dict[str, float] = {}
    overstated: dict[str, float] = {}
    truth = 0.0
    for mode in MODES:
        split = live(laboratory, arms, None, mode)
        control, challenger = (split.arm == number for number in range(len(arms)))
        everybody = control | challenger
        truth = _lift(alone[1].rate(everybody), alone[0].rate(everybody))
        estimate = _lift(split.rate(challenger), split.rate(control))
        sharp[mode] = estimate - _lift(alone[1].rate(challenger), alone[0].rate(control))
        plain[mode] = estimate - truth
        overstated[mode] = _lift(split.rate(control), alone[0].rate(control))
    return Biases(truth, sharp, plain, overstated)


def _lift(new: float, old: float) -> float:
    return new / old - 1.0


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Give the mean over seeds, and its Monte-Carlo standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def figures(found: Sequence[Biases]) -> list[Figure]:
    """Give the bias of each mode, and whether it is what theory predicts."""
    told = []
    for mode in MODES:
        bias, error = mean_error([one.sharp[mode] for one in found])
        if mode == "pooled":
            goal, holds = f"< -{SURE:g} errors, -{SURE * error:.4f}", bias < -SURE * error
        elif mode == "own":
            goal, holds = f"0 +- {FAIR:g} errors, {FAIR * error:.4f}", abs(bias) <= FAIR * error
        else:
            goal, holds = "as found", True
        told.append(Figure(f"symbiosis: bias of {mode}", bias, "of lift", "its error", error, bias / error,
                           goal, holds))  # fmt: skip
    return told


def table(found: Sequence[Biases]) -> str:
    """Set the biases of each mode in columns."""
    lines = [
        f"{'training_data':<14} {'sharp bias':>20} {'plain bias':>20} {'control overstated by':>22}",
    ]
    for mode in MODES:
        parts = [
            mean_error([getattr(one, what)[mode] for one in found])
            for what in ("sharp", "plain", "overstated")
        ]
        shown = [f"{mean:>+10.4f} +- {error:.4f}" for mean, error in parts]
        lines.append(f"{mode:<14} {shown[0]:>20} {shown[1]:>20} {shown[2]:>22}")
    truth, error = mean_error([one.truth for one in found])
    lines.append(f"true lift of full deployment {truth:+.4f} +- {error:.4f}, {len(found)} seeds")
    return "\n".join(lines)


def main(seeds: int = SEEDS) -> None:
    """Measure and print."""
    found = []
    for one in in_processes(biases, range(FIRST_SEED, FIRST_SEED + seeds)):
        found.append(one)
        print(f"\rseed {len(found)} of {seeds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(found))
    show(figures(found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
