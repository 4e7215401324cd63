import pytest
from pydantic import ValidationError

from armlift.arm import Behaviour, History, ItemTable, Request
from armlift_arms.popularity import Popularity, PopularityConfig
from armlift_arms.random import RandomConfig

DAY = 86_400_000
TABLE = ItemTable(["a", "b", "c", "d"])


def popularity(**changes: object) -> Popularity:
    return Popularity(PopularityConfig.model_validate({"name": "p", "model": "popularity"} | changes))


def scores(arm: Popularity) -> dict[str, float]:
    slate = arm.recommend([Request("r", "u", 0, 9)])[0]
    return dict(zip(slate.items, slate.scores, strict=True))


def test_an_item_scores_the_sum_of_its_decayed_behaviours() -> None:
    arm = popularity(half_life_days=2)
    behaviours = [
        Behaviour("a", "click", 1.0, 6 * DAY),
        Behaviour("b", "click", 1.0, 8 * DAY),
        Behaviour("b", "like", 1.0, 8 * DAY),
        Behaviour("c", "hate", 1.0, 9 * DAY),
        Behaviour("not in the catalogue", "click", 1.0, 9 * DAY),
    ]
    arm.fit([History("u", behaviours), History("v", behaviours[:1])], TABLE, until=10 * DAY)
    assert scores(arm) == pytest.approx({"b": 1.0, "a": 0.5, "c": 0.0, "d": 0.0})
    assert list(scores(arm)) == ["b", "a", "c", "d"]


def test_kinds_count_by_their_weights() -> None:
    arm = popularity(kind_weights={"like": 3, "click": 0})
    behaviours = [
        Behaviour("a", "click", 1.0, 0),
        Behaviour("b", "like", 1.0, 0),
        Behaviour("c", "follow", 1.0, 0),
    ]
    arm.fit([History("u", behaviours)], TABLE, until=1)
    assert scores(arm) == pytest.approx({"b": 3.0, "c": 1.0, "a": 0.0, "d": 0.0}, rel=1e-6)


def test_an_unknown_candidate_scores_zero_behind_the_known() -> None:
    arm = popularity()
    arm.fit([History("u", [Behaviour("d", "click", 1.0, 0)])], TABLE, until=1)
    slate = arm.recommend([Request("r", "u", 0, 4, candidates=["Z", "b", "d", "A"])])[0]
    assert list(slate.items) == ["d", "b", "A", "Z"]
    assert list(slate.scores[1:]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"half_life_days": 0}, "half_life_days"),
        ({"half_life_days": "inf"}, "half_life_days"),
        ({"kind_weights": {"like": -1}}, "kind_weights.like"),
        ({"kind_weights": {"hate": 1}}, "'hate' must be one of history_kinds: click"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        popularity(**changes)


def test_a_configuration_of_another_arm_is_refused() -> None:
    with pytest.raises(TypeError, match="RandomConfig, must be PopularityConfig"):
        Popularity(RandomConfig(name="p", model="popularity"))  # type: ignore[arg-type]
