"""What arms learn from: everything, their own, or all of it weighted."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.arm import Behaviour, History
from armlift.training_mix import CLIP, Learnt, Mode, histories_for

ARMS = ("a", "b")
EXPOSED = 1_000


def unit(name: str, arm: str | None, items: str, before: str = "") -> Learnt:
    """Make a unit that clicked `before` its exposure, then `items`, one letter each."""
    past = [Behaviour(item, "click", 1.0, number) for number, item in enumerate(before)]
    then = [Behaviour(item, "click", 1.0, EXPOSED + number) for number, item in enumerate(items)]
    return Learnt(name, [*past, *then], arm, None if arm is None else EXPOSED)


def told(arm: str, units: list[Learnt], mode: Mode) -> dict[str, str]:
    """Give the items each unit's history has."""
    found: dict[str, str] = {}
    for history in histories_for(arm, ARMS, units, mode):
        assert isinstance(history, History)
        assert history.behaviours
        times = [behaviour.ts for behaviour in history.behaviours]
        assert times == sorted(times)
        found[history.unit] = "".join(behaviour.item for behaviour in history.behaviours)
    return found


UNITS = [
    unit("1", "a", "xy", before="p"),
    unit("2", "b", "zz", before="q"),
    unit("3", None, "w"),
    unit("4", "b", "v"),
]


def test_pooled_is_everything() -> None:
    for arm in ARMS:
        assert told(arm, UNITS, "pooled") == {"1": "pxy", "2": "qzz", "3": "w", "4": "v"}


def test_what_can_be_gone_through_only_once_is_refused() -> None:
    with pytest.raises(TypeError, match="must not be an iterator"):
        list(histories_for("a", ARMS, iter(UNITS), "own"))


def test_own_is_the_arms_own_units_whole() -> None:
    found = told("a", UNITS, "own")
    assert found.pop("3", "w") == "w"
    assert found == {"1": "pxy"}
    # b has twice as many units as a, so that each of its own is kept with a chance of a half.
    assert set(told("b", UNITS, "own").items()) <= {("2", "qzz"), ("4", "v"), ("3", "w")}


def test_own_is_everything_before_anybody_met_an_arm() -> None:
    units = [unit(str(number), None, "x") for number in range(20)]
    assert len(told("a", units, "own")) == 20


def test_own_has_as_much_of_the_others_as_of_its_own() -> None:
    units = [unit(f"a{number}", "a", "x") for number in range(1_000)]
    units += [unit(f"b{number}", "b", "y") for number in range(3_000)]
    units += [unit(f"n{number}", None, "z") for number in range(2_000)]
    for arm in ARMS:
        counts = Counter(told(arm, units, "own").values())
        assert set(counts) == {"x" if arm == "a" else "y", "z"}
        # A thousand of four thousand units that met an arm, and so a quarter of those that met none.
        assert abs(counts["z"] - 500) < 100


@given(few=st.integers(1, 60), many=st.integers(1, 600))
def test_own_takes_as_many_units_of_each_arm(few: int, many: int) -> None:
    units = [unit(f"a{number}", "a", "x") for number in range(few)]
    units += [unit(f"b{number}", "b", "y") for number in range(many)]
    counts = {arm: len(told(arm, units, "own")) for arm in ARMS}
    smallest = min(few, many)
    for arm, size in (("a", few), ("b", many)):
        share = smallest / size
        # All of the smallest arm's; of the other as many but for chance.
        assert abs(counts[arm] - smallest) <= 5 * (size * share * (1 - share)) ** 0.5


def test_own_keeps_the_same_units_every_night() -> None:
    units = [unit(f"a{number}", "a", "x") for number in range(10)]
    units += [unit(f"b{number}", "b", "y") for number in range(100)]
    assert told("b", units, "own") == told("b", units[::-1], "own")


def many_units(share: float, overlap: float, seed: int = 0) -> list[Learnt]:
    """Make units of two arms that show items of their own, and of both with the share `overlap`."""
    rng = np.random.default_rng(seed)
    units = []
    for number in range(2_000):
        arm = "a" if rng.random() < share else "b"
        mine = "cdef" if arm == "a" else "ghij"
        items = ["xy"[rng.integers(2)] if rng.random() < overlap else mine[rng.integers(4)] for _ in range(5)]
        units.append(unit(str(number), arm, "".join(items), before="p"))
    return units


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("overlap", [0.3, 1.0])
def test_weights_are_1_on_average(share: float, overlap: float) -> None:
    units = many_units(share, overlap)
    for arm in ARMS:
        histories = told(arm, units, "weighted")
        items = "".join(histories.values())
        assert items.count("p") == len(units)
        mean = (len(items) - len(units)) / (5 * len(units))
        assert mean == pytest.approx(1.0, abs=0.05)


def test_weights_are_the_arms_share_of_an_item_against_its_share_of_all() -> None:
    units = many_units(0.25, 0.5)
    given_ = Counter(behaviour.item for one in units for behaviour in one.behaviours[1:])
    weighted = Counter("".join(told("a", units, "weighted").values()))
    share = sum(1 for one in units if one.arm == "a") / len(units)
    for item in "cdef":
        # Nobody else met it: P(a | item) is 1, and the weight 1 / share.
        assert weighted[item] / given_[item] == pytest.approx(1 / share, rel=0.05)
    for item in "xy":
        assert weighted[item] / given_[item] == pytest.approx(1.0, rel=0.1)
    for item in "ghij":
        assert weighted[item] / given_[item] < 0.05


def test_weights_are_clipped() -> None:
    units = [unit(f"a{number}", "a", "x") for number in range(40)]
    units += [unit(f"b{number}", "b", "y") for number in range(4_000)]
    weighted = told("a", units, "weighted")
    assert {weighted[one.unit] for one in units[:40]} == {"x" * int(CLIP)}


def test_an_arm_without_units_leaves_the_others_their_past_alone() -> None:
    alone = [unit(str(number), "a", "xyz", before="p") for number in range(20)]
    whole, past = ({str(number): items for number in range(20)} for items in ("pxyz", "p"))
    assert told("a", alone, "pooled") == told("a", alone, "weighted") == whole
    assert told("a", alone, "own") == whole
    assert told("b", alone, "own") == past
    named = {one.unit: len(one.behaviours) for one in histories_for("a", ["a"], alone, "own")}
    assert named == dict.fromkeys(whole, 4)


def test_before_anybody_is_exposed_all_modes_are_the_same() -> None:
    nobody = [unit("1", None, "xy"), unit("2", None, "z")]
    for arm in ARMS:
        assert (
            told(arm, nobody, "own")
            == told(arm, nobody, "pooled")
            == told(arm, nobody, "weighted")
            == {"1": "xy", "2": "z"}
        )
