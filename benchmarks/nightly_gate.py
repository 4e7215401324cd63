"""How often the gate errs: models that are equal, 10 % worse and 10 % better, by the number of units asked.

Simulated users' past goes through the stream into SQL, the data set is built from there, and real models are
asked for what units took on the day held out. A trial is an ordered pair of models (candidate, promoted) and
a sample of the units, drawn without replacement; the gate's own rule decides. Trials share models and units,
so that they are not independent of each other. What makes a pair:

    equal        two models of one definition. `recgpt`: other seeds. `covisitation` and `popularity`, which
                 no seed changes: each learned from another nine tenths of the units
    10 % worse   the same model, but a unit's order is replaced by a poorer one with such a chance that the
                 expected metric is 10 % lower. `all over`: by its own in reverse. `in places`, with a chance
                 of one in ten: by one that earns nothing
    10 % better  the model against itself spoilt all over, so that its expected metric is 10 % higher
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from figures import Figure, show
from nightly_lab import EXPERIMENT, make_lab

from armlift.arm import Arm, ArmConfig, Request, Slate, new_arm
from armlift.days import DAY_MS
from armlift.lab import Lab
from armlift.nightly import GateSettings
from armlift.simulation.laboratory import Size
from armlift.simulation.simulate import Simulation
from armlift.store.database import open_database
from armlift.streams.embedded import EmbeddedStream
from armlift_pipelines import gate, next_day
from armlift_pipelines.dataset import DataSet, Lesson, Span
from armlift_pipelines.dataset_build import build_from_sql

USERS, PAST = 5_000, 3
SMALL = {
    "dim": 32,
    "heads": 1,
    "length": 20,
    "negatives": 256,
    "batch_tokens": 4096,
    "learning_rate": 0.004,
    "epochs": 8,
}
"""What of the stock definition of recgpt is made smaller, so that six of them are trained in two minutes."""
SEEDS, SIZES, TRIALS = 6, (100, 300, 1_000, 2_500), 600
LOSS = 0.1
SETTINGS = GateSettings()

Floats = npt.NDArray[np.float64]


class EnoughError(Exception):
    """The users' past is all that is wanted of a simulation."""


class Rates(NamedTuple):
    """Of trials with so many units: shares of equal and worse models refused, and of better ones let by.

    `worse` are spoilt all over, `broken` in places; `lift` is the median lift of equal models, by its size.
    """

    units: int
    equal: float
    worse: float
    broken: float
    better: float
    lift: float


class Answers(NamedTuple):
    """What a model's slates gain, and what they would in reverse order, float64 [units]."""

    gains: Floats
    reversed: Floats

    def spoilt(self, share: float) -> float:
        """Give the chance of a slate in reverse order that costs a share of the mean gain."""
        return float(share * self.gains.mean() / (self.gains.mean() - self.reversed.mean()))


def main(users: int = USERS) -> None:
    """Measure and print."""
    with TemporaryDirectory() as folder:
        lab = make_lab(Path(folder), arms=("random", "popularity"), control="random", past=PAST, smaller={})
        begin = time.perf_counter()
        data = past_of(lab, Size(users, 1, 10, 1))
        print(f"{users:,} users' past through SQL: {time.perf_counter() - begin:.0f} s")
        figures: list[Figure] = []
        for name in ("recgpt", "covisitation", "popularity"):
            figures += rates_of(lab, data, name)
    show(figures)


def past_of(lab: Lab, size: Size) -> DataSet:
    """Let users live through their past, and build the data set of the night after it."""
    engine, folder = open_database(lab, create=True), lab.folder / "past"

    def night(_day: int) -> Mapping[str, Arm]:
        until = simulation.laboratory.course().start_of(0)
        span = Span(simulation.identity, until - PAST * DAY_MS, until - DAY_MS, until)
        build_from_sql(engine, span, folder)
        raise EnoughError

    simulation = Simulation(lab, lab.experiment(EXPERIMENT), size, engine, nights=night)
    with EmbeddedStream(lab.folder / "stream") as stream, suppress(EnoughError):
        simulation.run(stream)
    engine.dispose()
    return DataSet(folder)


