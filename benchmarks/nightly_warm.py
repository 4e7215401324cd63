"""Is a model that goes on from the promoted one as good as one that begins anew, and how much sooner there?

Some nights' trainings of `recgpt` are done again, warm and fresh, on the same data set from the same parent;
both are asked for what units took on the day held out whom the arm did not serve.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from figures import Figure
from nightly_held_out import Gains, evaluations, together
from nightly_lab import Week

from armlift.arm import Arm, new_arm
from armlift.artefacts import artefact_folder, load_artefact
from armlift.fitting import fitting
from armlift_pipelines import next_day
from armlift_pipelines.dataset import DATASETS, DataSet, Lesson
from armlift_pipelines.job_runs import JobRun
from armlift_pipelines.next_day import RERANKED

ARM = "recgpt"
WHICH = (0, 1, 2, -1)
"""Nights after the first one that are looked at."""


class Trained(NamedTuple):
    """A training: its model, its seconds, and the figures that it recorded."""

    arm: Arm
    seconds: float
    figures: dict[str, float]


class Pair(NamedTuple):
    """What both ways came to on a night, and what the version they are to replace did: gains by unit."""

    night: str
    warm: Trained
    fresh: Trained
    gains: tuple[np.ndarray, np.ndarray, np.ndarray]


def warm_starts(week: Week) -> Iterator[Figure]:
    """Print both ways night by night, and give all nights together."""
    nights = evaluations(week, ARM)
    chosen = sorted({at % len(nights) for at in WHICH if -len(nights) <= at < len(nights)}) if nights else []
    pairs = [pair(week, nights[at]) for at in chosen]
    if not pairs:
        return
    print(
        "\n| night | rerank_NDCG@10 warm | fresh | promoted | warm over fresh | seconds warm, fresh "
        "| epochs (best) warm, fresh | loss before, after: warm | validation warm, fresh |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for one in pairs:
        print(row(one))
    both = together([Gains(*one.gains[:2]) for one in pairs])
    print(f"\nwarm over fresh, all of these nights: {both.interval()}")
    warm, fresh = (sum(getattr(one, how).seconds for one in pairs) for how in ("warm", "fresh"))
    yield Figure(
        "warm start: rerank_NDCG@10 over fresh",
        both.lift,
        "lift",
        "none",
        None,
        None,
        ">= -0.02",
        both.lift >= -0.02,
    )
    yield Figure(
        "warm start: training", warm / len(pairs), "s", "fresh", fresh / len(pairs), fresh / warm, "< fresh",
        warm < fresh,
    )  # fmt: skip


def pair(week: Week, one: JobRun) -> Pair:
    """Train both ways on a night's data."""
    data = DataSet(week.lab.folder / DATASETS / one.inputs["dataset"])
    url = week.lab.resolve(week.lab.settings.artefact_url)
    parent = one.inputs["parent"]
    warm, fresh = trained(week, data, parent), trained(week, data, None)
    promoted, _ = load_artefact(url, ARM, parent)
    kinds, limit = promoted.config.history_kinds, one.inputs["history_limit"]
    test = next_day.held_out(data, ARM, kinds, limit, one.inputs["minimum_units"])
    a, b, c = (next_day.measure(arm, data, test).gains[RERANKED] for arm in (warm.arm, fresh.arm, promoted))
    return Pair(one.subject.rpartition("/")[2], warm, fresh, (a, b, c))


def trained(week: Week, data: DataSet, parent: str | None) -> Trained:
    """Train the arm, from a version on or anew."""
    arm, lesson = new_arm(week.lab.arm(ARM)), Lesson(data)
    begin = time.perf_counter()
    with fitting() as figures:
        if parent is None:
            arm.fit(lesson.histories(), lesson.items, until=lesson.until)
        else:
            url = week.lab.resolve(week.lab.settings.artefact_url)
            with artefact_folder(url, ARM, parent) as (folder, _):
                arm.fit(lesson.histories(), lesson.items, until=lesson.until, warm=folder)
    return Trained(arm, time.perf_counter() - begin, dict(figures))


def row(one: Pair) -> str:
    """Write a night."""
    warm, fresh, promoted = one.gains
    told, other = one.warm.figures, one.fresh.figures
    epochs = ", ".join(f"{f['tune_epochs']:.0f} ({f['tune_best_epoch']:.0f})" for f in (told, other))
    losses = f"{told['loss_before']:.3f}, {told['loss_after']:.3f}"
    validation = f"{told['tune_NDCG@10']:.4f}, {other['tune_NDCG@10']:.4f}"
    means = f"{warm.mean():.4f} | {fresh.mean():.4f} | {promoted.mean():.4f}"
    return (
        f"| {one.night} | {means} | {Gains(warm, fresh).interval()} | {one.warm.seconds:.0f}, "
        f"{one.fresh.seconds:.0f} | {epochs} | {losses} | {validation} |"
    )
