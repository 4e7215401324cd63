"""Predictions: exact in worlds small enough to list, and held against what is observed."""

from collections.abc import Callable, Sequence
from itertools import permutations
from math import log, nan

import numpy as np
import pytest

from armlift.arm import Exploration, Slate
from armlift.metric import METRICS, Measure
from armlift.predictions import (
    LEAST_EFFECTIVE,
    Predictions,
    predicted_of,
    reward_of,
    slot_weights,
    target_of,
)
from armlift.slates import explore
from armlift.stats.results import Effect

RATIO = {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}}
Policy = Callable[[Sequence[str], Sequence[str]], float]
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
    assert (new["unsupported"], new["units"], new["rows"]) == (1, 1, 3)
    assert new["effective_rows"] == pytest.approx(2.0)
    assert (new["status"], new["lift"]) == ("too_few", None)


def test_a_control_that_never_explores_predicts_nothing() -> None:
    found = Predictions("old", ["old", "new"])
    for number in range(300):
        found.add(str(number), slate("ab"), [1.0, 0.0], {"new": slate("ab")})
    assert found.result("click_rate")["arms"]["new"]["status"] == "not_estimable"
    assert Predictions("old", ["old", "new"]).result("m")["arms"]["new"]["status"] == "no_data"


def world(seed: int, requests: int, *, by_slot: bool = False) -> tuple[Predictions, float]:
    """Ask a control that explores, and a challenger of the three best items; gives its true value too."""
    rng = np.random.default_rng(seed)
    chances = np.linspace(0.1, 0.8, 8)
    seen = np.array([1.0, 0.7, 0.5]) if by_slot else np.ones(3)
    found = Predictions("old", ["old", "new"], by_slot=by_slot)
    names = [f"i{n}" for n in range(8)]
    exploration = Exploration(kind="softmax", temperature=2.0)
    mood = rng.uniform(0.8, 1.2, requests // 4)
    for number in range(requests):
        places, propensities = explore(
            np.linspace(2, 0, 8).tolist(), 3, exploration, int(rng.integers(2**63))
        )
        unit = number % len(mood)
        p = np.minimum(1.0, chances[places] * seen * mood[unit])
        clicks = (rng.random(3) < p).astype(float).tolist()
        answer = slate([names[place] for place in places], propensities)
        found.add(str(unit), answer, clicks, {"new": slate(["i7", "i6", "i5"])})
    return found, float((chances[[7, 6, 5]] * seen).sum())


def test_known_lifts_are_covered() -> None:
    """200 worlds of 70 units: the truth of the control is the mean over many requests of its own."""
    draws = 200
    rng = np.random.default_rng(1)
    exploration = Exploration(kind="softmax", temperature=2.0)
    scores, chances = np.linspace(2, 0, 8).tolist(), np.linspace(0.1, 0.8, 8)
    many = [explore(scores, 3, exploration, int(key))[0] for key in rng.integers(2**63, size=10_000)]
    control = float(chances[np.array(many)].sum(axis=1).mean())
    covered = 0
    for seed in range(draws):
        found, value = world(seed, 280)
        new = found.result("click_rate")["arms"]["new"]
        assert new["status"] == "ok"
        covered += new["lift_low"] <= value / control - 1 <= new["lift_high"]
    assert abs(covered / draws - 0.95) < 3.2 * np.sqrt(0.95 * 0.05 / draws), covered


def test_by_slot_an_item_must_stand_in_its_slot() -> None:
    found = Predictions("old", ["old", "new", "same"], by_slot=True)
    answers = {"new": slate("ba"), "same": slate("ac")}
    found.add("u", slate("ab", [0.5, 0.25]), [1.0, 0.5], answers)
    found.add("v", slate("ba", [0.5, 0.25]), [1.0, 0.0], answers)
    result = found.result("m")["arms"]
    assert result["new"]["effective_rows"] == pytest.approx(36 / 20)
    assert result["same"]["effective_rows"] == pytest.approx(1.0)
    known, truth = world(3, 3_000, by_slot=True)
    new = known.result("m")["arms"]["new"]
    assert new["status"] == "ok"
    assert truth > 0


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
    found, _ = world(1, 2_000)
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
