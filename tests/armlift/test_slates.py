import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.arm import ArmConfig, Behaviour, Exploration, Request, Slate
from armlift.slates import (
    FixedOrder,
    Ranking,
    counted,
    depth_of,
    explore,
    nth_free,
    rank,
    request_key,
    seen_items,
    slate_of,
    stream,
    top_k,
)

KINDS = [
    Exploration(kind="epsilon", epsilon=0.3),
    Exploration(kind="epsilon", epsilon=1.0, slots=2),
    Exploration(kind="softmax", temperature=0.7),
    Exploration(kind="softmax", slots=2),
    Exploration(kind="plackett_luce", temperature=2.0),
]
SCORES = [2.0, 1.5, 1.5, 0.0, -1.0]

item_ids = st.text(alphabet="abcx", max_size=3)
few_scores = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0])


def config(exploration: Exploration | None = None, seed: int = 0) -> ArmConfig:
    return ArmConfig(name="test", model="test", exploration=exploration, seed=seed)


def keys(n: int) -> list[int]:
    return [request_key(0, f"request {number}") for number in range(n)]


def test_only_earlier_behaviours_of_the_kinds_count() -> None:
    behaviours = [
        Behaviour("a", "click", 1.0, 10),
        Behaviour("b", "hate", 1.0, 10),
        Behaviour("c", "click", 1.0, 20),
        Behaviour("d", "click", 1.0, 30),
    ]
    assert [found.item for found in counted(behaviours, ("click", "like"), until=20)] == ["a"]


def test_an_item_met_in_any_way_is_seen() -> None:
    history = [Behaviour("a", "click", 1.0, 1), Behaviour("b", "hate", 1.0, 2)]
    assert seen_items(Request("r", "u", 3, 1, history)) == {"a", "b"}


@given(st.lists(item_ids, max_size=12), st.dictionaries(item_ids, few_scores), st.integers(0, 15))
def test_rank_sorts_by_score_then_id_and_puts_the_unknown_last(
    candidates: list[str], scores: dict[str, float], depth: int
) -> None:
    known = sorted(set(candidates) & scores.keys(), key=lambda item: (-scores[item], item))
    unknown = sorted(set(candidates) - scores.keys())
    ranking = rank(candidates, scores, unknown=-2.0, depth=depth)
    assert ranking.items == (known + unknown)[:depth]
    assert ranking.scores == ([scores[item] for item in known] + [-2.0] * len(unknown))[:depth]
    assert ranking == rank(candidates[::-1], scores, unknown=-2.0, depth=depth)


@given(
    st.lists(few_scores | st.just(-math.inf), max_size=20), st.integers(0, 25), st.sets(st.integers(0, 19))
)
def test_top_k_equals_a_full_sort(values: list[float], k: int, seen: set[int]) -> None:
    scores = np.array(values)
    masked = [index for index in sorted(seen) if index < len(values)]
    wanted = sorted(
        (index for index, value in enumerate(values) if value > -math.inf and index not in seen),
        key=lambda index: (-values[index], index),
    )[:k]
    assert top_k(scores, k, masked).tolist() == wanted
    assert scores.tolist() == values


@given(st.dictionaries(item_ids, few_scores), st.integers(0, 15), st.sets(item_ids))
def test_a_fixed_order_recalls_what_a_sort_does(scores: dict[str, float], depth: int, seen: set[str]) -> None:
    ids = sorted(scores)
    order = FixedOrder(ids, np.array([scores[item] for item in ids], dtype=np.float64))
    wanted = sorted((item for item in ids if item not in seen), key=lambda item: (-scores[item], item))[
        :depth
    ]
    assert order.best(depth, seen) == Ranking(wanted, [scores[item] for item in wanted])


@given(st.sets(st.integers(0, 30)), st.integers(0, 20))
def test_nth_free_counts_what_is_not_taken(taken: set[int], n: int) -> None:
    free = [number for number in range(60) if number not in taken]
    assert nth_free(sorted(taken), n) == free[n]


def test_without_exploration_a_slate_is_the_top_and_certain() -> None:
    request = Request("r", "u", 0, 2)
    slate = slate_of(Ranking(["a", "b", "c"], [3.0, 2.0, 1.0]), request, config())
    assert slate == Slate(["a", "b"], [3.0, 2.0], [0, 0], [1.0, 1.0])
    assert depth_of(request, config()) == 2


