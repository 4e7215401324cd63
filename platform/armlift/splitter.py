"""The traffic splitter: a pure function from (experiment, phase, unit) to an arm.

Each rule draws its own 64 bits, `mix(key_of(unit) ^ key_of(salt))`, with the salts

    layer:NAME                  which slice of the layer the unit falls in
    experiment:NAME:GENERATION  which arm it gets
    holdout:NAME                whether it is held out of every experiment

and compares them, as integers, with integer bounds: the share s of the units is the range
[0, floor(s * 2^64)). An arm's range is [start, start + traffic * weight) with `start` fixed by the weights
alone, so that a ramp adds units to each arm and moves none between them. New weights start a new generation,
whose salt draws afresh.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from armlift.audience import Audience, Columns
from armlift.errors import InputError
from armlift.experiment import Experiment, Phase, Weights, exact
from armlift.hashing import MASK, Keys, key_of, keys_of, mix, mix_many

RULES = ("forced", "holdout", "audience", "layer", "stored", "range", "outside", "paused")
"""The rules in their order, then the answers when none gave an arm, and when none was asked."""
_SPAN = 1 << 64


class Assignment(NamedTuple):
    """What a unit gets: the arm, whether it takes part, and the rule that decided."""

    arm: str
    exposed: bool
    rule: str
    phase: int
    generation: int
    forced: bool = False


class Assignments(NamedTuple):
    """The same for n units: indices into `arms` and `RULES`, and whether each takes part."""

    arms: tuple[str, ...]
    arm: npt.NDArray[np.int16]
    exposed: npt.NDArray[np.bool_]
    rule: npt.NDArray[np.int8]


class Holdout(NamedTuple):
    """The share of all units that the lab keeps out of every experiment."""

    name: str = "lab"
    share: float = 0.0


NO_HOLDOUT = Holdout()


class Step(NamedTuple):
    """One rule's answer for one unit, in words."""

    rule: str
    answer: str


@dataclass(frozen=True, slots=True)
class _Range:
    """The arms of one phase as ascending bounds: a draw x falls into outcome `bisect_right(bounds, x)`."""

    generation: int
    salt: int
    bounds: list[int]
    outcomes: list[Assignment]
    held_out: Assignment
    not_in_audience: Assignment
    not_in_layer: Assignment
    paused: Assignment


@dataclass(frozen=True, slots=True)
class Split:
    """An experiment ready for assignment; build it once with `Split.of`.

    While it is `paused` nobody meets its arms, whatever the rules would say.
    """

    experiment: str
    arms: tuple[str, ...]
    default_arm: str
    forced: Mapping[str, str]
    audience: Audience | None
    holdout_salt: int
    holdout_below: int
    layer_salt: int
    layer: tuple[int, int]
    phases: tuple[_Range, ...]
    paused: bool = False

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        *,
        default_arm: str,
        holdout: Holdout = NO_HOLDOUT,
        paused: bool = False,
    ) -> "Split":
        """Prepare an experiment: exact shares become integer bounds."""
        layer = tuple(_bound(exact(side)) for side in experiment.layer.slice)
        return cls(
            experiment=experiment.name,
            arms=tuple(experiment.arms),
            default_arm=default_arm,
            forced=dict(experiment.forced),
            audience=experiment.parsed_audience,
            holdout_salt=key_of(f"holdout:{holdout.name}"),
            holdout_below=_bound(exact(holdout.share)),
            layer_salt=key_of(f"layer:{experiment.layer.name}"),
            layer=(layer[0], layer[1]),
            phases=tuple(_ranges(experiment, default_arm)),
            paused=paused,
        )


def generations(experiment: Experiment) -> list[tuple[int, Weights]]:
    """Give each phase's generation and weights: a phase with new weights starts the next generation."""
    found: list[tuple[int, Weights]] = []
    generation, weights = 0, experiment.arms
    for phase in experiment.phases:
        if phase.weights is not None and phase.weights != weights:
            generation, weights = generation + 1, phase.weights
        found.append((generation, weights))
    return found


def _bound(share: Fraction) -> int:
    return int(share * _SPAN)


