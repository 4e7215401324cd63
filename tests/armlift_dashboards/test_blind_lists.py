"""Blind lists: as long as one another, the same for all raters, in an order of each one's own."""

import shutil
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import Engine

from armlift.arm import Behaviour, new_arm
from armlift.artefacts import save_artefact
from armlift.errors import InputError
from armlift.lab import Lab
from armlift.ratings import SOURCES
from armlift.runs import Run
from armlift_arms.sources import Catalogue
from armlift_dashboards.blind_lists import Known, Lists, known_items, make_lists

Walkers = tuple[Lab, Engine, Run, str]
IDS = [f"i{number}" for number in range(12)]
COUNTS = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 0, 0], dtype=np.int64)
KNOWN = Known(IDS, Catalogue.of(COUNTS))
HISTORY = [Behaviour(item, "click", 1.0, ts) for ts, item in enumerate(("i0", "i2", "i5"))]
SAID = {"me": ["i7", "i8"], "near": ["i0", "i9"], "far": ["i0", "i6", "i4"]}


def say(unit: str) -> Sequence[str]:
    return SAID.get(unit, ())


def made(rater: str = "ada", unit: str = "me", others: Sequence[str] = ("me", "near", "far")) -> Lists | None:
    return make_lists(KNOWN, unit, HISTORY, say, others, rater=rater, seed=0)


def test_lists_are_what_their_sources_say() -> None:
    lists = made()
    assert lists is not None
    found = dict(lists.lists)
    assert found.keys() == {*SOURCES}
    assert found["model"] == ["i7", "i8"]
    assert found["popular"] == ["i1", "i3"], "what the unit has met is left out"
    assert found["shuffled"] == ["i6", "i4"], "of the first whose prompts go as far without what is met"
    assert len(set(found["random"])) == 2
    assert not {*found["random"]} & {"i0", "i2", "i5", "i10", "i11"}, "of what was met in training"


def test_raters_see_the_same_lists_in_orders_of_their_own() -> None:
    orders: Counter[tuple[str, ...]] = Counter()
    first = made()
    assert first is not None
    for number in range(480):
        lists = made(f"rater {number}")
        assert lists is not None
        assert dict(lists.lists) == dict(first.lists)
        orders[tuple(source for source, _ in lists.lists)] += 1
    assert len(orders) == 24
    assert max(orders.values()) < 50, "every order comes as easily as another: 20 each"
    assert made() == first, "and a rater's own order stays"


def test_without_prompts_or_enough_items_there_are_no_lists() -> None:
    assert made(unit="silent") is None
    assert made(others=["me", "near"]) is None, "nobody's prompts go as far"
    assert make_lists(KNOWN, "me", HISTORY[:2], say, ["far"], rater="a", seed=0) is None
    nothing = Known(IDS, Catalogue.of(np.zeros(12, dtype=np.int64)))
    assert make_lists(nothing, "me", HISTORY, say, ["far"], rater="a", seed=0) is None


def test_a_history_that_the_model_does_not_know_leaves_popular_items() -> None:
    strange = [one._replace(item=f"new{number}") for number, one in enumerate(HISTORY)]
    lists = make_lists(KNOWN, "me", strange, say, ["far"], rater="a", seed=0)
    assert lists is not None
    assert dict(lists.lists)["popular"] == ["i0", "i1"]


def test_ratings_hold_what_was_shown_where() -> None:
    lists = made()
    assert lists is not None
    rated = lists.rated([4, 1, 2, 5], arm="recgpt", version="v", run="r", rater="ada", at=7)
    assert [(one.source, one.items) for one in rated] == list(lists.lists)
    assert [(one.rating, one.position) for one in rated] == [(4, 0), (1, 1), (2, 2), (5, 3)]
    assert {(one.unit_id, one.rater, one.at) for one in rated} == {("me", "ada", 7)}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_popularity_is_that_of_what_the_version_learned_from(walkers: Walkers) -> None:
    lab, _, _, version = walkers
    known = known_items(lab, "recgpt", version)
    assert list(known.ids) == [f"item{number:02}" for number in range(24)]
    assert [known.ids[index] for index in known.catalogue.met.tolist()] == list(known.ids[:20])
    random = new_arm(lab.arm("random"))
    kept = save_artefact(
        random, str(lab.folder / "models"), data_hash="d", data_until=1, created="2023-11-15T00:00:00+00:00"
    )
    with pytest.raises(InputError, match="does not keep how often it met each item"):
        known_items(lab, "random", kept.version)
    shutil.rmtree(lab.folder / "models" / "recgpt")
    with pytest.raises(InputError, match="there is no such artefact"):
        known_items(lab, "recgpt", version)
