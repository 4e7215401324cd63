from math import isfinite, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.means import welch
from armlift.stats.power import minimum_detectable


def test_it_equals_statsmodels() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        n, ratio = int(rng.integers(50, 5000)), float(rng.uniform(0.2, 5))
        alpha, power = float(rng.uniform(0.001, 0.1)), float(rng.uniform(0.7, 0.95))
        ours = minimum_detectable(sqrt(1 / n + 1 / (n * ratio)), 4.0, alpha=alpha, power=power)
        assert ours.absolute is not None
        assert ours.relative == pytest.approx(ours.absolute / 4.0)
        # The effect goes in and the power comes out, as their search for the effect stops at 1e-8; one-sided
        # at alpha / 2, as we leave out the wrong direction.
        theirs = NormalIndPower().power(ours.absolute, n, alpha / 2, ratio, alternative="larger")
        assert theirs == pytest.approx(power, rel=1e-9)
        both = NormalIndPower().power(ours.absolute, n, alpha, ratio, alternative="two-sided")
        assert both == pytest.approx(power, rel=1e-3)


def test_an_effect_of_that_size_is_found_as_often_as_asked() -> None:
    rng = np.random.default_rng(2)
    sims, n = 2000, 300
    size = minimum_detectable(sqrt(2 / n), 10.0, power=0.8).absolute
    assert size is not None
    a, c = rng.normal(10.0 + size, 1.0, (sims, n, 1)), rng.normal(10.0, 1.0, (sims, n, 1))
    found = [
        welch(Aggregates.of(("y",), x), Aggregates.of(("y",), y), "y").p_value
        for x, y in zip(a, c, strict=True)
    ]
    share = np.mean([p is not None and p < 0.05 for p in found])
    assert abs(share - 0.8) < 4 * sqrt(0.8 * 0.2 / sims)


@pytest.mark.parametrize(
    ("error", "control", "status", "absolute"),
    [
        (None, 1.0, "no_data", False),
        (0.0, 1.0, "zero_variance", False),
        (0.1, 0.0, "zero_control", True),
        (0.1, -1.0, "zero_control", True),
        (0.1, None, "zero_control", True),
        (-0.1, 1.0, "not_estimable", False),
        (float("nan"), 1.0, "not_estimable", False),
        (0.1, float("nan"), "not_estimable", True),
        (0.1, 1e-320, "not_estimable", True),
        (0.1, 1.0, "ok", True),
    ],
)
def test_status(error: float | None, control: float | None, status: str, absolute: bool) -> None:
    result = minimum_detectable(error, control)
    assert result.status == status
    assert (result.absolute is not None) == absolute
    assert (result.relative is not None) == (status == "ok")


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 0.8), (1.0, 0.8), (0.05, 0.0), (0.05, 1.0), (0.5, 0.4)])
def test_parameters_that_are_no_chances_are_refused(alpha: float, power: float) -> None:
    with pytest.raises(InputError, match="must be above"):
        minimum_detectable(0.1, 1.0, alpha=alpha, power=power)


@given(st.floats() | st.none(), st.floats() | st.none())
def test_it_never_answers_a_nan(error: float | None, control: float | None) -> None:
    result = minimum_detectable(error, control)
    assert all(value is None or isfinite(value) for value in (result.absolute, result.relative))
