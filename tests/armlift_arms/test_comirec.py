"""What is peculiar to comirec; what it shares with all arms stands in test_contract."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from armlift.arm import Behaviour, Exploration, History, ItemTable, Request
from armlift.artefacts import load_artefact, save_artefact
from armlift.errors import InputError
from armlift.slates import top_k
from armlift_arms.comirec import ComiRec, ComiRecConfig, spread

EXTRACTORS = ["sa", "dr"]
KINDS = [["red", "green", "blue"][number % 3] for number in range(24)]
ITEMS = ItemTable([f"item{number:02}" for number in range(24)], {"kind": KINDS})


def behaviours(numbers: list[int]) -> list[Behaviour]:
    return [Behaviour(ITEMS.ids[number], "click", 1.0, ts) for ts, number in enumerate(numbers)]


def circle(units: int = 60, size: int = 20) -> list[History]:
    """Make units that walk round a circle of items from different starts: the next item is near."""
    return [
        History(f"unit{unit}", behaviours([(unit + step) % size for step in range(8)]))
        for unit in range(units)
    ]


def fitted(histories: list[History], items: ItemTable = ITEMS, **changes: object) -> ComiRec:
    arm = ComiRec(ComiRecConfig.model_validate({"name": "mine", "model": "comirec"} | changes))
    arm.fit(histories, items, until=1000)
    return arm


def asked(numbers: list[int], k: int = 3, candidates: list[str] | None = None) -> Request:
    return Request("0" * 32, "unit", 1000, k, behaviours(numbers), candidates)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_it_learns_what_follows_what(extractor: str) -> None:
    arm = fitted(circle(), extractor=extractor, learning_rate=0.01)
    walks = [asked([start, (start + 1) % 20, (start + 2) % 20], 2) for start in range(20)]
    right = [ITEMS.ids[(start + 3) % 20] in slate.items for start, slate in enumerate(arm.recommend(walks))]
    assert sum(right) >= 16


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_only_the_last_items_are_read(extractor: str) -> None:
    arm = fitted(circle(), epochs=1, length=4, extractor=extractor)
    long, short = asked([9, 8, 1, 2, 3, 4], 5, list(ITEMS.ids)), asked([1, 2, 3, 4], 5, list(ITEMS.ids))
    assert arm.recommend([long]) == arm.recommend([short])


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("numbers", [[5], [5, 6], [5, 6, 7]])
def test_little_data_is_enough(numbers: list[int], extractor: str) -> None:
    arm = fitted([History("unit", behaviours(numbers))], epochs=3, extractor=extractor)
    assert len(arm.recommend([asked([5], 24)])[0].items) == 23


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_warm_start_goes_on_from_old_weights(extractor: str, tmp_path: Path) -> None:
    old = fitted(circle(), epochs=3, extractor=extractor)
    old.save(tmp_path)
    grown = ItemTable([*ITEMS.ids, "item99"])
    arm = ComiRec(old.config.model_copy(update={"learning_rate": 1e-12, "epochs": 1}))
    arm.fit(circle(), grown, until=1000, warm=tmp_path)
    slates = [of.recommend([asked([1, 2], 4, list(ITEMS.ids[:20]))])[0] for of in (old, arm)]
    assert slates[0].items == slates[1].items
    np.testing.assert_allclose(slates[0].scores, slates[1].scores, rtol=1e-4)


def greedy(scores: list[float], kinds: list[int], k: int, diversity: float) -> list[int]:
    """Fill slots one by one, each with the best of score - diversity * (items of its kind picked so far)."""
    picked: list[int] = []
    while len(picked) < min(k, len(scores)):
        left = [at for at in range(len(scores)) if at not in picked]
        counts = [sum(kinds[at] == kinds[one] for one in picked) for at in left]
        lowered = [scores[at] - diversity * count for at, count in zip(left, counts, strict=True)]
        picked.append(left[lowered.index(max(lowered))])
    return picked


@given(st.data())
def test_slots_are_filled_one_by_one(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 12))
    # Eighths are exact, so that ties are ties in both computations.
    scores = [data.draw(st.integers(-40, 40)) / 8 for _ in range(n)]
    kinds = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    diversity, depth = data.draw(st.integers(0, 24)) / 8, data.draw(st.integers(1, 13))
    array = np.array(scores, dtype=np.float32)
    places, lowered = spread(array, np.array(kinds, dtype=np.int32), diversity, depth)
    assert places.tolist() == greedy(scores, kinds, depth, diversity)
    assert (np.diff(lowered) <= 0).all()
    if diversity == 0:
        assert places.tolist() == top_k(array, depth).tolist()


def test_diversity_spreads_a_slate_over_categories() -> None:
    plain, spread = (
        fitted(circle(), epochs=3, category="kind", diversity=diversity) for diversity in (0.0, 100.0)
    )
    kind_of = dict(zip(ITEMS.ids, KINDS, strict=True))
    for candidates in (None, [*ITEMS.ids[:15], "unheard of"]):
        request = asked([0, 3, 6, 9], 6, candidates)
        slate = spread.recommend([request])[0]
        kinds = [kind_of[item] for item in slate.items]
        assert set(kinds[:3]) == set(kinds[3:]) == {"red", "green", "blue"}
        assert list(slate.scores) == sorted(slate.scores, reverse=True)
        assert slate.items[0] == plain.recommend([request])[0].items[0]
    assert not {ITEMS.ids[at] for at in (0, 3, 6, 9)} & set(
        spread.recommend([asked([0, 3, 6, 9], 24)])[0].items
    )


def test_items_without_a_category_are_not_held_against_each_other() -> None:
    bare = ItemTable(ITEMS.ids, {"kind": [None] * 24})
    plain, spread_out = (
        fitted(circle(), bare, epochs=2, category="kind", diversity=diversity) for diversity in (0.0, 9.0)
    )
    requests = [asked([1, 2], 24), asked([3], 5, list(ITEMS.ids))]
    assert plain.recommend(requests) == spread_out.recommend(requests)


def test_no_diversity_is_plain_recall() -> None:
    plain, named = fitted(circle(), epochs=2), fitted(circle(), epochs=2, category="kind")
    requests = [asked([1, 2], 24), asked([3], 5, list(ITEMS.ids))]
    assert plain.recommend(requests) == named.recommend(requests)


def test_categories_are_saved(tmp_path: Path) -> None:
    arm = fitted(circle(), epochs=1, category="kind", diversity=2.0)
    manifest = save_artefact(arm, str(tmp_path), data_hash="d", data_until=1000, created="2024-05-01")
    loaded, _ = load_artefact(str(tmp_path), "mine", manifest.version)
    assert loaded.recommend([asked([1, 2], 9)]) == arm.recommend([asked([1, 2], 9)])


def test_exploration_reaches_everything_under_diversity() -> None:
    arm = fitted(
        circle(), epochs=1, category="kind", diversity=1.0, exploration=Exploration(kind="plackett_luce")
    )
    slate = arm.recommend([asked([1, 2], 24)])[0]
    assert sorted(slate.items) == [item for item in ITEMS.ids if item not in ("item01", "item02")]


def test_a_category_must_be_a_column() -> None:
    with pytest.raises(InputError, match=r"category: 'genre' is not a column .* one of: kind$"):
        fitted(circle(), category="genre", diversity=1.0)
    with pytest.raises(ValidationError, match=r"diversity: 1\.0 has no meaning without a category"):
        ComiRecConfig(name="mine", model="comirec", diversity=1.0)
