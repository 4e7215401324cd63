"""Blocks of users: the same whatever the blocks, with the sessions that settings ask for."""

from collections.abc import Callable
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from armlift.simulation.attributes import Population
from armlift.simulation.response import ResponseModel
from armlift.simulation.users import MOST_SESSIONS, Users, _poisson

ModelOf = Callable[..., ResponseModel]
DAY_MS = 86_400_000


def draw_users(model: ResponseModel, count: int, first: int = 0) -> Users:
    return Users.draw(model.settings, model.world, Population.synthetic(), 3, first, count, 50)


@given(
    mean=st.floats(0.0, 12.0, allow_nan=False),
    chance=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=40),
)
def test_session_counts_are_poisson_quantiles(mean: float, chance: list[float]) -> None:
    chances = np.array(chance)
    found = _poisson(np.full(len(chances), mean), chances)
    # A quantile is the least count whose probability of at most it reaches the chance; ours exceeds it,
    # which differs where they are equal.
    below = stats.poisson.cdf(found - 1, mean)
    reached = stats.poisson.cdf(found, mean)
    assert np.all(below <= chances + 1e-12)
    assert np.all((reached >= chances - 1e-12) | (found == MOST_SESSIONS))


def test_session_counts_equal_scipys() -> None:
    chance = (np.arange(997) + 0.5) / 997
    for mean in (0.05, 0.7, 2.0, 4.84, 9.0):
        assert np.array_equal(_poisson(np.full(997, mean), chance), stats.poisson.ppf(chance, mean))


def test_blocks_do_not_matter(model_of: ModelOf) -> None:
    model = model_of()
    whole, part = draw_users(model, 30), draw_users(model, 11, first=7)
    for name in ("keys", "readiness", "sessions", "rows", "tastes", "satisfaction"):
        assert np.array_equal(getattr(whole, name)[7:18], getattr(part, name)), name
    assert whole.attributes[7:18] == part.attributes


def test_users_have_the_means_asked_for(model_of: ModelOf) -> None:
    users = draw_users(model_of(), 40_000)
    assert users.sessions.mean() == pytest.approx(2.0, rel=0.02)
    assert users.rows.mean() == pytest.approx(6.0, rel=0.02)
    assert users.readiness.std() == pytest.approx(0.9, rel=0.02)
    shares = np.bincount(users.tastes.ravel(), minlength=6) / users.tastes.size
    assert shares == pytest.approx(model_of().world.taste_shares, abs=0.01)


def test_weekdays_scale_sessions(model_of: ModelOf) -> None:
    model = model_of(weekdays=(1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 0.0))
    users = draw_users(model, 20_000)
    counts = [users.begin_day(model.settings, model.world, 0, weekday, 0, DAY_MS)[0] for weekday in (0, 5, 6)]
    plain, double, none = (found.mean() for found in counts)
    assert plain == pytest.approx(2.0, rel=0.03)
    assert double == pytest.approx(4.0, rel=0.03)
    assert none == 0
    # The same luck: nobody comes less often on the busier day.
    assert np.all(counts[1] >= counts[0])


def test_the_first_day_has_its_weekday() -> None:
    # What Course.day computes from the number of a day.
    for day in (date(2022, 4, 22), date(2024, 2, 29), date(1970, 1, 1)):
        assert (day.toordinal() - date(1970, 1, 1).toordinal() + 3) % 7 == day.weekday()


def test_sessions_begin_in_order_within_their_day(model_of: ModelOf) -> None:
    model = model_of()
    users = draw_users(model, 500)
    counts, begins = users.begin_day(model.settings, model.world, 0, 0, 5 * DAY_MS, DAY_MS)
    assert counts.max() == begins.shape[1]
    for count, row in zip(counts, begins, strict=True):
        mine = row[:count]
        assert np.all(np.diff(mine) >= 0)
        assert np.all((mine >= 5 * DAY_MS) & (mine < 6 * DAY_MS))
        assert np.all(row[count:] > 6 * DAY_MS)


def test_tastes_stay_without_drift_and_move_with_it(model_of: ModelOf) -> None:
    for drift, moved in ((0.0, 0.0), (1.0, None)):
        model = model_of(taste_drift=drift)
        users = draw_users(model, 2_000)
        before = users.tastes.copy()
        users.begin_day(model.settings, model.world, 1, 0, 0, DAY_MS)
        share = (users.tastes != before).mean()
        assert share == moved if moved is not None else share > 0.5