def rates_of(lab: Lab, data: DataSet, name: str) -> Iterator[Figure]:
    """Count the gate's answers for an arm."""
    begin = time.perf_counter()
    arms = list(models(lab.arm(name), data))
    seconds = (time.perf_counter() - begin) / len(arms)
    kinds, limit = arms[0].config.history_kinds, lab.settings.history_limit
    test = next_day.held_out(data, name, kinds, limit, SETTINGS.minimum_units)
    answers = [answers_of(arm, data, test) for arm in arms]
    asked = len(answers[0].gains)
    means = ", ".join(f"{one.gains.mean():.4f}" for one in answers)
    print(
        f"\n{name}: {len(arms)} models, {seconds:.0f} s each; {SETTINGS.metric} of {asked:,} units: {means}"
    )
    table = [rates(answers, n) for n in SIZES if n <= asked]
    print(
        "| units | equal: refused | median size of their lift | 10 % worse all over: refused "
        "| in places: refused | 10 % better: passed |\n|---|---|---|---|---|---|"
    )
    for one in table:
        print(
            f"| {one.units:,} | {one.equal:.1%} | {one.lift:.1%} | {one.worse:.1%} | {one.broken:.1%} "
            f"| {one.better:.1%} |"
        )
    for one in table:
        for what, rate in (("all over", one.worse), ("in places", one.broken)):
            yield Figure(
                f"{name}: 10 % worse {what}, {one.units:,} units", rate, "refused", "equal models", one.equal,
                None, ">= 0.95", rate >= 0.95,
            )  # fmt: skip
        yield Figure(
            f"{name}: 10 % better, {one.units:,} units", one.better, "passed", "equal models",
            1 - one.equal, None, ">= 0.95", one.better >= 0.95,
        )  # fmt: skip
    large = table[-1]
    yield Figure(
        f"{name}: equal, {large.units:,} units", large.equal, "refused", f"{table[0].units} units",
        table[0].equal, None, "<= 0.10", large.equal <= 0.10,
    )  # fmt: skip


def answers_of(arm: Arm, data: DataSet, test: next_day.Test) -> Answers:
    """Ask an arm, and an arm that gives the same slates in reverse order."""
    plain = next_day.measure(arm, data, test).gains[SETTINGS.metric]
    recommend = arm.recommend

    def backwards(requests: Sequence[Request]) -> list[Slate]:
        return [slate._replace(items=slate.items[::-1]) for slate in recommend(requests)]

    arm.recommend = backwards  # type: ignore[method-assign]
    return Answers(plain, next_day.measure(arm, data, test).gains[SETTINGS.metric])


def models(config: ArmConfig, data: DataSet) -> Iterator[Arm]:
    """Train models that are equal but for their seed, or for the tenth of the units that they do not know."""
    neural = hasattr(config, "pretraining_epochs")
    histories = list(Lesson(data).histories())
    for seed in range(SEEDS):
        arm = new_arm(config.model_copy(update={**SMALL, "seed": seed} if neural else {"seed": seed}))
        dropped = np.random.default_rng(seed).random(len(histories)) < (0.0 if neural else 0.1)
        known = [one for one, out in zip(histories, dropped.tolist(), strict=True) if not out]
        arm.fit(known, data.items, until=data.span.until)
        yield arm


def rates(answers: Sequence[Answers], n: int) -> Rates:
    """Ask the gate for pairs of models, each with units of its own."""
    rng = np.random.default_rng(n)
    pairs = [(a, b) for a in range(len(answers)) for b in range(len(answers)) if a != b]
    passed = np.zeros((TRIALS, 4), dtype=bool)
    lifts = np.zeros(TRIALS)
    for trial in range(TRIALS):
        mine, other = (answers[one] for one in pairs[trial % len(pairs)])
        chosen = rng.choice(len(mine.gains), n, replace=False)
        gains, chances = mine.gains[chosen], rng.random((2, n))
        worse = np.where(chances[0] < mine.spoilt(LOSS), mine.reversed[chosen], gains)
        # The gain of the spoilt one is 1 / 1.1 of the other's.
        less = np.where(chances[0] < mine.spoilt(LOSS / (1 + LOSS)), mine.reversed[chosen], gains)
        broken = gains * (chances[1] >= LOSS)
        tried = ((gains, other.gains[chosen]), (worse, gains), (broken, gains), (gains, less))
        found = [passes(*one) for one in tried]
        passed[trial] = [one[0] for one in found]
        lifts[trial] = found[0][1]
    equal, worse_passed, broken_passed, better = passed.mean(axis=0).tolist()
    size = float(np.median(np.abs(lifts)))
    return Rates(n, 1 - equal, 1 - worse_passed, 1 - broken_passed, better, size)


def passes(candidate: Floats, promoted: Floats) -> tuple[bool, float]:
    """Ask the gate's rule about two models' gains by unit; gives the lift beside its answer."""
    both = [next_day.Outcome({SETTINGS.metric: one}, {}) for one in (candidate, promoted)]
    effect = next_day.compared(both[0], both[1], SETTINGS.alpha)[SETTINGS.metric]
    told = {
        "status": effect.status,
        "lift": effect.lift,
        "low": effect.lift_low,
        "high": effect.lift_high,
        "difference": effect.difference,
    }
    evaluation = {
        "metrics": both[0].metrics,
        "compared": {SETTINGS.metric: told},
        "units": len(candidate),
        "short_histories": 0.0,
        "neutral": True,
    }
    found = gate.judge(gate.Candidate({}, evaluation, 1.0, True, SETTINGS.minimum_behaviours, 0), SETTINGS)
    (ruling,) = [one for one in found if one.rule == "not_worse"]
    return bool(ruling.passes), effect.lift or 0.0


if __name__ == "__main__":
    main()