def _ranges(experiment: Experiment, default_arm: str) -> list[_Range]:
    found = []
    for index, (phase, (generation, weights)) in enumerate(
        zip(experiment.phases, generations(experiment), strict=True)
    ):
        outside = Assignment(default_arm, False, "outside", index, generation)
        bounds, outcomes = _bounds(experiment, phase, weights, outside)
        found.append(
            _Range(
                generation,
                key_of(f"experiment:{experiment.name}:{generation}"),
                bounds,
                outcomes,
                held_out=outside._replace(rule="holdout"),
                not_in_audience=outside._replace(rule="audience"),
                not_in_layer=outside._replace(rule="layer"),
                paused=outside._replace(rule="paused"),
            )
        )
    return found


def _bounds(
    experiment: Experiment, phase: Phase, weights: Weights, outside: Assignment
) -> tuple[list[int], list[Assignment]]:
    shares = [exact(weights[arm]) for arm in experiment.arms]
    total = sum(shares, Fraction(0))
    starts = [Fraction(0), *accumulate(share / total for share in shares)]
    traffic = exact(phase.traffic)
    bounds: list[int] = []
    outcomes = [outside]
    for arm, start, share in zip(experiment.arms, starts, shares, strict=False):
        low, high = _bound(start), _bound(start + traffic * share / total)
        if low == high:
            continue
        if bounds and bounds[-1] == low:  # the arm before ends where this one starts
            bounds.pop()
            outcomes.pop()
        bounds += [low, high]
        outcomes += [outside._replace(arm=arm, exposed=True, rule="range"), outside]
    if bounds and bounds[-1] == _SPAN:  # no draw lies beyond
        bounds.pop()
        outcomes.pop()
    return bounds, outcomes


def assign(
    split: Split,
    phase: int,
    unit: str,
    attributes: Mapping[str, object] | None = None,
    *,
    stored: Assignment | None = None,
    forced: str | None = None,
) -> Assignment:
    """Assign one unit in a phase (its index).

    `stored` is the unit's first exposed assignment: it keeps its arm, phase and generation for good. `forced`
    names an arm for this call alone and beats the definition's own. The rules are asked in the order of
    `RULES`; a unit that gets no arm of the experiment gets the default arm, unexposed.
    """
    here = split.phases[phase]
    if split.paused:
        return here.paused
    arm = forced or split.forced.get(unit)
    if arm is not None:
        return _forced(split, arm, phase)
    key = key_of(unit)
    if split.holdout_below and mix(key ^ split.holdout_salt) < split.holdout_below:
        return here.held_out
    if split.audience is not None and not split.audience.matches(attributes):
        return here.not_in_audience
    low, high = split.layer
    if high - low != _SPAN and not low <= mix(key ^ split.layer_salt) < high:
        return here.not_in_layer
    if stored is not None:
        if stored.arm not in split.arms:
            raise _not_an_arm(split, "stored", stored.arm)
        return stored if stored.rule == "stored" else stored._replace(rule="stored")
    return here.outcomes[bisect_right(here.bounds, mix(key ^ here.salt))]


def _forced(split: Split, arm: str, phase: int) -> Assignment:
    if arm not in split.arms:
        raise _not_an_arm(split, "forced", arm)
    return Assignment(arm, True, "forced", phase, split.phases[phase].generation, forced=True)


def _not_an_arm(split: Split, what: str, arm: str) -> InputError:
    allowed = ", ".join(split.arms)
    return InputError(f"{what} arm {arm!r} is not in experiment {split.experiment}, must be one of {allowed}")


