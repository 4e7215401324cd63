import math
from collections import Counter

from armlift.arm import Behaviour, History, ItemTable, Request
from armlift_arms.random import Random, RandomConfig

TABLE = ItemTable(list("abcdefgh"))
N = 4000


def fitted(seed: int = 0) -> Random:
    arm = Random(RandomConfig(name="r", model="random", seed=seed))
    arm.fit([History("u", [])], TABLE, until=1)
    return arm


def many(request: Request) -> list[Request]:
    return [request._replace(request_id=f"{number:032x}") for number in range(N)]


def assert_even(counts: Counter[tuple[str, ...]], cells: int) -> None:
    """Pearson's chi-square over equal cells, within 4.5 standard deviations of its mean."""
    assert len(counts) == cells
    wanted = counts.total() / cells
    statistic = sum((count - wanted) ** 2 / wanted for count in counts.values())
    assert abs(statistic - (cells - 1)) < 4.5 * math.sqrt(2 * (cells - 1))


def test_every_order_of_the_candidates_is_as_likely() -> None:
    slates = fitted().recommend(many(Request("", "u", 1, 3, candidates=["x", "a", "b", "y"])))
    assert_even(Counter(tuple(slate.items) for slate in slates), 24)
    assert {tuple(slate.propensities) for slate in slates} == {(1 / 4, 1 / 3, 1 / 2)}
    assert {tuple(slate.scores) for slate in slates} == {(0.0, 0.0, 0.0)}


def test_every_pair_of_unseen_items_is_as_likely() -> None:
    history = [Behaviour(item, "hate", 1.0, 0) for item in ("b", "h", "c", "b", "unknown")]
    slates = fitted().recommend(many(Request("", "u", 1, 2, history)))
    assert_even(Counter(tuple(slate.items) for slate in slates), 5 * 4)
    assert {tuple(slate.propensities) for slate in slates} == {(1 / 5, 1 / 4)}
    assert {item for slate in slates for item in slate.items} == set("adefg")


def test_a_unit_that_has_seen_all_gets_nothing() -> None:
    history = [Behaviour(item, "click", 1.0, 0) for item in TABLE.ids]
    assert list(fitted().recommend([Request("r", "u", 1, 3, history)])[0].items) == []


def test_two_seeds_are_two_arms() -> None:
    asked = many(Request("", "u", 1, 1, candidates=["a", "b"]))
    firsts = [[slate.items[0] for slate in fitted(seed).recommend(asked)] for seed in (0, 1)]
    agree = sum(one == other for one, other in zip(*firsts, strict=True))
    assert abs(agree - N / 2) < 4.5 * math.sqrt(N / 4)
