import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import armlift_arms.covisitation as module
from armlift.arm import Behaviour, Exploration, History, ItemTable, Request
from armlift_arms.covisitation import Covisitation, CovisitationConfig

DAY = 86_400_000
UNTIL = 100 * DAY
TABLE = ItemTable(list("abcdef"))


def covisitation(**changes: object) -> Covisitation:
    return Covisitation(CovisitationConfig.model_validate({"name": "c", "model": "covisitation"} | changes))


def history(items: str, unit: str = "u", start: int = 0) -> History:
    return History(unit, [Behaviour(item, "click", 1.0, start + at) for at, item in enumerate(items)])


def fitted(visits: list[str], **changes: object) -> Covisitation:
    arm = covisitation(**changes)
    arm.fit([history(items, str(unit)) for unit, items in enumerate(visits)], TABLE, until=UNTIL)
    return arm


def scores(arm: Covisitation, met: str, candidates: str = "abcdef") -> dict[str, float]:
    request = Request("r", "u", UNTIL, 9, history(met).behaviours, list(candidates))
    slate = arm.recommend([request])[0]
    return dict(zip(slate.items, slate.scores, strict=True))


def expected(visits: list[str], met: str, window: int, recent: int, decay: float) -> dict[str, float]:
    """Score by the definition, pair by pair, in plain Python."""
    counts = {item: sum(items.count(item) for items in visits) for item in TABLE.ids}
    pairs = dict.fromkeys(((a, b) for a in TABLE.ids for b in TABLE.ids), 0)
    for items in visits:
        for at, a in enumerate(items):
            for b in items[at + 1 : at + 1 + window]:
                if a != b:
                    pairs[a, b] += 1
                    pairs[b, a] += 1
    last = list(dict.fromkeys(reversed(met)))[:recent]
    return {
        b: sum(
            decay**age * pairs[a, b] / math.sqrt(counts[a] * counts[b])
            for age, a in enumerate(last)
            if pairs[a, b]
        )
        or counts[b] / max(counts.values()) - 1.0
        for b in TABLE.ids
    }


def no_repeats(items: str) -> bool:
    return all(one != other for one, other in pairwise(items))


@given(
    st.lists(st.text("abcde", min_size=1, max_size=8).filter(no_repeats), min_size=1, max_size=6),
    st.text("abcdef", max_size=5),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_scores_are_those_of_the_definition(visits: list[str], met: str, window: int, recent: int) -> None:
    arm = fitted(visits, window=window, recent=recent, decay=0.5)
    wanted = expected(visits, met, window, recent, 0.5)
    found = scores(arm, met)
    assert found == pytest.approx(wanted, rel=1e-6)
    unseen = sorted((item for item in found if item not in met), key=lambda item: (-found[item], item))
    slate = arm.recommend([Request("r", "u", UNTIL, 9, history(met).behaviours)])[0]
    assert list(slate.items) == unseen
    assert list(slate.scores) == [found[item] for item in unseen]


def test_neighbours_come_before_popular_items_and_these_by_popularity() -> None:
    arm = fitted(["ab", "cd", "cd", "cd", "d"])
    slate = arm.recommend([Request("r", "u", UNTIL, 9, history("a").behaviours)])[0]
    assert list(slate.items) == ["b", "d", "c", "e", "f"]
    assert list(slate.scores) == pytest.approx([1.0, 0.0, -0.25, -1.0, -1.0])


def test_an_unknown_candidate_is_behind_the_least_popular() -> None:
    arm = fitted(["ab", "c"])
    assert list(scores(arm, "a", "A0fcb")) == ["b", "c", "f", "0", "A"]
    assert scores(arm, "", "Af") == {"f": -1.0, "A": -1.0}


def test_adjacent_behaviours_on_one_item_are_one_visit() -> None:
    assert fitted(["aaabbb", "bbc"], window=1).version == fitted(["ab", "bc"], window=1).version


def test_only_the_kinds_of_a_history_speak() -> None:
    arm = fitted(["ab", "cd"])
    met = [Behaviour("a", "click", 1.0, 0), Behaviour("c", "hate", 1.0, 1)]
    slate = arm.recommend([Request("r", "u", UNTIL, 1, met)])[0]
    assert list(slate.items) == ["b"]


def test_old_visits_weigh_less_with_a_half_life() -> None:
    old, new = history("ab", "old"), history("ac", "new", start=10 * DAY)
    arm = covisitation(half_life_days=5)
    arm.fit([old, new], TABLE, until=10 * DAY + 2)
    # b's pair weighs 1/4, its visits 1/4; a's visits weigh 1/4 + 1.
    assert scores(arm, "a", "bc") == pytest.approx(
        {"c": 1 / math.sqrt(1.25), "b": 0.25 / math.sqrt(1.25 * 0.25)}, rel=1e-6
    )


def test_visits_of_very_long_ago_weigh_nothing_and_break_nothing() -> None:
    arm = covisitation(half_life_days=1e-3)
    arm.fit([history("ab"), history("bc", start=UNTIL - 2)], TABLE, until=UNTIL)
    assert scores(arm, "b", "ac")["a"] == -1.0


def test_only_the_most_similar_neighbours_are_kept_ties_by_id() -> None:
    arm = fitted(["ad", "ac", "ab", "ab"], neighbours=2)
    found = scores(arm, "a", "bcd")
    assert list(found) == ["b", "c", "d"]
    assert found["c"] > 0 > found["d"]


def test_pairs_held_are_bounded_and_the_heaviest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    visits = ["ab", "ab", "ab", "cd", "cd", "ef"]
    assert scores(fitted(visits, max_pairs=3), "e", "f") == pytest.approx({"f": 1.0})
    bounded = fitted(visits, max_pairs=2)
    assert scores(bounded, "a", "b") == pytest.approx({"b": 1.0})
    assert scores(bounded, "c", "d") == pytest.approx({"d": 1.0})
    assert scores(bounded, "e", "f")["f"] < 0


def test_blocks_of_visits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    visits = ["abcabd", "bcd", "fab", "ea", "dcba"]
    whole = fitted(visits)
    monkeypatch.setattr(module, "_BLOCK", 3)
    assert fitted(visits).version == whole.version


def test_exploration_reaches_similar_and_popular_items_alike() -> None:
    arm = fitted(["ab", "cd"], exploration=Exploration(kind="epsilon", epsilon=1.0))
    asked = [Request(str(number), "u", UNTIL, 1, history("a").behaviours) for number in range(200)]
    slates = arm.recommend(asked)
    assert {slate.items[0] for slate in slates} == set("bcdef")
    assert {slate.propensities[0] for slate in slates} == {0.2}


def test_an_empty_catalogue_works() -> None:
    arm = covisitation()
    arm.fit([history("ab")], ItemTable([]), until=UNTIL)
    assert list(scores(arm, "a", "ba").values()) == [0.0, 0.0]
    assert np.shape(arm.recommend([Request("r", "u", UNTIL, 3)])[0].items) == (0,)


@pytest.mark.parametrize("changes", [{"window": 0}, {"decay": 0}, {"decay": 1.1}, {"half_life_days": -1}])
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        covisitation(**changes)
