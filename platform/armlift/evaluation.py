"""Offline evaluation: leave one out, ranked against the whole catalogue.

An arm is fitted on all but the last items of each sequence (`sequences.HELD_OUT`) and asked for what comes
next, with the sequence so far as the unit's history; what the unit has met is masked, as in serving. The
target's place in the slate is its rank.

    HR@k         share of units whose target is among the first k
    NDCG@k       mean over units of 1 / log2(1 + rank), 0 where the rank is not among the first k
    coverage@10  share of the catalogue that stands in at least one unit's first 10
    novelty@10   mean over all recommended items of -log2(share of training behaviours), in bits; an item
                 without a behaviour counts as if it had one

Intervals are percentile bootstraps over units. A unit matters only by its rank (a pair of units' ranks in a
paired difference), so resampling units is one multinomial draw over the ranks that occur: exact, and fast.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.arm import Arm, Request, Slate
from armlift.errors import ArmliftError, InputError
from armlift.heldout import DEEPEST, Asked, HeldOut

CUTOFFS = (5, 10, DEEPEST)
LISTED = 10
"""The slate length of coverage and novelty."""
BATCH = 1024
DRAWS = 2000
LEVEL = 0.95

Progress = Callable[[int, int], None]
Watch = Callable[[Sequence[Asked], Sequence[Slate]], None]
Ranks = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an arm reached on one split of a file.

    `ranks`, int16 [users, cut-offs], holds each unit's rank (1 is the first) in the slates of 5, 10 and 20
    items, 0 where the slate lacks the target. `recall` is the number of items each recall step gave to a
    slate of 20 (to most of them). `skipped` units are too short to be tested; `repeats` are tested units
    whose target is in their own history: it is masked, so they miss. `file_hash` is the file's sha256.
    """

    arm: str
    version: str
    seed: int
    file_hash: str
    split: str
    units: tuple[str, ...]
    ranks: Ranks
    items: int
    recall: tuple[int, ...]
    coverage: float
    novelty: float
    skipped: int
    repeats: int

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Give every metric by its name."""
        means = {name: interval.value for name, interval in self.intervals.items()}
        return means | {f"coverage@{LISTED}": self.coverage, f"novelty@{LISTED}": self.novelty}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Give HR and NDCG at every cut-off with their intervals."""
        found = {}
        for name, column, gains in _metrics():
            found[name] = bootstrap(self.ranks[:, column], gains)
        return found

    @cached_property
    def gains(self) -> dict[str, Floats]:
        """Give what each unit earns, float64 [users], by the metric whose mean it makes."""
        return {name: gains[self.ranks[:, column]] for name, column, gains in _metrics()}


@dataclass(frozen=True)
class Difference:
    """What one evaluation has over another on the same units: `intervals` of arm - control by metric."""

    arm: str
    version: str
    control: str
    control_version: str
    intervals: Mapping[str, Interval]


