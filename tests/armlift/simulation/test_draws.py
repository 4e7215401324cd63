"""Counted random numbers: uniform, independent of blocks and of one another."""

import numpy as np
import pytest
from scipy import stats

from armlift.simulation.draws import Purpose, draw, draw_slots, keys_of_users, occasion


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_numbers_are_uniform_over_users_occasions_and_purposes(seed: int) -> None:
    keys = keys_of_users(seed, 0, 20_000)
    over_users = draw(keys, Purpose.CLICK, occasion(3, 1, 2, 5))
    over_occasions = draw_slots(keys[:20], Purpose.LEAVE, occasion(0), 1_000).ravel()
    over_purposes = np.concatenate([draw(keys[:1_200], purpose) for purpose in Purpose])
    for numbers in (over_users, over_occasions, over_purposes):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3


def test_numbers_of_neighbours_are_not_alike() -> None:
    keys = keys_of_users(0, 0, 50_000)
    here = draw(keys, Purpose.CLICK, occasion(0, 0, 0, 0))
    others = {
        "next user": draw(keys_of_users(0, 1, 50_000), Purpose.CLICK, occasion(0, 0, 0, 0)),
        "next seed": draw(keys_of_users(1, 0, 50_000), Purpose.CLICK, occasion(0, 0, 0, 0)),
        "next slot": draw(keys, Purpose.CLICK, occasion(0, 0, 0, 1)),
        "next page": draw(keys, Purpose.CLICK, occasion(0, 0, 1, 0)),
        "next session": draw(keys, Purpose.CLICK, occasion(0, 1, 0, 0)),
        "next day": draw(keys, Purpose.CLICK, occasion(1, 0, 0, 0)),
        "next purpose": draw(keys, Purpose.LONG_VIEW, occasion(0, 0, 0, 0)),
    }
    for name, numbers in others.items():
        # Four standard errors of a correlation of 0.
        assert abs(np.corrcoef(here, numbers)[0, 1]) < 4 / np.sqrt(len(here)), name


def test_blocks_do_not_matter() -> None:
    whole = keys_of_users(7, 0, 100)
    parts = [keys_of_users(7, first, count) for first, count in ((0, 1), (1, 60), (61, 39))]
    assert np.array_equal(whole, np.concatenate(parts))
    some = draw_slots(whole, Purpose.VIDEO, occasion(-7, 2, 1), 10)
    for slot in range(10):
        assert np.array_equal(some[:, slot], draw(whole, Purpose.VIDEO, occasion(-7, 2, 1, slot)))


def test_occasions_have_numbers_of_their_own() -> None:
    places = [
        (day, session, page, slot)
        for day in (-1_000, -1, 0, 366)
        for session in (0, 35)
        for page in (0, 63)
        for slot in (0, 1, 400)
    ]
    numbers = {occasion(*place) for place in places}
    assert len(numbers) == len(places)
    assert min(numbers) >= 0