def test_exploration_reaches_every_item_of_the_ranking() -> None:
    exploring = config(Exploration(kind="epsilon", epsilon=1.0))
    request = Request("r", "u", 0, 1)
    ranking = Ranking(["a", "b", "c", "d"], [3.0, 2.0, 1.0, 0.0])
    assert depth_of(request, exploring) > len(ranking.items)
    slates = [slate_of(ranking, request._replace(request_id=str(number)), exploring) for number in range(100)]
    assert {slate.items[0] for slate in slates} == {"a", "b", "c", "d"}
    assert {(*slate.items, *slate.scores) for slate in slates} == {
        ("a", 3.0), ("b", 2.0), ("c", 1.0), ("d", 0.0)
    }  # fmt: skip


def test_randomness_is_of_seed_and_request_alone() -> None:
    assert request_key(0, "a") == request_key(0, "a")
    assert len({request_key(seed, name) for seed in range(20) for name in "abcde"}) == 100
    assert stream(5, 3).tolist() == stream(5, 9).tolist()[:3]


def test_the_numbers_of_a_request_never_move() -> None:
    assert request_key(0, "a") == 5305031660245769502
    # SplitMix64's published outputs for the seed 1234567.
    assert stream(1234567, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("exploration", KINDS, ids=repr)
def test_propensities_are_the_true_probabilities(exploration: Exploration) -> None:
    """At every prefix, each item's share of many requests is the propensity reported, and these sum to 1."""
    shares: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    reported: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for key in keys(6000):
        places, propensities = explore(SCORES, 3, exploration, key)
        for slot, (place, propensity) in enumerate(zip(places, propensities, strict=True)):
            prefix = tuple(places[:slot])
            shares[prefix][place] += 1
            assert reported[prefix].setdefault(place, propensity) == pytest.approx(propensity, abs=1e-12)
    for prefix, counts in shares.items():
        n = counts.total()
        for place, count in counts.items():
            p = reported[prefix][place]
            assert abs(count - n * p) <= 4.5 * math.sqrt(n * p * (1 - p)) + 1e-9
        if n > 1000:
            assert sum(reported[prefix].values()) == pytest.approx(1.0, abs=1e-12)


def softmax(scores: Sequence[float], temperature: float, place: int, prefix: Sequence[int]) -> float:
    weights = {at: math.exp(score / temperature) for at, score in enumerate(scores) if at not in prefix}
    return weights[place] / sum(weights.values())


def test_the_propensities_of_a_softmax_are_those_of_its_formula() -> None:
    for key in keys(50):
        places, propensities = explore(SCORES, 4, Exploration(kind="softmax", temperature=0.5, slots=3), key)
        assert (places[0], propensities[0]) == (0, 1.0)
        for slot in range(1, 4):
            wanted = softmax(SCORES, 0.5, places[slot], places[:slot])
            assert propensities[slot] == pytest.approx(wanted, rel=1e-12)


def test_an_epsilon_draw_that_hits_the_best_counts_both_ways() -> None:
    seen = set()
    for key in keys(200):
        places, propensities = explore([3.0, 2.0, 1.0], 3, Exploration(kind="epsilon", epsilon=0.3), key)
        seen.add((places[0], round(propensities[0], 12)))
        assert propensities[2] == 1.0
    assert seen == {(0, 0.8), (1, 0.1), (2, 0.1)}


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=12).map(lambda values: sorted(values, reverse=True)),
    st.integers(0, 15),
    st.sampled_from([*KINDS, Exploration(kind="softmax", temperature=1e-3)]),
    st.integers(0, 2**64 - 1),
)
def test_an_explored_slate_has_no_repeats_and_proper_propensities(
    scores: list[float], k: int, exploration: Exploration, key: int
) -> None:
    places, propensities = explore(scores, k, exploration, key)
    size = min(k, len(scores))
    first = 0 if exploration.slots is None else max(0, size - exploration.slots)
    assert len(set(places)) == len(places) == len(propensities) == size
    assert places[:first] == list(range(first))
    assert propensities[:first] == [1.0] * first
    assert all(0 < propensity <= 1 for propensity in propensities)
    if size == len(scores) > 0:
        assert propensities[-1] == 1.0
