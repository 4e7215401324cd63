from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.arm import Slate
from armlift.errors import InputError
from armlift.interleaving import (
    NO_ITEM,
    NOBODY,
    OTHER,
    OWN,
    Drafted,
    Items,
    Teams,
    credits_of,
    team_draft,
    team_drafts,
)
from armlift.slates import request_key, stream, streams
from armlift.stats.aggregates import Aggregates
from armlift.stats.interleaving import preference, preference_units
from armlift.stats.means import welch
from armlift.stats.power import baseline_of, units_needed

KEYS = [request_key(0, f"request {number}") for number in range(400)]
slates = st.lists(st.integers(0, 11), max_size=9, unique=True)
keys = st.integers(0, 2**64 - 1)


def slate(items: list[int] | str, step: int = 0) -> Slate:
    """Make a slate whose scores are its places from 10 down."""
    names = list(items) if isinstance(items, str) else [f"i{item}" for item in items]
    scores = [10.0 - place for place in range(len(names))]
    return Slate(names, scores, [step] * len(names), [1.0] * len(names))


def padded(rows: list[list[int]], width: int) -> Items:
    return np.array([row + [NO_ITEM] * (width - len(row)) for row in rows], dtype=np.int64).reshape(-1, width)


def by_hand(own: str, other: str, k: int, coins: list[bool]) -> list[tuple[str, int]]:
    """Draft as the definition says, one item after the other."""
    shown: list[tuple[str, int]] = []

    def best(items: str) -> str | None:
        return next((item for item in items if item not in [one for one, _ in shown]), None)

    for other_first in coins:
        a, b = best(own), best(other)
        if a is not None and a == b:
            shown.append((a, NOBODY))
            continue
        for team in (OTHER, OWN) if other_first else (OWN, OTHER):
            item = best(own if team == OWN else other)
            if item is not None:
                shown.append((item, team))
    return shown[:k]


def pairs(drafted: Drafted) -> list[tuple[str, int]]:
    return list(zip(drafted.items, drafted.teams, strict=True))


def test_a_draft_by_hand() -> None:
    found = {tuple(pairs(team_draft(slate("abcd"), slate("acbe"), 4, key))) for key in KEYS}
    # Both put forward a; then b and c in either order; then d and e, of which one has room.
    assert found == {
        (("a", NOBODY), *middle, last)
        for middle in ((("b", OWN), ("c", OTHER)), (("c", OTHER), ("b", OWN)))
        for last in (("d", OWN), ("e", OTHER))
    }


@given(slates, slates, st.integers(1, 12), keys)
def test_a_draft_is_some_draft_of_the_definition(own: list[int], other: list[int], k: int, key: int) -> None:
    a, b = "".join(chr(97 + item) for item in own), "".join(chr(97 + item) for item in other)
    found = pairs(team_draft(slate(a), slate(b), k, key))
    contested = [team for _, team in found]
    # The coins can be read off the draft itself: a round's first item is of the team that came first.
    coins, at = [], 0
    while at < len(contested):
        coins.append(contested[at] == OTHER)
        at += 1 if contested[at] == NOBODY or len({*contested[at : at + 2]}) < 2 else 2
    assert found == by_hand(a, b, k, [*coins, False])
    assert len(found) == min(k, len({*a, *b}))
    assert len({item for item, _ in found}) == len(found)


@given(st.lists(st.tuples(slates, slates, keys), min_size=1, max_size=6), st.integers(1, 12))
def test_many_drafts_are_the_single_ones(rows: list[tuple[list[int], list[int], int]], k: int) -> None:
    own, other = padded([a for a, _, _ in rows], 9), padded([b for _, b, _ in rows], 9)
    many = team_drafts(own, other, k, np.array([key for _, _, key in rows], dtype=np.uint64))
    assert many.items.shape == many.teams.shape == many.places.shape == (len(rows), k)
    for index, (a, b, key) in enumerate(rows):
        one = team_draft(slate(a, step=0), slate(b, step=1), k, key)
        size = len(one.items)
        assert [f"i{item}" for item in many.items[index, :size].tolist()] == one.items
        assert many.teams[index, :size].tolist() == one.teams
        assert [10.0 - place for place in many.places[index, :size].tolist()] == one.scores
        assert one.steps == [int(team == OTHER) for team in one.teams]
        assert {*many.items[index, size:].tolist(), *many.places[index, size:].tolist()} <= {NO_ITEM}
        assert {*many.teams[index, size:].tolist()} <= {NOBODY}


def test_batches_change_nothing() -> None:
    rng = np.random.default_rng(1)
    own, other = (np.argsort(rng.random((400, 30)), axis=1)[:, :10] for _ in range(2))
    all_keys = np.array(KEYS, dtype=np.uint64)
    whole = team_drafts(own, other, 10, all_keys)
    turned = team_drafts(own[::-1], other[::-1], 10, all_keys[::-1])
    assert np.array_equal(whole.items, turned.items[::-1])
    assert np.array_equal(whole.teams[7:9], team_drafts(own[7:9], other[7:9], 10, all_keys[7:9]).teams)