def evaluate(
    arm: Arm,
    data: HeldOut,
    *,
    asked: Iterable[Asked] | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Ask a fitted arm for every unit's held-out item and rank what it answers.

    `asked` are the requests, those of `data` by default. `progress` is told (units done, units), `watch` is
    shown every batch with its slates of 20. Raises ArmliftError for an arm that recommends what a unit has
    met or what is not in the catalogue.
    """
    tally = _Tally(data)
    requests = iter(data.asked() if asked is None else asked)
    while batch := list(islice(requests, BATCH)):
        answers = _answers(arm, [one.request for one in batch])
        tally.add(batch, answers)
        if watch is not None:
            watch(batch, answers[DEEPEST])
        if progress is not None:
            progress(len(tally.units), data.tested)
    return Evaluation(
        arm=arm.config.name,
        version=arm.version,
        seed=arm.config.seed,
        file_hash=data.file_hash,
        split=data.split,
        units=tuple(tally.units),
        ranks=np.array(tally.ranks, dtype=np.int16),
        items=len(data.items),
        recall=tally.steps.most_common(1)[0][0],
        coverage=float((tally.listed > 0).mean()),
        novelty=tally.novelty(),
        skipped=data.skipped,
        repeats=tally.repeats,
    )


class _Tally:
    """Counts the answers of an arm, batch after batch."""

    def __init__(self, data: HeldOut) -> None:
        self._data = data
        self._index_of = {item: index for index, item in enumerate(data.items.ids)}
        self.units: list[str] = []
        self.ranks: list[list[int]] = []
        self.steps: Counter[tuple[int, ...]] = Counter()
        self.listed = np.zeros(len(data.items), dtype=np.int64)
        self.repeats = 0

    def add(self, batch: Sequence[Asked], answers: Mapping[int, list[Slate]]) -> None:
        """Take in the slates of a batch, by slate length; each list is in the order of the batch."""
        for at, (request, target) in enumerate(batch):
            seen = {behaviour.item for behaviour in request.history}
            slates = [answers[k][at] for k in CUTOFFS]
            for slate in slates:
                self._check(request, slate, seen)
            self.units.append(request.unit)
            self.ranks.append([_rank(target, slate, k) for slate, k in zip(slates, CUTOFFS, strict=True)])
            self.repeats += target in seen
            self.steps[tuple(Counter(slates[-1].steps).values())] += 1
            for item in slates[CUTOFFS.index(LISTED)].items[:LISTED]:
                self.listed[self._index_of[item]] += 1

    def novelty(self) -> float:
        """Give the mean of -log2(share of training behaviours) over all listed items; 0 if there are none."""
        counts = np.zeros(len(self.listed))
        for history in self._data.histories():
            np.add.at(counts, [self._index_of[behaviour.item] for behaviour in history.behaviours], 1)
        bits = -np.log2(np.maximum(counts, 1.0) / counts.sum())
        return float(bits @ self.listed / max(self.listed.sum(), 1))

    def _check(self, request: Request, slate: Slate, seen: set[str]) -> None:
        for item in slate.items:
            if item in seen or item not in self._index_of:
                raise ArmliftError(
                    f"the arm recommends item {item!r} to unit {request.unit!r}, "
                    f"must be of the catalogue and not met before"
                )


def _answers(arm: Arm, requests: list[Request]) -> dict[int, list[Slate]]:
    """Ask for slates of every length; where they are prefixes of the longest, that one is asked for alone.

    They are not where recall has several steps, whose sizes depend on k, or where the last slots explore.
    """
    deepest = arm.recommend(requests)
    if arm.config.exploration is None and not any(any(slate.steps) for slate in deepest):
        return dict.fromkeys(CUTOFFS, deepest)
    shorter = {k: arm.recommend([request._replace(k=k) for request in requests]) for k in CUTOFFS[:-1]}
    return shorter | {DEEPEST: deepest}


def _rank(target: str, slate: Slate, k: int) -> int:
    """Give the target's place among the first k, from 1; 0 if it is not there."""
    items = list(slate.items[:k])
    return items.index(target) + 1 if target in items else 0


def _metrics() -> Iterator[tuple[str, int, Floats]]:
    """Give each metric's name, its column of ranks, and the gain of every rank, float64 [21] (0: no hit)."""
    rank = np.arange(DEEPEST + 1)
    for column, k in enumerate(CUTOFFS):
        hit = ((rank >= 1) & (rank <= k)).astype(np.float64)
        yield f"HR@{k}", column, hit
        yield f"NDCG@{k}", column, hit / np.log2(1.0 + np.maximum(rank, 1))


def bootstrap(
    classes: npt.NDArray[np.integer],
    gains: Floats,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Give the mean gain of units with its percentile bootstrap interval (95 %, Efron 1979).

    `classes`, integers [n], sorts the n units into classes; `gains`, float64 [classes], is what a unit of
    each earns. The interval of units that all earn the same has no width.
    """
    n = len(classes)
    counts = np.bincount(classes, minlength=len(gains))
    occurring = np.flatnonzero(counts)
    drawn = np.random.default_rng(seed).multinomial(n, counts[occurring] / n, size=draws)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(drawn @ gains[occurring] / n, [tail, 1.0 - tail])
    return Interval(float(counts @ gains / n), float(low), float(high))


def paired_difference(arm: Evaluation, control: Evaluation, *, seed: int = 0) -> Difference:
    """Compare two evaluations unit by unit: arm - control of HR and NDCG, with bootstrap intervals.

    Raises InputError for evaluations of different files or splits.
    """
    if (arm.file_hash, arm.split) != (control.file_hash, control.split):
        raise InputError(f"{arm.arm} and {control.arm} were evaluated on different data, must be on the same")
    size = DEEPEST + 1
    intervals = {}
    for name, column, gains in _metrics():
        pairs = arm.ranks[:, column].astype(np.int64) * size + control.ranks[:, column]
        intervals[name] = bootstrap(pairs, np.subtract.outer(gains, gains).ravel(), seed=seed)
    return Difference(arm.arm, arm.version, control.arm, control.version, intervals)
