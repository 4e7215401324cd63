"""Slate estimators: exact in worlds small enough to list, and covered in larger ones."""

from collections.abc import Callable
from itertools import permutations, product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.slate_ope import (
    SLATE_METHODS,
    SlateMethod,
    Slates,
    SlateValue,
    slate_totals,
    slate_value,
)

Floats = npt.NDArray[np.float64]
Slate = tuple[int, ...]
Reward = Callable[[Slate], Floats]
M, K = 5, 3
UNBIASED: tuple[SlateMethod, ...] = ("slate_ips", "interaction_ips", "item_ips", "pseudo_inverse")


class World:
    """Every slate of M items in K slots, with its probability under two policies.

    `distinct`: slots draw from what is left, in proportion to a table [K, M]; else independently.
    """

    def __init__(self, logged: Floats, target: Floats, *, distinct: bool) -> None:
        draws = permutations(range(M), K) if distinct else product(range(M), repeat=K)
        self.slates: list[Slate] = list(draws)
        self.distinct = distinct
        self.p = np.array([self.slots(logged, slate) for slate in self.slates])
        self.q = np.array([self.slots(target, slate) for slate in self.slates])
        self.p_at, self.q_at = self.at(self.p), self.at(self.q)

    def slots(self, table: Floats, slate: Slate) -> list[float]:
        before = [slate[:slot] if self.distinct else () for slot in range(K)]
        return [table[j, a] / (1 - sum(table[j, b] for b in before[j])) for j, a in enumerate(slate)]

    def at(self, conditional: Floats) -> Floats:
        table = np.zeros((K, M))
        for chance, slate in zip(conditional.prod(axis=1), self.slates, strict=True):
            table[range(K), slate] += chance
        return table

    def table_of(self, table: Floats) -> Floats:
        return np.array([table[range(K), slate] for slate in self.slates])

    def as_slates(self, rewards: Floats, *, pool: int | None = None) -> Slates:
        anywhere = np.array([self.q_at.sum(axis=0)[list(slate)] for slate in self.slates])
        units = np.arange(len(self.slates))
        at = self.table_of(self.p_at), self.table_of(self.q_at)
        return Slates(units, rewards, self.p, self.q, *at, anywhere, pool)

    def expectation(self, method: SlateMethod, reward: Reward, *, pool: int | None = None) -> float:
        """Average an estimator's value of one slate over the log's policy."""
        rewards = np.array([reward(slate) for slate in self.slates])
        slates = self.as_slates(rewards, pool=pool)
        chances = self.p.prod(axis=1)
        assert chances.sum() == pytest.approx(1)
        values = [one_slate(slates, index, method) for index in range(len(self.slates))]
        return float(chances @ np.array(values))

    def truth(self, reward: Reward) -> float:
        rewards = np.array([reward(slate).sum() for slate in self.slates])
        return float(self.q.prod(axis=1) @ rewards)


def one_slate(slates: Slates, index: int, method: SlateMethod) -> float:
    part = {
        name: array[index : index + 1]
        for name, array in slates._asdict().items()
        if isinstance(array, np.ndarray)
    }
    value = slate_value(slate_totals(Slates(**part, pool=slates.pool)), method).value
    assert value is not None
    return value


RNG = np.random.default_rng(5)
TABLES = RNG.dirichlet(np.full(M, 2.0), K), RNG.dirichlet(np.full(M, 2.0), K)
EFFECTS = RNG.uniform(size=(K, M))
LINKS = RNG.uniform(size=(M, M))


def by_item(slate: Slate) -> Floats:
    return EFFECTS[range(K), slate]


def by_earlier(slate: Slate) -> Floats:
    return np.array([EFFECTS[j, a] + sum(LINKS[a, b] for b in slate[:j]) for j, a in enumerate(slate)])


def by_all(slate: Slate) -> Floats:
    return np.array([prod(1 + LINKS[a, b] for b in slate) for a in slate])