def assign_many(
    split: Split,
    phase: int,
    units: Sequence[str] | Keys,
    attributes: Columns | None = None,
    *,
    stored: Sequence[str | None] | None = None,
) -> Assignments:
    """Assign n units, given as texts or as their keys (`keys_of`), in one pass; equal to `assign` of each.

    `attributes` are columns of length n; `stored` holds each unit's stored arm or None.
    """
    keys = units if isinstance(units, np.ndarray) and units.dtype == np.uint64 else keys_of(list(units))
    n = len(keys)
    arms = (*split.arms, split.default_arm)
    if split.paused:
        nobody, rule = np.zeros(n, np.bool_), np.full(n, RULES.index("paused"), np.int8)
        return Assignments(arms, np.full(n, len(arms) - 1, np.int16), nobody, rule)
    here = split.phases[phase]
    codes = np.array([arms.index(outcome.arm) if outcome.exposed else -1 for outcome in here.outcomes])
    draw = np.searchsorted(np.array(here.bounds, np.uint64), mix_many(keys ^ np.uint64(here.salt)), "right")
    arm = codes.astype(np.int16)[draw]
    rule = np.where(arm >= 0, RULES.index("range"), RULES.index("outside")).astype(np.int8)
    if stored is not None:
        index = {name: code for code, name in enumerate(split.arms)} | {None: -1}
        for name in set(stored) - index.keys():
            raise _not_an_arm(split, "stored", str(name))
        kept = np.fromiter((index[name] for name in stored), np.int16, n)
        arm, rule = np.where(kept >= 0, kept, arm), np.where(kept >= 0, np.int8(RULES.index("stored")), rule)
    for name, out in _refusals(split, keys, attributes):
        arm, rule = np.where(out, np.int16(-1), arm), np.where(out, np.int8(RULES.index(name)), rule)
    for unit, name in split.forced.items():
        hit = keys == np.uint64(key_of(unit))
        arm = np.where(hit, np.int16(split.arms.index(name)), arm)
        rule = np.where(hit, np.int8(RULES.index("forced")), rule)
    exposed = arm >= 0
    return Assignments(arms, np.where(exposed, arm, np.int16(len(arms) - 1)), exposed, rule)


def _refusals(
    split: Split, keys: Keys, attributes: Columns | None
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Give the rules that keep units out, the first of `RULES` last, so that it has the last word."""
    found = []
    low, high = split.layer
    if high - low != _SPAN:
        x = mix_many(keys ^ np.uint64(split.layer_salt))
        # What lies below wraps round to a distance beyond the slice; `high` itself may need 65 bits.
        found.append(("layer", x - np.uint64(low) >= np.uint64(high - low)))
    if split.audience is not None:
        found.append(("audience", ~split.audience.matches_many(attributes, len(keys))))
    if split.holdout_below:
        x = mix_many(keys ^ np.uint64(split.holdout_salt))
        found.append(("holdout", x <= np.uint64(split.holdout_below - 1)))
    return found


def explain(
    split: Split,
    phase: int,
    unit: str,
    attributes: Mapping[str, object] | None = None,
    *,
    stored: Assignment | None = None,
) -> list[Step]:
    """Give every rule's answer for one unit, in the order they are asked, and the decision last."""
    here, key = split.phases[phase], key_of(unit)
    held = mix(key ^ split.holdout_salt)
    slot = mix(key ^ split.layer_salt)
    draw = mix(key ^ here.salt)
    low, high = split.layer
    inside = split.audience is None or split.audience.matches(attributes)
    outcome = here.outcomes[bisect_right(here.bounds, draw)]
    decided = assign(split, phase, unit, attributes, stored=stored)
    decision = f"{decided.arm}, {'takes part' if decided.exposed else 'does not take part'} ({decided.rule})"
    return [
        *([Step("paused", "nobody meets the arms at present")] if split.paused else []),
        Step("forced", split.forced.get(unit, "no")),
        Step(
            "holdout", f"{_share(held)} < {_share(split.holdout_below)}: {_yes(held < split.holdout_below)}"
        ),
        Step("audience", f"{split.audience.text if split.audience else 'everybody'}: {_yes(inside)}"),
        Step("layer", f"{_share(slot)} in [{_share(low)}, {_share(high)}): {_yes(low <= slot < high)}"),
        Step("stored", stored.arm if stored else "no"),
        Step(
            "range",
            f"{_share(draw)} in generation {here.generation}: {outcome.arm if outcome.exposed else 'no arm'}",
        ),
        Step("decision", decision),
    ]


def _share(x: int) -> str:
    return f"{x / _SPAN:.6f}" if x < MASK else "1"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
