from math import inf, isfinite, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.estimates import Estimate, compare, independent
from armlift.stats.intervals import adjusted
from armlift.stats.paired import paired_means
from armlift.stats.results import Effect, LiftScale, Rules

scales = st.sampled_from(["log", "linear"])


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 200), alpha=st.floats(0.001, 0.5), scale=scales)
def test_the_t_quantile_gives_the_effects_own_intervals(
    seed: int, n: int, alpha: float, scale: LiftScale
) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 1.0, (n, 2))
    effect = paired_means(Aggregates.of(("a", "c"), values), "a", "c", Rules(alpha, scale))
    found = adjusted(effect, float(stats.t.ppf(1 - alpha / 2, n - 1)))
    assert (found.status, effect.lift_scale, effect.units) == ("ok", scale, n)
    assert [found.difference_low, found.difference_high] == pytest.approx(
        [effect.difference_low, effect.difference_high], rel=1e-9, abs=1e-12
    )
    assert [found.lift_low, found.lift_high] == pytest.approx(
        [effect.lift_low, effect.lift_high], rel=1e-9, abs=1e-12
    )


def test_an_unknown_effect_has_no_intervals() -> None:
    found = adjusted(Effect.unknown("welch", "too_few", alpha=0.05, n=1, control_n=1), 2.0)
    assert (found.status, found.difference_low, found.lift_high) == ("too_few", None, None)


def test_a_difference_without_a_lift_keeps_its_interval() -> None:
    a, c = Estimate(50, 3.0, 0.04), Estimate(80, 0.0, 0.05)
    effect = compare("welch", a, c, independent(a, c), Rules())
    found = adjusted(effect, 2.0)
    assert (found.status, effect.lift_scale, found.lift_low) == ("zero_control", None, None)
    assert [found.difference_low, found.difference_high] == pytest.approx([2.4, 3.6])


def test_a_bound_too_large_for_a_number_is_not_estimable() -> None:
    a, c = Estimate(50, 3.0, 4.0), Estimate(80, 2.0, 1.0)
    found = adjusted(compare("welch", a, c, independent(a, c), Rules()), 1e4)
    assert (found.status, found.lift_low, found.lift_high) == ("not_estimable", None, None)
    assert found.difference_low is not None


@pytest.mark.parametrize("critical", [-1.0, nan, inf])
def test_what_is_no_critical_value_is_refused(critical: float) -> None:
    with pytest.raises(InputError, match=r"critical value is .*, must be finite and 0 or more"):
        adjusted(Effect.unknown("welch", "no_data", alpha=0.05), critical)


@settings(deadline=None, max_examples=300)
@given(
    values=st.tuples(*[st.floats(1e-300, 1e300)] * 4),
    critical=st.floats(0, 1e300),
    scale=scales,
)
def test_it_never_answers_a_nan(
    values: tuple[float, float, float, float], critical: float, scale: LiftScale
) -> None:
    a, c = Estimate(9, values[0], values[1]), Estimate(9, values[2], values[3])
    found = adjusted(compare("welch", a, c, independent(a, c), Rules(lift=scale)), critical)
    bounds = (found.difference_low, found.difference_high, found.lift_low, found.lift_high)
    assert all(bound is None or isfinite(bound) for bound in bounds)
