"""The guard: how often it stops experiments that do no harm, and how soon those that do.

False stops are counted where harm is just allowed: the true effect is the guardrail's margin. There any test
is wrong most often. The reference is whoever reads the plain 95 % intervals at every look. The time to stop
is that of whole runs: users come hour by hour, through the stream into SQLite, and the monitor looks after
each hour; its reference is a test of a planned number of units that is read once.
"""

import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import numpy.typing as npt
from figures import Figure, show
from guarded import CLICKS, SHOWN, SPREAD, Crowd, crowd, live
from sqlalchemy import Engine

from armlift import running
from armlift.answers import Answers
from armlift.comparisons import compare_units
from armlift.days import Calendar
from armlift.fallbacks import share_of
from armlift.guard import inspect, judge
from armlift.lab import Lab
from armlift.nightly import MonitorSettings
from armlift.runs import Run
from armlift.started import RunningExperiment
from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate
from armlift.stats.power import units_needed
from armlift.stats.results import Rules
from armlift.store.database import reading
from armlift_pipelines.monitor import monitor

Array = npt.NDArray[np.float64]
SETTINGS = MonitorSettings()
SIMS, LOOKS, STEP = 600, 96, 40
"""Experiments, and looks at each: the first at 100 units an arm, then every 40."""
SEEDS, MOST_HOURS, PER_HOUR = 11, 60, 250
MOST = 2
"""Times a planned test's units that the guard may take; but it is not asked to stop within two looks."""
EFFECTS = (-0.1, -0.15, -0.2, -0.4)
ALLOWED = 3.0
"""Monte-Carlo errors by which a rate may be off."""


def main() -> None:
    """Measure and print."""
    with live() as (lab, engine):
        with reading(engine) as connection:
            (one,) = running.running(connection)
            run = running.run_of(connection, one)
        figures = [*false_stops(one, run), false_split(one, run), false_errors()]
        figures.append(look(lab, engine, one, run))
    show([*figures, *stops()])


def false_stops(one: RunningExperiment, run: Run) -> list[Figure]:
    """Count experiments that are ever stopped for a guardrail, by the data it is of."""
    found = []
    for name, draw in (("clicks per item", clicks), ("heavy tails", heavy)):
        guarded, plain = 0, 0
        for seed in range(SIMS):
            rng = np.random.default_rng(seed)
            margin = one.metrics["click_rate"].margin
            # What a unit showed does not differ between arms, so the ratio's lift is that of its numerator.
            arms = {"old": draw(rng, 0.0), "new": draw(rng, -margin)}
            stopped = looks(one, run, arms)
            guarded, plain = guarded + stopped[0], plain + stopped[1]
        rate, reference = guarded / SIMS, plain / SIMS
        goal = SETTINGS.guardrail_alpha / 2
        allowed = goal + ALLOWED * (goal * (1 - goal) / SIMS) ** 0.5
        what = f"false stops, {LOOKS} looks, {name}"
        found.append(
            Figure(
                what, rate, "of experiments", "plain 95 % intervals at every look", reference,
                reference / max(rate, 1 / SIMS), f"<= {goal:g} (+ {allowed - goal:.3f})", rate <= allowed,
            )
        )  # fmt: skip
    return found


def clicks(rng: np.random.Generator, effect: float) -> Array:
    """Draw units' clicks on the items of a visit."""
    n = 100 + STEP * LOOKS
    chances = rng.beta(CLICKS * SPREAD, (1 - CLICKS) * SPREAD, n)
    return rng.binomial(SHOWN, chances * (1 + effect)).astype(np.float64)


def heavy(rng: np.random.Generator, effect: float) -> Array:
    """Draw log-normal values, of skewness 6."""
    return np.asarray(rng.lognormal(0.0, 1.0, 100 + STEP * LOOKS)) * (1 + effect)


def looks(one: RunningExperiment, run: Run, arms: dict[str, Array]) -> tuple[bool, bool]:
    """Tell whether the guard, and whether a plain interval, ever stops an experiment of these units."""
    guarded = plain = False
    for look in range(LOOKS):
        answers = answers_of({arm: values[: 100 + STEP * look] for arm, values in arms.items()})
        guarded = guarded or any(b.kind == "guardrail" for b in judge(one, run, answers, SETTINGS))
        metric = one.metrics["click_rate"]
        effect = compare_units("click_rate", metric, "new", "old", answers, Rules()).effect
        plain = plain or (effect.lift_high is not None and effect.lift_high < -metric.margin)
        if guarded:
            break
    return guarded, plain or guarded


def answers_of(arms: dict[str, Array], split: tuple[int, int] | None = None) -> Answers:
    """Give what the database would answer of units with these numerators and SHOWN in the denominator."""
    strata = []
    for arm, values in arms.items():
        n, mean = len(values), float(values.mean())
        strata.append(
            {
                "arm": arm, "generation": 0, "phase": 0, "names": ["num", "den"], "n": n,
                "means": [mean, float(SHOWN)],
                "moments": [float(((values - mean) ** 2).sum()), 0.0, 0.0, 0.0],
            }
        )  # fmt: skip
    counts = dict(zip(arms, split or map(len, arms.values()), strict=True))
    assigned = [[arm, 0, 0, n] for arm, n in counts.items()]
    return Answers({"by_stratum/click_rate": strata, "assigned": assigned})


