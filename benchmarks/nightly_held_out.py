"""Do units that the promoted version served speak against the next one? The same models, both kinds of units.

Of each night and arm, the candidate and the version that served on the day held out are asked for what units
took on it: those whom that version served, and those whom other arms did.
"""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from figures import Figure
from nightly_lab import ARMS, Week

from armlift.artefacts import load_artefact
from armlift.stats.aggregates import Aggregates
from armlift.stats.paired import paired_means
from armlift.stats.results import Rules
from armlift_pipelines import next_day
from armlift_pipelines.dataset import DATASETS, DataSet
from armlift_pipelines.job_runs import JobRun, Record
from armlift_pipelines.next_day import RERANKED
from armlift_pipelines.night import JOB
from armlift_pipelines.shards import SHOWN

RECALL = "NDCG@10"
EVERYBODY = 1_000_000_000

Floats = npt.NDArray[np.float64]


class Gains(NamedTuple):
    """What two versions gained of some units: [units] each."""

    candidate: Floats
    promoted: Floats

    @property
    def lift(self) -> float:
        """Give the lift of the candidate."""
        return float(self.candidate.mean() / self.promoted.mean() - 1.0)

    def interval(self) -> str:
        """Write the lift with its interval of 95 %."""
        pairs = Aggregates.of(("candidate", "promoted"), np.column_stack(self))
        found = paired_means(pairs, "candidate", "promoted", Rules())
        return f"{found.lift or 0.0:+.1%} [{found.lift_low or 0.0:+.1%}, {found.lift_high or 0.0:+.1%}]"


class Sides(NamedTuple):
    """The units whom the arm served, and the others."""

    served: Gains
    neutral: Gains


def served_bias(week: Week) -> Iterator[Figure]:
    """Print lifts on both kinds of units, and give the difference that all arms and nights together have."""
    for metric in (RECALL, RERANKED):
        yield from _bias(week, metric)


def _bias(week: Week, metric: str) -> Iterator[Figure]:
    everything: list[Sides] = []
    print(
        f"\n{metric}\n\n| arm | on units it served | on others | median over nights: served | others |\n"
        "|---|---|---|---|---|"
    )
    for arm in ARMS[1:]:
        nights = [sides(week, one, metric) for one in evaluations(week, arm)]
        if not nights:
            continue
        everything += nights
        served, neutral = together([one.served for one in nights]), together([one.neutral for one in nights])
        medians = (median(getattr(one, kind).lift for one in nights) for kind in Sides._fields)
        told = " | ".join(f"{one:+.1%}" for one in medians)
        print(f"| {arm} | {served.interval()} | {neutral.interval()} | {told} |")
    if everything:
        served, neutral = (together([getattr(one, kind) for one in everything]) for kind in Sides._fields)
        print(f"| all | {served.interval()} | {neutral.interval()} | | |")
        yield Figure(
            f"{metric}: lift of candidates, units served", served.lift, "lift", "other units", neutral.lift,
            None, "none", True,
        )  # fmt: skip


def evaluations(week: Week, arm: str) -> list[JobRun]:
    """Give an arm's evaluations against a promoted version, in the order of nights."""
    prefix = f"{week.run.run}/"
    runs = Record(week.engine).runs(job=JOB, limit=100_000)
    mine = [
        one for one in runs if (one.step, one.arm) == ("evaluate", arm) and one.subject.startswith(prefix)
    ]
    return sorted(
        (one for one in mine if one.inputs["parent"] not in (None, one.inputs["candidate"])),
        key=lambda one: one.subject,
    )


def sides(week: Week, one: JobRun, metric: str) -> Sides:
    """Ask both versions for all units of a night that the metric is of."""
    data = DataSet(week.lab.folder / DATASETS / one.inputs["dataset"])
    url = week.lab.resolve(week.lab.settings.artefact_url)
    candidate, promoted = (
        load_artefact(url, one.arm, one.inputs[which])[0] for which in ("candidate", "parent")
    )
    kinds, limit = candidate.config.history_kinds, one.inputs["history_limit"]
    test = next_day.held_out(data, one.arm, kinds, limit, EVERYBODY)
    gains = Gains(*(next_day.measure(arm, data, test).gains[metric] for arm in (candidate, promoted)))
    met = served_by(data, one.arm)
    asked = [one for one in test.asked if metric != RERANKED or one.reranked is not None]
    mine = np.array([one.request.unit in met for one in asked])
    return Sides(part(gains, mine), part(gains, ~mine))


def served_by(data: DataSet, arm: str) -> set[str]:
    """Name the units that an arm showed something in the time that is held out."""
    shown = (data.read(SHOWN, number) for number in data.shards)
    return {unit for one in shown for unit in one.filter(pl.col("arm") == arm)["unit"].to_list()}


def part(gains: Gains, which: npt.NDArray[np.bool_]) -> Gains:
    """Take some units."""
    return Gains(gains.candidate[which], gains.promoted[which])


def together(several: list[Gains]) -> Gains:
    """Put the units of several nights together; a unit counts once a night."""
    return Gains(*(np.concatenate(each) for each in zip(*several, strict=True)))
