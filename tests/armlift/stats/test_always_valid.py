from math import exp, isfinite, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.always_valid import always_valid, rho
from armlift.stats.estimates import Estimate, compare, independent
from armlift.stats.means import welch
from armlift.stats.paired import paired_means
from armlift.stats.results import Effect, LiftScale, Rules

Y = ("y",)
Arm = tuple[int, float, float]

# gbstats 0.8.0, SequentialTwoSidedTTest: arm and control as (n, mean, standard deviation), alpha, tuning;
# then interval and p-value of the difference, and the linear lift's interval.
# fmt: off
GBSTATS: list[tuple[Arm, Arm, float, int, tuple[float, ...]]] = [
    ((14405, 7.739, 12.96), (6573, 7.9, 14.05), 0.05, 5000, (
      -0.800617745098, 0.478617745098, 1.0, -0.100158883734, 0.0593993900635)),
    ((1014, 3.754, 1.82), (7852, 3.78, 4.21), 0.01, 500, (
      -0.310056053705, 0.258056053705, 1.0, -0.0818146248258, 0.0680580110692)),
    ((19165, 2.299, 1.53), (4864, 2.43, 4.09), 0.1, 20000, (
      -0.296015096016, 0.0340150960158, 0.348809624291, -0.118285064202, 0.0104661341607)),
    ((16101, 2.535, 3.21), (8488, 2.42, 3.39), 0.2, 5000, (
      -0.000341421421778, 0.230341421422, 0.203815191898, -0.00169040506308, 0.0967317273771)),
    ((595, 1.618, 1.28), (18231, 1.63, 0.54), 0.05, 500, (
      -0.192271769202, 0.168271769202, 1.0, -0.117953455718, 0.103229529337)),
    ((8687, 3.454, 4.67), (3672, 3.46, 3.7), 0.01, 20000, (
      -0.289599292735, 0.277599292735, 1.0, -0.0836143079676, 0.0801460998752)),
    ((1592, 2.026, 1.87), (12166, 2.17, 1.01), 0.1, 5000, (
      -0.27864475411, -0.0093552458897, 0.0582441275046, -0.128261173938, -0.00445772007146)),
    ((1438, 4.265, 7.01), (7348, 3.95, 1.53), 0.2, 500, (
      -0.201325251586, 0.831325251586, 1.0, -0.0510685011763, 0.210562172062)),
    ((3030, 6.768, 2.96), (19124, 5.9, 5.53), 0.05, 20000, (
      0.664585871509, 1.07141412849, 6.09099508826e-33, 0.110754321752, 0.183482966384)),
    ((8371, 5.964, 6.5), (10069, 6.1, 4.69), 0.01, 5000, (
      -0.446005941719, 0.174005941719, 1.0, -0.0727761406356, 0.0281859767012)),
    ((6107, 4.498, 6.47), (9010, 4.32, 3.07), 0.1, 500, (
      -0.101897807215, 0.457897807215, 1.0, -0.023947200422, 0.106354607829)),
    ((14168, 1.242, 1.27), (12628, 1.18, 0.62), 0.2, 20000, (
      0.0324999801859, 0.0915000198141, 2.77660337773e-05, 0.0272595419088, 0.0778252038539)),
]
# fmt: on


def units(arm: Arm) -> Aggregates:
    n, mean, sd = arm
    return Aggregates(Y, n, np.array([mean]), np.array([[sd * sd * (n - 1)]]))


@pytest.mark.parametrize(("arm", "control", "alpha", "tuning", "theirs"), GBSTATS)
def test_it_equals_gbstats(
    arm: Arm, control: Arm, alpha: float, tuning: int, theirs: tuple[float, ...]
) -> None:
    ours = always_valid(welch(units(arm), units(control), "y", Rules(alpha, "linear")), tuning=tuning)
    assert (ours.status, ours.tuning) == ("ok", tuning)
    assert [ours.difference_low, ours.difference_high, ours.p_value] == pytest.approx(theirs[:3], rel=1e-9)
    assert [ours.lift_low, ours.lift_high] == pytest.approx(theirs[3:5], rel=1e-9)


def test_rho_is_the_published_one() -> None:
    assert rho(0.05, 5000) == pytest.approx(0.0398400668, rel=1e-8)


@settings(deadline=None, max_examples=300)
@given(
    n=st.integers(2, 10**7),
    control_n=st.integers(2, 10**7),
    z=st.floats(-8, 8),
    alpha=st.floats(1e-4, 0.5),
    tuning=st.integers(1, 10**6),
    scale=st.sampled_from(["log", "linear"]),
)
def test_it_is_the_formula_of_the_specification(
    n: int, control_n: int, z: float, alpha: float, tuning: int, scale: LiftScale
) -> None:
    a, c = Estimate(n, 2.0 + 0.03 * z, 0.0004), Estimate(control_n, 2.0, 0.0005)
    effect = compare("welch", a, c, independent(a, c), Rules(alpha, scale))
    ours = always_valid(effect, tuning=tuning)
    total, r = n + control_n, sqrt((-2 * log(alpha) + log(-2 * log(alpha) + 1)) / tuning)
    k = total * r**2 + 1
    width = 0.03 * sqrt(total) * sqrt(2 * k * log(sqrt(k) / alpha)) / (total * r)
    s = (a.value or 0) - 2.0
    s *= sqrt(total) / 0.03
    assert [ours.difference_low, ours.difference_high] == pytest.approx(
        [0.03 * z - width, 0.03 * z + width], rel=1e-9, abs=1e-12
    )
    assert ours.p_value == pytest.approx(min(1.0, sqrt(k) * exp(-(r**2) * s**2 / (2 * k))), rel=1e-9)
    assert effect.lift_error is not None
    half, ratio = width / 0.03 * effect.lift_error, 1 + (effect.lift or 0)
    log_scale = [ratio * exp(-half) - 1, ratio * exp(half) - 1]
    bounds = log_scale if scale == "log" else [ratio - half - 1, ratio + half - 1]
    assert [ours.lift_low, ours.lift_high] == pytest.approx(bounds, rel=1e-9, abs=1e-12)
    assert ours.difference_low is not None
    assert ours.difference_high is not None
    assert ours.p_value is not None
    if abs(ours.p_value / alpha - 1) > 1e-9:
        assert (ours.p_value < alpha) == (not ours.difference_low <= 0 <= ours.difference_high)