@pytest.mark.parametrize("distinct", [False, True])
def test_estimators_are_exact_where_their_assumption_holds(distinct: bool) -> None:
    world = World(*TABLES, distinct=distinct)
    exact: dict[SlateMethod, list[Reward]] = {
        "slate_ips": [by_item, by_earlier, by_all],
        "interaction_ips": [by_item, by_earlier],
        "item_ips": [by_item],
    }
    for method, rewards in exact.items():
        for reward in rewards:
            assert world.expectation(method, reward) == pytest.approx(world.truth(reward), rel=1e-12)
    assert world.expectation("interaction_ips", by_all) != pytest.approx(world.truth(by_all), rel=1e-3)
    assert world.expectation("item_ips", by_earlier) != pytest.approx(world.truth(by_earlier), rel=1e-3)


def test_the_pseudo_inverse_is_exact_for_sums_of_items_under_both_kinds_of_log() -> None:
    independent = World(*TABLES, distinct=False)
    assert independent.expectation("pseudo_inverse", by_item) == pytest.approx(
        independent.truth(by_item), rel=1e-12
    )
    uniform = World(np.full((K, M), 1 / M), TABLES[1], distinct=True)
    assert uniform.expectation("pseudo_inverse", by_item, pool=M) == pytest.approx(
        uniform.truth(by_item), rel=1e-12
    )
    # Outside these it is not: unequal draws without repeats have other moments.
    unequal = World(*TABLES, distinct=True)
    assert unequal.expectation("pseudo_inverse", by_item) != pytest.approx(unequal.truth(by_item), rel=1e-3)


@pytest.mark.parametrize("items", [K, M, 7])
def test_the_uniform_weight_is_that_of_the_moore_penrose_inverse(items: int) -> None:
    slates = list(permutations(range(items), K))
    vectors = np.zeros((len(slates), K, items))
    for index, slate in enumerate(slates):
        vectors[index, range(K), slate] = 1
    flat = vectors.reshape(len(slates), -1)
    target = flat[RNG.choice(len(slates), 4)].mean(axis=0)
    wanted = flat @ np.linalg.pinv(flat.T @ flat / len(slates)) @ target
    at = target.reshape(K, items)
    shape = (len(slates), K)
    found = slate_totals(
        Slates(
            np.arange(len(slates)),
            np.ones(shape),
            np.ones(shape),
            np.array([at[range(K), slate] for slate in slates]),
            target_any=np.array([at.sum(axis=0)[list(slate)] for slate in slates]),
            pool=items,
        )
    )
    mean = found.mean("pseudo_inverse_weight_0")
    square = found.mean("pseudo_inverse_square_0")
    assert mean == pytest.approx(wanted.mean())
    assert square == pytest.approx((wanted**2).mean())


def test_by_hand() -> None:
    slates = Slates(
        units=np.array([1, 1, 2]),
        rewards=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        logged=np.full((3, 2), 0.5),
        target=np.array([[0.8, 0.5], [0.2, 0.25], [0.8, 0.75]]),
    )
    # q/p: (1.6, 1), (0.4, 0.5), (1.6, 1.5); their products 1.6, 0.2, 2.4.
    wanted = {
        "slate_ips": (1.6 + 0.2 + 2 * 2.4) / 3,
        "slate_snips": (1.6 + 0.2 + 2 * 2.4) / 4.2,
        "item_ips": (1.6 + 1.6 + 0.5 + 1.5) / 3,
        "item_snips": 3.2 / 3.6 + 2.0 / 3.0,
        "interaction_ips": (1.6 + 1.6 + 0.2 + 2.4) / 3,
        "interaction_snips": 3.2 / 3.6 + 2.6 / 4.2,
        "pseudo_inverse": (1.6 - 0.1 + 2 * 2.1) / 3,
        "pseudo_inverse_snips": (1.6 - 0.1 + 2 * 2.1) / 3.6,
    }
    totals = slate_totals(slates)
    for method in SLATE_METHODS:
        found = slate_value(totals, method)
        assert found.value == pytest.approx(wanted[method]), method
        assert (found.status, found.n, found.slates) == ("ok", 2, 3)
    # One ratio by hand: left over of each unit, times sqrt(2 / 1) over the total below.
    found = slate_value(totals, "slate_snips")
    value = wanted["slate_snips"]
    left = np.array([1.6 + 0.2 - value * 1.8, 4.8 - value * 2.4])
    assert found.standard_error == pytest.approx(np.sqrt((left**2).sum() * 2) / 4.2)
    assert found.effective_slates == pytest.approx(4.2**2 / (1.6**2 + 0.2**2 + 2.4**2))
    assert found.mean_weight == pytest.approx(1.4)
    assert slate_value(slate_totals(slates, clip=1.0), "slate_ips").value == pytest.approx((1 + 0.2 + 2) / 3)
    assert "whole" not in found.assumption