@given(slates, slates, st.integers(1, 12), keys)
def test_teams_change_places_with_the_arms(own: list[int], other: list[int], k: int, key: int) -> None:
    """What is credited to whom does not depend on coins, but for one item where one place is left."""
    found, turned = (team_draft(slate(a), slate(b), k, key) for a, b in ((own, other), (other, own)))
    mirror = {OWN: OTHER, OTHER: OWN, NOBODY: NOBODY}
    credited = {*pairs(found)} - {(item, mirror[team]) for item, team in pairs(turned)}
    assert len(credited) <= 1


def test_each_team_is_first_as_often() -> None:
    own, other = np.tile(np.arange(10), (4000, 1)), np.tile(np.arange(10, 20), (4000, 1))
    many_keys = np.array([request_key(3, str(number)) for number in range(4000)], dtype=np.uint64)
    teams = team_drafts(own, other, 9, many_keys).teams
    share = (teams == OWN).mean(axis=0)
    assert np.all(np.abs(share - 0.5) < 4 * 0.5 / np.sqrt(4000))
    assert np.all(teams[:, 0:8:2] != teams[:, 1:8:2])
    # Coins of different rounds, and of different requests, are independent: all 32 orders of 5 rounds occur.
    orders = Counter(map(tuple, teams[:, ::2].tolist()))
    assert len(orders) == 32
    assert max(orders.values()) < 125 + 5 * np.sqrt(125)


def test_coins_are_not_what_arms_explore_by() -> None:
    """An arm of the same seed draws from the request's own stream."""
    explored = [int(stream(key, 1)[0]) >> 63 for key in KEYS]
    coins = [team_draft(slate("a"), slate("b"), 2, key).teams[0] for key in KEYS]
    assert abs(np.corrcoef(explored, coins)[0, 1]) < 0.2


def test_streams_are_rows_of_stream() -> None:
    found = streams(np.array(KEYS[:5], dtype=np.uint64), 7)
    assert np.array_equal(found, np.stack([stream(key, 7) for key in KEYS[:5]]))


def test_users_who_do_not_care_credit_both_alike() -> None:
    """Whatever places they look at, and however alike the slates are."""
    rng = np.random.default_rng(2)
    looks = 1.0 / (1.0 + np.arange(9))
    for spread in (0.1, 1.0):
        base = rng.normal(size=(8000, 12))
        own, other = (np.argsort(-(base + spread * rng.normal(size=base.shape)), axis=1)[:, :9] for _ in "ab")
        all_keys = rng.integers(0, 2**64, 8000, dtype=np.uint64)
        drafted = team_drafts(own, other, 9, all_keys)
        given_to = credits_of(drafted.teams, np.broadcast_to(looks, drafted.teams.shape))
        gain = given_to[:, 0] - given_to[:, 1]
        assert abs(gain.mean()) < 4 * gain.std() / np.sqrt(8000)


def test_where_one_team_runs_dry_the_other_goes_on() -> None:
    found = team_draft(slate("a"), slate("bcd"), 10, KEYS[0])
    assert {*pairs(found)[:2]} == {("a", OWN), ("b", OTHER)}
    assert pairs(found)[2:] == [("c", OTHER), ("d", OTHER)]
    assert team_draft(slate(""), slate(""), 3, KEYS[0]).items == []
    assert pairs(team_draft(slate("ab"), slate("ab"), 3, KEYS[0])) == [("a", NOBODY), ("b", NOBODY)]


def test_credits_are_sums_by_team() -> None:
    teams = np.array([[OWN, OTHER, NOBODY], [OTHER, OTHER, OWN]], dtype=np.int8)
    rewards = np.array([[1.0, 2.0, 4.0], [1.0, 0.5, 0.0]])
    assert credits_of(teams, rewards).tolist() == [[1.0, 2.0], [0.0, 1.5]]


def test_what_cannot_be_drafted_is_refused() -> None:
    with pytest.raises(InputError, match="k is 0, must be 1 or more"):
        team_draft(slate("a"), slate("b"), 0, 1)
    with pytest.raises(InputError, match=r"must be \(B, p\), \(B, q\) and \(B,\)"):
        team_drafts(padded([[1]], 2), padded([[1], [2]], 2), 1, np.array([1], dtype=np.uint64))
    nothing, one = np.empty((1, 0), dtype=np.int64), np.array([1], dtype=np.uint64)
    assert team_drafts(nothing, nothing, 2, one).items.tolist() == [[NO_ITEM, NO_ITEM]]
    assert team_drafts(nothing[:0], nothing[:0], 2, one[:0]).items.shape == (0, 2)