def false_split(one: RunningExperiment, run: Run) -> Figure:
    """Count sound splits that are ever taken for a mismatch, of 20,000 units looked at a hundred times."""
    same = np.full(SHOWN, 2.0)
    sims, found = 5_000, 0
    for seed in range(sims):
        drawn = np.cumsum(np.random.default_rng(seed).binomial(200, 0.5, 100))
        for look, new in enumerate(drawn.tolist(), start=1):
            if abs(2 * new - 200 * look) < 2 * (200 * look) ** 0.5:
                continue  # less than two standard deviations off is no breach, and most looks are that
            answers = answers_of({"old": same, "new": same}, (200 * look - new, new))
            if any(breach.kind == "srm" for breach in judge(one, run, answers, SETTINGS)):
                found += 1
                break
    rate, goal = found / sims, SETTINGS.srm_alpha
    allowed = goal + ALLOWED * (goal * (1 - goal) / sims) ** 0.5
    return Figure(
        "false stops, 100 looks, split", rate, "of experiments", "level", goal, goal / max(rate, 1 / sims),
        f"<= {goal:g} (+ {allowed - goal:.4f})", rate <= allowed,
    )  # fmt: skip


def false_errors() -> Figure:
    """Count arms that fail just as often as allowed, and are ever stopped within their first hour."""
    sims, found = 3_000, 0
    for seed in range(sims):
        rng = np.random.default_rng(seed)
        # One unit in ten has a device on which half of what is shown are fallbacks.
        chances = np.where(rng.random(2_000) < 0.1, 10 * SETTINGS.error_rate, 0.0)
        failed = rng.binomial(SHOWN, chances).astype(np.float64)
        found += any(
            share_of("new", counts(failed[:n]), 0, SETTINGS.guardrail_alpha / 6).low > SETTINGS.error_rate
            for n in range(100, 2_001, 100)
        )
    rate, goal = found / sims, SETTINGS.guardrail_alpha / 6
    return Figure(
        "false stops, 20 looks, fallbacks", rate, "of arms", "level", goal, goal / max(rate, 1 / sims),
        f"<= {goal:.4f}", rate <= goal,
    )  # fmt: skip


def counts(failed: Array) -> Aggregates:
    """Give the aggregates of units' fallbacks and of what was shown."""
    n, mean = len(failed), float(failed.mean())
    moments = np.array([[float(((failed - mean) ** 2).sum()), 0.0], [0.0, 0.0]])
    return Aggregates(("fallbacks", "shown"), n, np.array([mean, float(SHOWN)]), moments)


def look(lab: Lab, engine: Engine, one: RunningExperiment, run: Run) -> Figure:
    """Measure one look at 20,000 units whose events are counted already."""
    with crowd(lab, engine, seed=0, per_hour=20_000) as users:
        users.hour()
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            inspect(engine, one, run, Calendar("UTC"), SETTINGS, users.now)
            taken.append(time.perf_counter() - begin)
    seconds = median(taken)
    return Figure(
        "one look, 20,000 units, SQLite", seconds, "s", "time between two looks", 300.0, 300.0 / seconds,
        "<= 5 s", seconds <= 5.0,
    )  # fmt: skip


def stops() -> Iterator[Figure]:
    """Let users come until the monitor stops the experiment, by what is wrong with it."""
    for effect in EFFECTS:
        plan = units_needed(effect + 0.02, baseline())
        assert plan.units is not None
        assert plan.control_units is not None
        yield stop(f"{effect:+.0%} clicks", {"effect": effect}, plan.units + plan.control_units)
    yield stop("half of one arm's exposures lost", {"lost": 0.5})
    yield stop("three in ten answers are fallbacks", {"failing": 0.3})


def baseline() -> Estimate:
    """Give what a planner knows of the control: its click rate, and the variance of 1,000 units' rate."""
    chance = CLICKS * (1 - CLICKS)
    between = chance / (SPREAD + 1)
    return Estimate(1_000, CLICKS, (between + (chance - between) / SHOWN) / 1_000)


def stop(name: str, wrong: dict[str, float], planned: int | None = None) -> Figure:
    """Measure how many units of both arms had been exposed when the experiment was stopped."""
    units, hours = [], []
    for seed in range(SEEDS):
        with live() as (lab, engine):
            with crowd(lab, engine, seed=seed, per_hour=PER_HOUR, **wrong) as users:
                until_stopped(lab, engine, users)
            units.append(sum(users.units.values()))
            hours.append(users.hours)
    after = f"{median(hours):g} hours ({min(hours)} to {max(hours)}) at {PER_HOUR} new users an hour"
    seen = f"{median(units):,.0f} units exposed ({min(units):,} to {max(units):,})"
    print(f"{name}: stopped after {after}; {seen}; {SEEDS} runs")
    at = median(units)
    if planned is None:
        return Figure(
            f"units until stopped: {name}", at, "units", "none", None, None, "<= 1,600", at <= 1_600
        )
    goal = f"<= {MOST} x the planned test's, or two looks'"
    return Figure(
        f"units until stopped: {name}", at, "units", "one look at planned units", planned, planned / at, goal,
        at <= max(MOST * planned, 2 * PER_HOUR),
    )  # fmt: skip


def until_stopped(lab: Lab, engine: Engine, users: Crowd) -> None:
    """Let hours pass until the monitor acts, or for MOST_HOURS."""
    while users.hours < MOST_HOURS:
        users.hour()
        if monitor(lab, engine, now_ms=users.now)["actions"]:
            return


if __name__ == "__main__":
    main()
