"""How users respond: by the formulas of the module, with every effect's sign and size."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from armlift.simulation.attributes import Population
from armlift.simulation.response import Response, ResponseModel
from armlift.simulation.users import Users

ModelOf = Callable[..., ResponseModel]
N, K = 20_000, 4


def respond(
    model: ResponseModel,
    *,
    items: npt.NDArray[np.int64] | None = None,
    extra: float = 0.0,
    users: Users | None = None,
    day: int = 0,
) -> tuple[Users, Response]:
    """Show each of N users a slate: K videos one after the other unless others are given."""
    if users is None:
        users = Users.draw(model.settings, model.world, Population.synthetic(), 1, 0, N, 0)
    n = len(users)
    if items is None:
        items = np.tile(np.arange(K), (n, 1))
    now = np.full(n, 1_000_000)
    found = model.respond(users, np.arange(n), items, now, np.full(n, extra), (day, 0, 0))
    return users, found


def error(share: float, n: float) -> float:
    return float(np.sqrt(share * (1 - share) / n))


def test_clicks_follow_the_formula(model_of: ModelOf) -> None:
    model = model_of(taste_strength=2.0, position_bias=0.5, evolution=0.0, fatigue=0.0)
    users, found = respond(model)
    catalogue = model.world.catalogue
    tastes = Users.draw(model.settings, model.world, Population.synthetic(), 1, 0, N, 0).tastes
    weights = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    for slot in range(K):
        served = tastes == catalogue.category[slot]
        affinity = users.readiness + 2.0 * served @ weights + catalogue.quality[slot]
        shown = found.shown[:, slot]
        assert found.affinity[shown, slot] == pytest.approx(affinity[shown])
        expected = (1 + slot) ** -0.5 * expit(model.levels.level + affinity[shown])
        clicked = found.click[shown, slot]
        assert clicked.mean() == pytest.approx(expected.mean(), abs=4 * error(expected.mean(), shown.sum()))


def test_position_bias_lowers_clicks_by_slot(model_of: ModelOf) -> None:
    same = {"rows_per_session": 300.0, "evolution": 0.0, "fatigue": 0.0, "stay": 0.0}
    rates = {}
    for bias in (0.0, 1.0):
        _, found = respond(model_of(position_bias=bias, **same), items=np.full((N, K), 5))
        rates[bias] = [found.click[found.shown[:, slot], slot].mean() for slot in range(K)]
    for slot in range(K):
        allowed = 5 * error(rates[0.0][slot], N)
        assert rates[1.0][slot] == pytest.approx(rates[0.0][slot] / (1 + slot), abs=allowed)


def test_fatigue_lowers_clicks_on_repeats(model_of: ModelOf) -> None:
    same = {"rows_per_session": 300.0, "evolution": 0.0, "position_bias": 0.0, "stay": 0.0}
    _, fresh = respond(model_of(fatigue=0.0, **same), items=np.full((N, K), 5))
    users, tired = respond(model_of(fatigue=1.0, **same), items=np.full((N, K), 5))
    # The same luck: the first showing is the same, and each later one costs 1 in log odds.
    assert np.array_equal(tired.click[:, 0], fresh.click[:, 0])
    both = tired.shown & fresh.shown
    for slot in range(K):
        there = both[:, slot]
        assert tired.affinity[there, slot] == pytest.approx(fresh.affinity[there, slot] - slot)
        assert not np.any(tired.click[there, slot] & ~fresh.click[there, slot])
    assert np.array_equal(users.repeats[:, 5], tired.shown.sum(axis=1))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_what_an_arm_adds_has_its_sign(model_of: ModelOf, sign: float) -> None:
    model = model_of(evolution=0.0)
    _, plain = respond(model)
    _, added = respond(model, extra=0.3 * sign)
    first = plain.click[:, 0].mean(), added.click[:, 0].mean()
    assert sign * (first[1] - first[0]) > 0
    # Whoever clicked with less clicks with more.
    lower, higher = (plain, added) if sign > 0 else (added, plain)
    assert not np.any(lower.click[:, 0] & ~higher.click[:, 0])


def test_evolution_0_leaves_tastes_and_1_moves_those_that_served(model_of: ModelOf) -> None:
    for evolution in (0.0, 1.0):
        model = model_of(evolution=evolution)
        before = Users.draw(model.settings, model.world, Population.synthetic(), 1, 0, N, 0).tastes
        users, found = respond(model, items=np.zeros((N, 1), dtype=np.int64))
        category = model.world.catalogue.category[0]
        served = before == category
        moved = found.click[:, 0] & served.any(axis=1) & (evolution == 1.0)
        expected = before.copy()
        expected[moved, served[moved].argmax(axis=1)] = model.world.follower[category]
        assert np.array_equal(users.tastes, expected)


def test_outcomes_agree_with_one_another(model_of: ModelOf) -> None:
    model = model_of()
    rng = np.random.default_rng(0)
    items = rng.integers(0, model.world.videos, (N, K))
    items[rng.random((N, K)) < 0.05] = -1
    _, found = respond(model, items=items)
    assert not np.any(found.click & ~found.shown)
    assert not np.any(found.long_view & ~found.click)
    assert not np.any((found.play > 0) & ~found.shown)
    assert not np.any((found.action >= 0) & ~found.shown)
    # A slate is looked at from its first item on, to its first gap at the latest.
    assert not np.any(found.shown[:, 1:] & ~found.shown[:, :-1])
    assert not np.any(found.shown & (np.minimum.accumulate(items, axis=1) < 0))
    assert not np.any(found.stays & (items[:, 0] < 0))


def test_times_ascend(model_of: ModelOf) -> None:
    _, found = respond(model_of())
    later = found.shown[:, 1:]
    assert np.all((found.ts[:, 1:] - found.ts[:, :-1])[later] >= 300)
    last = np.where(found.shown, found.ts + found.play * 1_000, 0).max(axis=1)
    shown = found.shown.any(axis=1)
    assert np.all(found.end[shown] > last[shown])
    assert np.all(found.ts[:, 0][found.shown[:, 0]] == 1_000_000)


def test_sessions_have_the_rows_asked_for(model_of: ModelOf) -> None:
    # One long slate, and users who leave alike: as many rows as asked for.
    model = model_of(stay=0.0, rows_per_session=3.0)
    users = Users.draw(model.settings, model.world, Population.synthetic(), 1, 0, N, 0)
    users.rows[:] = 3.0
    _, found = respond(model, users=users, items=np.tile(np.arange(60), (N, 1)))
    assert found.shown.sum(axis=1).mean() == pytest.approx(3.0, rel=0.03)


def test_an_item_watched_for_long_makes_staying_likelier(model_of: ModelOf) -> None:
    users, found = respond(model_of(stay=2.0), items=np.zeros((N, 1), dtype=np.int64))
    long = found.long_view[:, 0]
    expected = 1 / users.rows * np.exp(-2.0 * (long - 0.318))
    for who in (long, ~long):
        chance = np.minimum(expected[who], 1).mean()
        assert 1 - found.stays[who].mean() == pytest.approx(chance, abs=4 * error(chance, who.sum()) + 1e-3)