class Users:
    """Simulated requests of users: what items are worth to them, and two arms that guess it, with errors."""

    def __init__(self, users: int, guesses: tuple[float, float], *, items: int, k: int, seed: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.k = k
        requests = 1 + rng.geometric(0.4, users)
        self.unit = np.repeat(np.arange(users), requests)
        self.taste = np.repeat(0.7 * rng.normal(size=users), requests)
        self.worth = rng.normal(size=(len(self.unit), items))
        seen = self.worth + 0.3 * rng.normal(size=self.worth.shape)
        self.slates = [
            np.argsort(-(seen + error * rng.normal(size=seen.shape)), axis=1)[:, :k] for error in guesses
        ]
        self.keys = rng.integers(0, 2**64, len(self.unit), dtype=np.uint64)

    def clicks(self, items: Items) -> npt.NDArray[np.float64]:
        """Click by worth, by a taste of one's own, and less the lower an item stands."""
        worth = np.take_along_axis(self.worth, items, axis=1) + self.taste[:, np.newaxis]
        chance = 1.0 / (1.0 + np.exp(2.5 - worth)) / (1.0 + 0.25 * np.arange(self.k))
        return (self.rng.random(chance.shape) < chance).astype(float)

    def credits(self, items: Items, teams: Teams) -> Aggregates:
        given_to = credits_of(teams, self.clicks(items))
        units = [np.bincount(self.unit, given_to[:, team]) for team in (OWN, OTHER)]
        return Aggregates.of(("own", "other"), np.stack(units, axis=1))


def test_the_units_needed_are_a_fraction_of_an_ab_tests() -> None:
    """123 against 2,258 users for a lift of 10.8 % with 40,000 users as pilot; the pilot here is smaller."""
    users = Users(12_000, (0.5, 0.9), items=40, k=10, seed=5)
    drafted = team_drafts(users.slates[0], users.slates[1], 10, users.keys)
    found = preference(users.credits(drafted.items, drafted.teams))
    assert found.value is not None
    assert found.value > 0.05
    interleaved = preference_units(found.value, found).units
    first = users.unit % 2 == 0
    clicks = users.clicks(np.where(first[:, np.newaxis], *users.slates)).sum(axis=1)
    own, other = (
        Aggregates.of(("y",), np.bincount(users.unit, clicks).astype(float)[start::2, np.newaxis])
        for start in (0, 1)
    )
    effect = welch(own, other, "y")
    assert effect.lift is not None
    assert 0.05 < effect.lift < 0.16
    apart = units_needed(0.108, baseline_of(effect))
    assert interleaved is not None
    assert apart.units is not None
    assert apart.control_units is not None
    assert 80 < interleaved < 200
    assert 1_800 < apart.units + apart.control_units < 2_800


def test_errors_are_as_rare_as_they_should_be_between_equal_arms() -> None:
    rejected = 0
    for seed in range(400):
        users = Users(60, (0.5, 0.5), items=15, k=6, seed=seed)
        drafted = team_drafts(users.slates[0], users.slates[1], 6, users.keys)
        p_value = preference(users.credits(drafted.items, drafted.teams)).p_value
        rejected += p_value is not None and p_value < 0.05
    assert abs(rejected / 400 - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / 400)


def plain(own: list[int], other: list[int], k: int, coins: list[bool]) -> tuple[list[int], list[int]]:
    """Draft as in 2008: an item that both teams put forward goes to the one that comes first."""
    items: list[int] = []
    teams: list[int] = []
    for other_first in coins:
        for team in (OTHER, OWN) if other_first else (OWN, OTHER):
            item = next((item for item in (own if team == OWN else other) if item not in items), None)
            if item is not None and len(items) < k:
                items.append(item)
                teams.append(team)
    return items, teams


def test_crediting_nobody_takes_fewer_units_than_a_coin() -> None:
    """.80 of the plain draft's with 40 items, .56 with 12 at 40,000 requests each; here there are fewer."""
    for items, guesses, most in ((40, (0.5, 0.9), 0.95), (12, (0.2, 0.6), 0.8)):
        users = Users(3_000, guesses, items=items, k=10, seed=items)
        drafted = team_drafts(users.slates[0], users.slates[1], 10, users.keys)
        coins = (streams(users.keys, 10) >> np.uint64(63)).astype(bool).tolist()
        both = [
            plain(a, b, 10, c)
            for a, b, c in zip(users.slates[0].tolist(), users.slates[1].tolist(), coins, strict=True)
        ]
        old_items, old_teams = np.array([one for one, _ in both]), np.array([two for _, two in both])
        errors = [
            np.mean([(one.value or 0.0) / (one.standard_error or 1.0) for one in tried])
            for tried in (
                [preference(users.credits(drafted.items, drafted.teams)) for _ in range(20)],
                [preference(users.credits(old_items, old_teams.astype(np.int8))) for _ in range(20)],
            )
        ]
        assert (errors[1] / errors[0]) ** 2 < most
