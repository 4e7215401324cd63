"""What each arm learns from while an experiment runs: everybody's data, its own units', or all of them
weighted.

Arms that learn from one another's data are no longer the arms that would be deployed: the effect is called
symbiosis here, interference by data training loops in the literature (Si 2023, arXiv 2310.17496).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from armlift.arm import Behaviour, History
from armlift.hashing import key_of

Mode = Literal["own", "pooled", "weighted"]
CLIP = 10.0
"""The largest weight."""
FOLDS = 2
"""Halves of the units, each weighted by what the other did."""
_PRIOR = 5.0  # behaviours' worth of trust in an arm's overall share, against an item's own
_SPAN = 1 << 64


class Learnt(NamedTuple):
    """What a unit did, the arm it met and when (UTC milliseconds); no arm and None where it met none."""

    unit: str
    behaviours: Sequence[Behaviour]
    arm: str | None
    exposed: int | None


def histories_for(arm: str, arms: Sequence[str], units: Iterable[Learnt], mode: Mode) -> Iterator[History]:
    """Give the histories that an arm of an experiment learns from, in the order of the units.

    Units are gone through once to count and once to tell, so `units` must give the same ones again: a list,
    or what reads them anew. Memory holds counts by arm and item, no units.

    - `pooled`: everything;
    - `own`: the arm's own units, as many of them as the smallest arm has (by the hash of their id), and of
      units that met no arm the same share as these are of all that did: so past and present are mixed as they
      would be where everybody meets the arm. An arm without units has everybody's past;
    - `weighted`: everything, a behaviour after an exposure with the weight P(arm | item) / share(arm), at
      most CLIP, where P is the share of the item's behaviours after exposure that are the arm's units', in
      the other half of the units. A weight w is told by w copies, its fraction by chance (of a hash).
    """
    if isinstance(units, Iterator):
        raise TypeError("units are gone through twice, must not be an iterator")
    if mode == "pooled":
        yield from (History(one.unit, one.behaviours) for one in units)
    elif mode == "own":
        yield from _own(arm, arms, units)
    else:
        yield from _weighted(arm, units)


def _own(arm: str, arms: Sequence[str], units: Iterable[Learnt]) -> Iterator[History]:
    sizes = Counter(one.arm for one in units if one.arm is not None)
    if not sizes[arm]:
        yield from (History(one.unit, past) for one in units if (past := _before(one)))
        return
    smallest, met = min(sizes[name] for name in arms if sizes[name]), sizes.total()
    for one in units:
        of = met if one.arm is None else sizes[arm] if one.arm == arm else 0
        if of and _chance(one.unit) * of < smallest:
            yield History(one.unit, one.behaviours)


def _before(one: Learnt) -> list[Behaviour]:
    return [behaviour for behaviour in one.behaviours if one.exposed is None or behaviour.ts < one.exposed]


def _weighted(arm: str, units: Iterable[Learnt]) -> Iterator[History]:
    mine = [Counter[str]() for _ in range(FOLDS)]
    everybodys = [Counter[str]() for _ in range(FOLDS)]
    for one in units:
        if one.arm is None or one.exposed is None:
            continue
        items = [behaviour.item for behaviour in one.behaviours if behaviour.ts >= one.exposed]
        fold = key_of(one.unit) % FOLDS
        everybodys[fold].update(items)
        if one.arm == arm:
            mine[fold].update(items)
    total = sum(counts.total() for counts in everybodys)
    share = sum(counts.total() for counts in mine) / total if total else 0.0
    for one in units:
        fold = key_of(one.unit) % FOLDS
        own, all_ = mine[1 - fold], everybodys[1 - fold]
        told: list[Behaviour] = []
        for behaviour in one.behaviours:
            if one.exposed is None or behaviour.ts < one.exposed or not share:
                told.append(behaviour)
                continue
            of_item = (own[behaviour.item] + _PRIOR * share) / (all_[behaviour.item] + _PRIOR)
            weight = min(of_item / share, CLIP)
            whole = int(weight)
            more = _chance(f"{one.unit}|{behaviour.item}|{behaviour.kind}|{behaviour.ts}") < weight - whole
            told += [behaviour] * (whole + more)
        if told:
            yield History(one.unit, told)


def _chance(text: str) -> float:
    """Give a number in [0, 1) that only the text decides."""
    return (key_of(text) >> 11) / (_SPAN >> 11)
