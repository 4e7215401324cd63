"""Offline evaluation on the platform's own events: what units took in the time that was held out.

A unit is asked for where it has behaviours of the arm's `history_kinds` before the cut and such a one on an
item new to it after; these items are its targets, its history is all that was before the cut.

    rerank_NDCG@10       mean over units of DCG / IDCG, with a gain of 1 a target, where the arm orders what
                         units were shown after the cut and had not met; of units that took a part of it
    HR@k                 share of units with a target among the first k of the whole catalogue
    NDCG@k               DCG / IDCG of the first k of the whole catalogue
    coverage@10          share of the catalogue that stands in at least one unit's first 10
    miscalibration@10    Jensen-Shannon divergence (base 2) of the popularity of what is listed and of what is
                         taken: items in ten groups that hold a tenth of the behaviours each
    prompt_gap           how much more often a prompt is right on the last item learned from than on the first
                         one held out; only of arms that write prompts
    milliseconds         time to answer one request alone, 95th percentile

Comparisons are paired, unit by unit. By the whole catalogue any model looks worse than the one that served:
units could only take what it, or others that had learned from the same days, showed them. The order of what
was shown does not depend on that; and units that the arm itself served after the cut are left out where
enough others remain, for they looked first at what it put first.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial.distance import jensenshannon

from armlift.arm import Arm, Behaviour, Request
from armlift.evaluation import BATCH
from armlift.heldout import DEEPEST
from armlift.stats.aggregates import Aggregates
from armlift.stats.paired import paired_means
from armlift.stats.results import Effect, Rules
from armlift_pipelines.dataset import DataSet
from armlift_pipelines.shards import BEHAVIOURS, SHOWN

CUTOFFS = (10, DEEPEST)
LISTED = 10
RERANKED = "rerank_NDCG@10"
MOST_UNITS = 5_000
"""Units that are asked for at most: the first of a data set, whose order is a hash of their ids."""
_TIMED = 100
_GROUPS = 10

Floats = npt.NDArray[np.float64]


class Asked(NamedTuple):
    """A request that stands for a unit, the items it took later, in their order, and those it was shown."""

    request: Request
    targets: Sequence[str]
    shown: Sequence[str] = ()

    @property
    def reranked(self) -> "Asked | None":
        """Ask for the order of what was shown; None where all of it was taken, or nothing."""
        targets = [item for item in self.targets if item in set(self.shown)]
        if not 0 < len(targets) < len(self.shown):
            return None
        return Asked(self.request._replace(k=LISTED, candidates=self.shown), targets)


class Test(NamedTuple):
    """What is asked, one request a unit; how many units there were, before a sample was taken.

    `neutral` tells that the arm served none of them.
    """

    asked: list[Asked]
    units: int
    neutral: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an arm reached: `gains`, float64 [units], by metric, and figures of all units together.

    A metric has the gains of the units that it is of, in the order in which they were asked.
    """

    gains: dict[str, Floats]
    figures: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Give every metric by its name."""
        return {name: float(values.mean()) for name, values in self.gains.items()} | self.figures


class _Sample:
    """The first MOST_UNITS requests of all there are, and how many these are."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.units = 0

    def add(self, one: Asked) -> None:
        """Count a request, and keep it where there is room."""
        self.units += 1
        if len(self.asked) < MOST_UNITS:
            self.asked.append(one)


def held_out(data: DataSet, arm: str, kinds: Sequence[str], limit: int, enough: int) -> Test:
    """Find whom to ask for what, in the order of the data set; a history keeps its last `limit` behaviours.

    With under `enough` units that the arm did not serve, all are asked.
    """
    everybody, others = _Sample(), _Sample()
    for number in data.shards:
        shown = data.read(SHOWN, number)
        served = set(shown.filter(pl.col("arm") == arm)["unit"].to_list())
        for one in _asked(data.read(BEHAVIOURS, number), shown, data.span.until, kinds, limit):
            everybody.add(one)
            if one.request.unit not in served:
                others.add(one)
    if len(others.asked) >= enough or others.units == everybody.units:
        return Test(others.asked, others.units, True)
    return Test(everybody.asked, everybody.units, False)


def _asked(
    frame: pl.DataFrame, shown: pl.DataFrame, until: int, kinds: Sequence[str], limit: int
) -> Iterator[Asked]:
    """Ask each unit of a shard that took something new to it."""
    taking = frame.filter(pl.col("kind").is_in(list(kinds)))
    rows = frame
    for side in (pl.col("ts") < until, pl.col("ts") >= until):
        rows = rows.join(taking.filter(side), on="unit", how="semi", maintain_order="left")
    pairs = shown.select("unit", "item").unique(maintain_order=True)
    items_of = dict(pairs.group_by("unit").agg("item").iter_rows())
    for unit, group in groupby(rows.iter_rows(), key=itemgetter(0)):
        behaviours = [Behaviour(*row[1:]) for row in group]
        history = [one for one in behaviours if one.ts < until]
        met = {one.item for one in history}
        taken = [one for one in behaviours[len(history) :] if one.kind in kinds and one.item not in met]
        targets = list(dict.fromkeys(one.item for one in taken))
        if targets:
            request = Request(unit, unit, taken[0].ts, DEEPEST, tuple(history[-limit:]))
            yield Asked(request, targets, [item for item in items_of.get(unit, ()) if item not in met])