def test_pairs_count_once() -> None:
    values = np.random.default_rng(1).gamma(2.0, 1.0, (500, 2))
    pairs = paired_means(Aggregates.of(("a", "c"), values), "a", "c")
    assert pairs.units == 500
    half = (always_valid(pairs).difference_high or 0) - (pairs.difference or 0)
    information = 500 * rho(0.05, 5000) ** 2
    expected = sqrt(2 * (information + 1) / information * log(sqrt(information + 1) / 0.05))
    assert half == pytest.approx(expected * (pairs.standard_error or 0), rel=1e-9)


@pytest.mark.parametrize(
    ("arm", "control", "status", "difference", "lift"),
    [
        (Estimate(0, None, 0.0), Estimate(9, 1.0, 0.1), "no_data", False, False),
        (Estimate(0, None, 0.0), Estimate(0, None, 0.1), "no_data", False, False),
        (Estimate(1, 1.0, 0.1), Estimate(9, 1.0, 0.1), "too_few", False, False),
        (Estimate(9, 1.0, 0.0), Estimate(9, 2.0, 0.0), "zero_variance", False, False),
        (Estimate(9, 1.0, 0.1), Estimate(9, 0.0, 0.1), "zero_control", True, False),
        (Estimate(9, -1.0, 0.1), Estimate(9, 1.0, 0.1), "not_estimable", True, False),
        (Estimate(9, 1.0, 1e6), Estimate(9, 1.0, 0.1), "not_estimable", True, False),
        (Estimate(9, 1.0, 0.1), Estimate(9, 1.0, 0.1), "ok", True, True),
    ],
)
def test_degenerate_arms(arm: Estimate, control: Estimate, status: str, difference: bool, lift: bool) -> None:
    ours = always_valid(compare("welch", arm, control, independent(arm, control), Rules()))
    assert ours.status == status
    assert (ours.difference_low is not None) == (ours.p_value is not None) == difference
    assert (ours.lift_low is not None) == (ours.lift_high is not None) == lift


def test_a_tuning_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="tuning is 0, must be 1 or more"):
        always_valid(Effect.unknown("welch", "no_data", alpha=0.05), tuning=0)


@settings(deadline=None, max_examples=200)
@given(values=st.tuples(*[st.floats(0, 1e300)] * 4), n=st.integers(2, 10**12), tuning=st.integers(1, 10**12))
def test_it_never_answers_a_nan(values: tuple[float, float, float, float], n: int, tuning: int) -> None:
    a, c = Estimate(n, values[0], values[1]), Estimate(n, values[2], values[3])
    ours = always_valid(compare("welch", a, c, independent(a, c), Rules()), tuning=tuning)
    numbers = (ours.difference_low, ours.difference_high, ours.lift_low, ours.lift_high, ours.p_value)
    assert all(number is None or isfinite(number) for number in numbers)


def looks(rng: np.random.Generator, scale: float, count: int, size: int) -> list[Aggregates]:
    """Draw an arm of exponential units, seen at `count` looks of `size` new units each."""
    values = rng.exponential(scale, count * size)
    ends = size * np.arange(1, count + 1)
    sums, squares = np.cumsum(values)[ends - 1], np.cumsum(values * values)[ends - 1]
    return [
        Aggregates(Y, int(n), np.array([s / n]), np.array([[q - s * s / n]]))
        for n, s, q in zip(ends, sums, squares, strict=True)
    ]


def test_thirty_looks_reject_no_truth_more_often_than_alpha() -> None:
    rng = np.random.default_rng(4)
    sims, alpha, truth = 300, 0.1, 0.2
    ever = {"fixed": 0, "difference": 0, "lift": 0, "found": 0}
    for _ in range(sims):
        control, same, better = (looks(rng, s, 30, 200) for s in (1.0, 1.0, 1.0 + truth))
        effects = [welch(a, c, "y", Rules(alpha)) for a, c in zip(same, control, strict=True)]
        moved = [always_valid(welch(a, c, "y", Rules(alpha))) for a, c in zip(better, control, strict=True)]
        ever["fixed"] += any((e.p_value or 0) < alpha for e in effects)
        ever["difference"] += any((always_valid(e).p_value or 0) < alpha for e in effects)
        ever["lift"] += any(not (m.lift_low or 0) <= truth <= (m.lift_high or 0) for m in moved)
        ever["found"] += (moved[-1].p_value or 0) < alpha
    assert ever["fixed"] > 3 * alpha * sims
    assert ever["difference"] <= alpha * sims
    assert ever["lift"] <= alpha * sims
    assert ever["found"] > 0.95 * sims