def test_a_known_value_is_covered_by_every_estimator() -> None:
    """400 logs of 300 units with one to four slates: slots drawn independently, rewards by item and slot."""
    draws, units = 400, 300
    covered = dict.fromkeys(SLATE_METHODS, 0)
    widths: dict[SlateMethod, list[float]] = {method: [] for method in SLATE_METHODS}
    truth = float((TABLES[1] * EFFECTS).sum())
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        whose = np.repeat(np.arange(units), rng.integers(1, 5, units))
        items = np.stack(
            [rng.choice(M, len(whose), p=0.5 / M + 0.5 * TABLES[0][slot]) for slot in range(K)], axis=1
        )
        slots = np.arange(K)
        chances = EFFECTS[slots, items] + rng.uniform(-0.3, 0.3, units)[whose][:, None]
        rewards = chances + rng.normal(0, 0.1, chances.shape)
        logged, target = (0.5 / M + 0.5 * TABLES[0])[slots, items], TABLES[1][slots, items]
        totals = slate_totals(Slates(whose, rewards, logged, target))
        for method in SLATE_METHODS:
            found = slate_value(totals, method)
            assert found.low is not None
            assert found.high is not None
            covered[method] += found.low <= truth <= found.high
            widths[method].append(found.high - found.low)
    error = np.sqrt(0.95 * 0.05 / draws)
    assert all(abs(count / draws - 0.95) < 3.5 * error for count in covered.values()), covered
    medians = {method: float(np.median(some)) for method, some in widths.items()}
    for kind in ("slate", "item", "interaction"):
        assert medians[f"{kind}_snips"] < medians[f"{kind}_ips"]  # type: ignore[index]
    assert medians["item_ips"] < medians["interaction_ips"] < medians["slate_ips"]


def test_what_cannot_be_told_has_a_status() -> None:
    half = np.full((2, 2), 0.5)
    slates = Slates(np.array([1, 1]), np.ones((2, 2)), half, half)
    one = slate_value(slate_totals(slates), "slate_ips")
    assert (one.status, one.value, one.low) == ("too_few", 2.0, None)
    same = slate_value(slate_totals(slates._replace(units=np.array([1, 2]))), "item_snips")
    assert (same.status, same.value) == ("zero_variance", 2.0)
    nothing = slate_value(slate_totals(slates._replace(target=0 * half)), "slate_snips")
    assert (nothing.status, nothing.value, nothing.effective_slates) == ("no_data", None, 0.0)
    empty = slate_value(Aggregates.empty(slate_totals(slates).names), "slate_ips")
    assert (empty.status, empty.value, empty.mean_weight) == ("no_data", None, None)
    assert isinstance(empty, SlateValue)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"rewards": np.ones(2)}, r"rewards \(2,\), must be \(n,\) and \(n, k\)"),
        ({"target": np.ones((2, 3))}, r"target has shape \(2, 3\), must be \(2, 2\)"),
        ({"logged": np.zeros((2, 2))}, r"logged\[0, 0\] is 0, must be above 0 and at most 1"),
        ({"target": np.full((2, 2), 1.5)}, r"target\[0, 0\] is 1.5, must be 0 or more and at most 1"),
        ({"pool": 5}, "a pool of 5 must hold 2 items, with target_any given"),
    ],
)
def test_bad_slates_are_refused(changed: dict[str, Any], complaint: str) -> None:
    half = np.full((2, 2), 0.5)
    slates = Slates(np.array([1, 1]), np.ones((2, 2)), half, half)
    with pytest.raises(InputError, match=complaint):
        slate_totals(slates._replace(**changed))
