import time

import numpy as np
import pytest

from armlift.logs import published
from armlift.logs.generator_fit import calibrate
from armlift.logs.generator_response import RANDOM, STANDARD
from armlift.logs.generator_settings import GeneratorSettings

SMALL = GeneratorSettings(users=100, rows_per_session=20)


def test_sharpness_explains_the_standard_click_rate() -> None:
    response = calibrate(SMALL)
    standard, random = response.levels[:, published.TAB_MAIN]
    assert 0.2 < response.sharpness < 5
    assert standard == pytest.approx(random, abs=0.3)


def test_tabs_keep_the_order_of_their_published_click_rates() -> None:
    levels = calibrate(SMALL).levels[STANDARD]
    assert np.array_equal(np.argsort(levels), np.argsort(published.TAB_CLICK_RATES[STANDARD]))


def test_users_all_alike_leave_the_rest_to_the_level() -> None:
    alike = SMALL.model_copy(update={"user_spread": 0.0, "taste_strength": 0.0, "videos": 2})
    levels = calibrate(alike).levels[:, published.TAB_MAIN]
    assert levels[STANDARD] > levels[RANDOM] + 0.3


def test_fits_are_remembered_whatever_the_days() -> None:
    first = calibrate(SMALL)
    begun = time.perf_counter()
    assert calibrate(SMALL.model_copy(update={"days": 30, "random_share": 0.9})) is first
    assert time.perf_counter() - begun < 0.1


def test_random_exposure_is_fitted_alike_whether_or_not_there_is_standard_exposure() -> None:
    both, random = calibrate(SMALL), calibrate(SMALL.model_copy(update={"random_share": 1.0}))
    assert np.array_equal(both.levels[RANDOM], random.levels[RANDOM])
    assert both.long_levels[RANDOM] == random.long_levels[RANDOM]
