"""Predictions: exact in worlds small enough to list, and held against what is observed."""

from collections.abc import Callable, Sequence
from itertools import permutations
from math import log, nan

import numpy as np
import pytest

from armlift.arm import Slate
from armlift.metric import METRICS, Measure
from armlift.predictions import (
    CLUSTERS,
    LEAST_EFFECTIVE,
    Predictions,
    predicted_of,
    reward_of,
    slot_weights,
    target_of,
)
from armlift.stats.results import Effect

RATIO = {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}}
ITEMS = "abcde"
APPEAL = {"a": 5.0, "b": 1.0, "c": 2.0, "d": 0.5, "e": 3.0}


def slate(items: Sequence[str], propensities: Sequence[float | None] | None = None) -> Slate:
    n = len(items)
    return Slate(list(items), [0.0] * n, [0] * n, [1.0] * n if propensities is None else propensities)


def plackett_luce(before: Sequence[str], left: Sequence[str]) -> dict[str, float]:
    total = sum(APPEAL[item] for item in left)
    return {item: APPEAL[item] / total for item in left}


def uniform(before: Sequence[str], left: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(left, 1 / len(left))


def last_two(before: Sequence[str], left: Sequence[str]) -> dict[str, float]:
    return {left[0]: 1.0} if not before else uniform(before, left)


@pytest.mark.parametrize("policy", [plackett_luce, uniform, last_two])
@pytest.mark.parametrize("challenger", ["ab", "de", "aed", "c"])
def test_slot_weights_add_up_to_the_challengers_slate(
    policy: Callable[[Sequence[str], Sequence[str]], dict[str, float]], challenger: str
) -> None:
    """Over every slate of three of five items the mean is exactly the sum over the challenger's items."""
    rewards = dict(zip(ITEMS, (0.3, 1.0, 0.2, 0.7, 0.4), strict=True))
    mean, mass = 0.0, 0.0
    for drawn in permutations(ITEMS, 3):
        chances = [
            policy(drawn[:slot], [item for item in ITEMS if item not in drawn[:slot]]).get(item, 0.0)
            for slot, item in enumerate(drawn)
        ]
        chance = float(np.prod(chances))
        if not chance:
            continue
        weights = slot_weights(chances)
        assert weights is not None
        told = zip(drawn, weights, strict=True)
        mean += chance * sum(weight * rewards[item] for item, weight in told if item in challenger)
        mass += chance
    assert mass == pytest.approx(1)
    assert mean == pytest.approx(sum(rewards[item] for item in challenger), rel=1e-12)


def test_without_exploration_or_propensities_there_are_no_weights() -> None:
    assert slot_weights([1.0, 1.0]) is None
    assert slot_weights([0.5, None]) is None
    assert slot_weights([]) is None
    assert slot_weights([0.5]) == [2.0]
    assert slot_weights([0.5, 0.25]) == [1.5, 2.0]
    assert slot_weights([1.0, 0.25]) == [1.0, 4.0]


def test_what_nothing_was_left_to_chance_in_counts_as_it_is() -> None:
    found = Predictions("old", ["old", "new"])
    found.add("u", slate("a"), [1.0], {"new": slate("a")})
    found.add("u", slate("ab", [0.5, 1.0]), [1.0, 0.0], {"new": slate("b")})  # all there is
    found.add("v", slate("ab"), [1.0, 0.0], {"new": slate("ac")})  # another slate: tells nothing
    found.add("v", slate("ab", [0.5, 0.5]), [None, nan], {"new": slate("ab")})  # no impression counts
    result = found.result("click_rate")
    assert (result["requests"], result["explored"]) == (4, 2)
    new = result["arms"]["new"]
    assert (new["unsupported"], new["rows"]) == (1, 3)
    assert new["effective_rows"] == pytest.approx(2.0)
    assert (new["status"], new["lift"]) == ("too_few", None)


def test_a_control_that_never_explores_predicts_nothing() -> None:
    found = Predictions("old", ["old", "new"])
    for number in range(300):
        found.add(str(number), slate("ab"), [1.0, 0.0], {"new": slate("ab")})
    assert found.result("click_rate")["arms"]["new"]["status"] == "not_estimable"
    assert Predictions("old", ["old", "new"]).result("m")["arms"]["new"]["status"] == "no_data"


APPEALS, CHANCES = np.exp(np.linspace(1, 0, 8)), np.linspace(0.1, 0.8, 8)
NAMES = [f"i{n}" for n in range(8)]
BEST = [7, 6, 5]


def world(seed: int, requests: int, seen: Sequence[float], *, by_slot: bool = False) -> Predictions:
    """Ask a control that explores, and a challenger of the three best items; slots are `seen` unlike."""
    rng = np.random.default_rng(seed)
    found = Predictions("old", ["old", "new"], by_slot=by_slot)
    mood = rng.uniform(0.8, 1.2, requests // 4)
    units = np.arange(requests) % len(mood)
    places = np.argsort(-np.log(APPEALS) - rng.gumbel(size=(requests, 8)), axis=1)[:, :3]  # Plackett-Luce
    shown = APPEALS[places]
    propensities = shown / (APPEALS.sum() - shown.cumsum(axis=1) + shown)
    clicks = rng.random(places.shape) < CHANCES[places] * seen * mood[units][:, None]
    answers = {"new": slate([NAMES[place] for place in BEST])}
    for unit, held, chances, did in zip(
        units.tolist(), places.tolist(), propensities.tolist(), clicks.astype(float).tolist(), strict=True
    ):
        found.add(str(unit), slate([NAMES[place] for place in held], chances), did, answers)
    return found


def true_lift(seen: Sequence[float]) -> float:
    """Give the challenger's lift; the control's value is listed over all its slates."""
    value = 0.0
    for drawn in permutations(range(8), 3):
        left, chance = APPEALS.sum(), 1.0
        for place in drawn:
            chance *= APPEALS[place] / left
            left -= APPEALS[place]
        value += chance * float((CHANCES[list(drawn)] * seen).sum())
    return float((CHANCES[BEST] * seen).sum()) / value - 1


@pytest.mark.parametrize(("seen", "by_slot"), [((1.0, 1.0, 1.0), False), ((1.0, 0.6, 0.3), True)])
def test_known_lifts_are_covered(seen: tuple[float, ...], by_slot: bool) -> None:
    """200 worlds of 60 units; by slot matches are fewer, and units more."""
    draws, requests = 200, 900 if by_slot else 240
    truth, covered = true_lift(seen), 0
    for seed in range(draws):
        new = world(seed, requests, seen, by_slot=by_slot).result("click_rate")["arms"]["new"]
        assert new["status"] == "ok"
        covered += new["lift_low"] <= truth <= new["lift_high"]
    assert abs(covered / draws - 0.95) < 3.2 * np.sqrt(0.95 * 0.05 / draws), covered


def test_by_slot_an_item_must_stand_in_its_slot() -> None:
    found = Predictions("old", ["old", "new", "same"], by_slot=True)
    answers = {"new": slate("ba"), "same": slate("ac")}
    found.add("u", slate("ab", [0.5, 0.25]), [1.0, 0.5], answers)
    found.add("v", slate("ba", [0.5, 0.25]), [1.0, 0.0], answers)
    result = found.result("m")["arms"]
    assert result["new"]["effective_rows"] == pytest.approx(36 / 20)
    assert result["same"]["effective_rows"] == pytest.approx(1.0)


def test_memory_does_not_grow_with_units() -> None:
    found = Predictions("old", ["old", "new"])
    size = found._totals.nbytes
    for number in range(3 * CLUSTERS):
        found.add(str(number), slate("ab", [0.5, 0.5]), [float(number % 2), 0.0], {"new": slate("b")})
    assert found._totals.nbytes == size
    new = found.result("m")["arms"]["new"]
    assert (new["status"], new["rows"]) == ("not_estimable", 6 * CLUSTERS)  # b never earns: no log ratio


def test_the_first_ratio_per_impression_is_predicted() -> None:
    metrics = METRICS.validate_python(
        {
            "likers": {"kind": "proportion", "of": {"event": "like"}},
            "early": {**RATIO, "window": "7d"},
            "per_click": {**RATIO, "denominator": {"event": "click"}},
            "click_rate": RATIO,
            "watch": {**RATIO, "numerator": {"event": "play", "aggregate": "sum", "minimum": 2}},
        }
    )
    target = target_of(["likers", "early", "per_click", "click_rate", "watch"], metrics)
    assert target is not None
    assert target.metric == "click_rate"
    assert target_of(["likers", "early", "per_click"], metrics) is None
    watched = target_of(["watch"], metrics)
    assert watched is not None
    feedback = (("click", 1.0), ("play", 5.0), ("play", 1.0))
    assert reward_of(target.reward, feedback) == 1.0
    assert reward_of(watched.reward, feedback) == 5.0
    assert reward_of(Measure(event="impression"), ()) == 1.0
    assert reward_of(Measure(event="play", maximum=1.0), feedback) == 1.0


def test_predicted_is_held_against_observed() -> None:
    found = world(1, 1_000, (1.0, 1.0, 1.0))
    stored = found.result("click_rate")
    own = stored["arms"]["new"]
    observed = Effect(
        **{
            **Effect.unknown("ratio", "ok", alpha=0.05, lift=0.5).__dict__,
            "lift_error": 0.1,
            "lift_scale": "log",
        }
    )
    one = predicted_of(stored, "new", observed, (0.3, 0.8))
    wanted = (log(1 + own["lift"]) - log(1.5)) / np.hypot(own["lift_error"], 0.1)
    assert one.z == pytest.approx(wanted)
    assert one.agrees == (abs(wanted) < 1.96)
    assert (one.observed_lift, one.observed_low, one.observed_high) == (0.5, 0.3, 0.8)
    alone = predicted_of(stored, "new", None, (None, None))
    assert (alone.z, alone.agrees, alone.observed_lift, alone.lift) == (None, None, None, own["lift"])
    assert one.effective_rows > LEAST_EFFECTIVE