def measure(arm: Arm, data: DataSet, test: Test) -> Outcome:
    """Ask an arm for every unit's targets."""
    gains: dict[str, list[float]] = {f"{name}@{k}": [] for k in CUTOFFS for name in ("HR", "NDCG")}
    listed: list[str] = []
    for start in range(0, len(test.asked), BATCH):
        batch = test.asked[start : start + BATCH]
        for k in CUTOFFS:
            slates = arm.recommend([one.request._replace(k=k) for one in batch])
            for one, slate in zip(batch, slates, strict=True):
                hit, ndcg = _gains(slate.items, one.targets, k)
                gains[f"HR@{k}"].append(hit)
                gains[f"NDCG@{k}"].append(ndcg)
            if k == LISTED:
                listed += [item for slate in slates for item in slate.items]
    reranked = _reranked(arm, test.asked)
    if reranked:
        gains[RERANKED] = reranked
    figures = {f"coverage@{LISTED}": len(set(listed)) / max(1, len(data.items))}
    if listed:
        taken = [item for one in test.asked for item in one.targets]
        figures[f"miscalibration@{LISTED}"] = _miscalibration(data, listed, taken)
    figures["milliseconds"] = _milliseconds(arm, test.asked)
    gap = _prompt_gap(arm, test.asked)
    if gap is not None:
        figures["prompt_gap"] = gap
    return Outcome({name: np.array(values) for name, values in gains.items()}, figures)


def _reranked(arm: Arm, asked: Sequence[Asked]) -> list[float]:
    """Give NDCG of the order in which an arm puts what each unit was shown, where that tells something."""
    some = [found for one in asked if (found := one.reranked) is not None]
    gains: list[float] = []
    for start in range(0, len(some), BATCH):
        batch = some[start : start + BATCH]
        slates = arm.recommend([one.request for one in batch])
        gains += [
            _gains(slate.items, one.targets, LISTED)[1] for one, slate in zip(batch, slates, strict=True)
        ]
    return gains


def _gains(items: Sequence[str], targets: Sequence[str], k: int) -> tuple[float, float]:
    """Give hit rate and NDCG at k of one slate."""
    wanted = set(targets)
    hits = [1.0 / np.log2(2.0 + place) for place, item in enumerate(items[:k]) if item in wanted]
    ideal = sum(1.0 / np.log2(2.0 + place) for place in range(min(k, len(wanted))))
    return float(bool(hits)), float(sum(hits) / ideal)


def _miscalibration(data: DataSet, listed: Sequence[str], taken: Sequence[str]) -> float:
    """Give the Jensen-Shannon divergence of the popularity of items that are listed and of those taken."""
    counts = _popularity(data).sort(["count", "item"], descending=[True, False])
    sizes = counts["count"].to_numpy().astype(np.int64)
    groups = (np.cumsum(sizes) - sizes) * _GROUPS // max(1, sizes.sum())
    group_of = dict(zip(counts["item"].to_list(), groups.tolist(), strict=True))
    shares = [
        np.bincount([group_of.get(item, _GROUPS - 1) for item in items], minlength=_GROUPS)
        / max(1, len(items))
        for items in (listed, taken)
    ]
    return float(jensenshannon(shares[0], shares[1], base=2) ** 2)


def _popularity(data: DataSet) -> pl.DataFrame:
    """Count the behaviours learned from by item, a shard at a time."""
    counts = pl.DataFrame(schema={"item": pl.String, "count": pl.Int64})
    for number in data.shards:
        learned = data.read(BEHAVIOURS, number).filter(pl.col("ts") < data.span.until)
        more = learned.group_by("item").agg(count=pl.len().cast(pl.Int64))
        counts = pl.concat([counts, more]).group_by("item").agg(pl.col("count").sum())
    return counts


def _milliseconds(arm: Arm, asked: Sequence[Asked]) -> float:
    """Time requests one by one, the first ones not counted."""
    times = []
    for one in asked[: _TIMED + 3]:
        began = time.perf_counter()
        arm.recommend([one.request])
        times.append((time.perf_counter() - began) * 1000.0)
    return float(np.quantile(times[3:] or times or [0.0], 0.95))


def _prompt_gap(arm: Arm, asked: Sequence[Asked]) -> float | None:
    """Compare how often prompts are right on the last item learned from, and on the first one held out."""
    if "prompts" not in arm.capabilities:
        return None
    known = [found for one in asked if (found := _last_learned(one, arm.config.history_kinds)) is not None]
    if not known:
        return None
    learned, new = (_prompt_hits(arm, some) for some in (known, asked))
    return None if learned is None or new is None else learned - new


def _last_learned(one: Asked, kinds: Sequence[str]) -> Asked | None:
    """Ask for the last item of a history that was new to it, with what was before."""
    history = one.request.history
    for place in range(len(history) - 1, 0, -1):
        item = history[place].item
        earlier = history[:place]
        if history[place].kind in kinds and all(other.item != item for other in earlier):
            return Asked(one.request._replace(history=earlier), [item])
    return None


def _prompt_hits(arm: Arm, asked: Sequence[Asked]) -> float | None:
    """Give the share of requests whose first target is among the prompts to their last behaviour."""
    hits = []
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        slates = arm.recommend([one.request._replace(k=LISTED) for one in batch])
        for one, slate in zip(batch, slates, strict=True):
            if slate.prompts:
                last = max(prompt.position for prompt in slate.prompts)
                said = [prompt.item for prompt in slate.prompts if prompt.position == last]
                hits.append(one.targets[0] in said)
    return float(np.mean(hits)) if hits else None


def compared(candidate: Outcome, promoted: Outcome, alpha: float) -> dict[str, Effect]:
    """Compare two arms that were asked the same, by metric: lift of the candidate with its interval."""
    found = {}
    for name, values in candidate.gains.items():
        pairs = Aggregates.of(("candidate", "promoted"), np.column_stack([values, promoted.gains[name]]))
        found[name] = paired_means(pairs, "candidate", "promoted", Rules(alpha=alpha))
    return found
