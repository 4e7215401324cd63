from dataclasses import astuple
from math import isfinite, nan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.cuped import adjusted_means
from armlift.stats.estimates import Estimate, compare, independent
from armlift.stats.means import mean, welch
from armlift.stats.ratios import ratio
from armlift.stats.results import LiftScale, Rules
from armlift.stats.strata import Pair, stratified


def of(values: Array) -> Aggregates:
    return Aggregates.of(("y",), values.reshape(-1, 1))


def pair(arm: Array, control: Array) -> Pair:
    return mean(of(arm), "y"), mean(of(control), "y")


# Two strata, worked by hand. Estimates are (n, mean, variance of the mean):
#
#              arm              control          n_k   nu_k
#   stratum 1  (10, 4, 0.40)    (30, 3, 0.10)    40    0.4
#   stratum 2  (40, 7, 0.05)    (20, 5, 0.20)    60    0.6      N = 100
#
# arm     = 0.4 * 4 + 0.6 * 7 = 5.8;  control = 0.4 * 3 + 0.6 * 5 = 4.2;  difference 1.6
# parts   0.16 * 0.40 = 0.064, 0.16 * 0.10 = 0.016, 0.36 * 0.05 = 0.018, 0.36 * 0.20 = 0.072
# between d = (1, 2): sum nu d^2 - (sum nu d)^2 = 0.4 + 2.4 - 1.6^2 = 0.24; / N = 0.0024
# variance = 0.064 + 0.016 + 0.018 + 0.072 + 0.0024 = 0.1724
# df = 0.1724^2 / (0.064^2/9 + 0.016^2/29 + 0.018^2/39 + 0.072^2/19 + 0.0024^2/99)
#    = 0.02972176 / (0.000455111 + 0.000008828 + 0.000008308 + 0.000272842 + 0.000000058) = 39.8872
#
# log lift: f_a = 1/5.8, f_c = -1/4.2
# parts   (0.064 + 0.018) / 33.64 + (0.016 + 0.072) / 17.64 = 0.0024375743 + 0.0049886621 = 0.0074262364
# between d = (4/5.8 - 3/4.2, 7/5.8 - 5/4.2) = (-0.0246305419, 0.0164203612); sum nu d = 0, as it must be
#         sum nu d^2 = 0.4 * 0.00060666359 + 0.6 * 0.00026962826 = 0.00040444239; / N = 0.0000040444239
# variance = 0.0074302808
GOLDEN = [
    (Estimate(10, 4.0, 0.40), Estimate(30, 3.0, 0.10)),
    (Estimate(40, 7.0, 0.05), Estimate(20, 5.0, 0.20)),
]


def test_golden_numbers() -> None:
    found = stratified(GOLDEN, "welch")
    effect = found.effect
    assert (found.strata, found.left_out, found.left_out_units) == (2, 0, 0)
    assert (effect.status, effect.method, effect.n, effect.control_n) == ("ok", "welch", 50, 50)
    assert [effect.mean, effect.control_mean, effect.difference] == pytest.approx([5.8, 4.2, 1.6], rel=1e-12)
    assert effect.standard_error == pytest.approx(sqrt(0.1724), rel=1e-12)
    assert effect.degrees_of_freedom == pytest.approx(39.8872, rel=1e-5)
    p_value = 2 * stats.t.sf(1.6 / sqrt(0.1724), effect.degrees_of_freedom or 0.0)
    assert effect.p_value == pytest.approx(p_value, rel=1e-9)
    assert effect.lift_error == pytest.approx(sqrt(0.0074302808), rel=1e-8)
    assert effect.lift == pytest.approx(5.8 / 4.2 - 1, rel=1e-12)


@pytest.mark.parametrize("lift", ["log", "linear"])
def test_one_stratum_is_the_unstratified_result(lift: LiftScale) -> None:
    lone = (Estimate(1, 5.0, nan), Estimate(900, 4.0, 0.1))
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, c = of(rng.gamma(2, 3, rng.integers(2, 99))), of(rng.gamma(3, 2, rng.integers(2, 99)))
        rules = Rules(alpha=float(rng.uniform(0.01, 0.2)), lift=lift)
        plain = welch(a, c, "y", rules)
        one = stratified([(mean(a, "y"), mean(c, "y"))], "welch", rules)
        assert (one.effect, one.strata, one.left_out) == (plain, 1, 0)
        among = stratified([lone, (mean(a, "y"), mean(c, "y")), lone], "welch", rules)
        assert (among.effect, among.strata, among.left_out, among.left_out_units) == (plain, 1, 2, 1802)


def test_it_is_the_sum_over_strata_written_out() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        parts = [
            (rng.gamma(2, 1 + k, rng.integers(5, 80)), rng.gamma(3, 1 + k, rng.integers(5, 80)))
            for k in range(rng.integers(2, 6))
        ]
        units = sum(len(a) + len(c) for a, c in parts)
        nu = np.array([(len(a) + len(c)) / units for a, c in parts])
        means = np.array([(a.mean(), c.mean()) for a, c in parts])
        variances = np.array([(a.var(ddof=1) / len(a), c.var(ddof=1) / len(c)) for a, c in parts])
        sizes = np.array([(len(a), len(c)) for a, c in parts])
        arm, control = nu @ means
        effect = stratified([pair(a, c) for a, c in parts], "welch").effect
        for factors, error, df in (
            (np.array([1.0, -1.0]), effect.standard_error, effect.degrees_of_freedom),
            (np.array([1 / arm, -1 / control]), effect.lift_error, effect.lift_degrees_of_freedom),
        ):
            d = means @ factors
            terms = (nu[:, None] * factors) ** 2 * variances
            between = (nu @ d**2 - (nu @ d) ** 2) / units
            total = terms.sum() + between
            below = (terms**2 / (sizes - 1)).sum() + between**2 / (units - 1)
            assert error == pytest.approx(np.sqrt(total), rel=1e-9)
            assert df == pytest.approx(total**2 / below, rel=1e-9)


def test_simpsons_paradox_is_resolved() -> None:
    """Of mean 10 the arm gets 1 % of traffic, of mean 20 then 50 %: it loses 1 in both, pooled it wins."""
    rng = np.random.default_rng(1)
    early = rng.normal(9, 1, 100), rng.normal(10, 1, 9900)
    late = rng.normal(19, 1, 5000), rng.normal(20, 1, 5000)
    pooled = welch(of(np.concatenate([early[0], late[0]])), of(np.concatenate([early[1], late[1]])), "y")
    assert (pooled.difference_low or 0) > 4
    effect = stratified([pair(*early), pair(*late)], "welch").effect
    assert (effect.difference_low or 0) < -1 < (effect.difference_high or 0)
    assert effect.difference_high == pytest.approx(-1, abs=0.25)


def phases(rng: np.random.Generator, lift: float) -> tuple[list[Pair], Array, Array]:
    """Draw units of two phases: the early ones live through both; the arm's weight goes from 5 % to 50 %.

    The early bring a total over two phases, so a higher mean. Gives the strata, and each arm's values pooled.
    """
    n = 6000
    own = rng.gamma(2.0, 1.0, n)
    early = rng.random(n) < 0.5
    exposed = rng.random(n) < np.where(early, 0.05, 0.5)
    values = rng.poisson(own * np.where(early, 3.0, 1.0) * np.where(exposed, 1.0 + lift, 1.0)).astype(float)
    strata = [pair(values[part & exposed], values[part & ~exposed]) for part in (early, ~early)]
    return strata, values[exposed], values[~exposed]


@pytest.mark.parametrize("lift", [0.0, 0.2])
def test_units_that_live_through_two_phases_keep_the_error_nominal(lift: float) -> None:
    sims = 1500
    rng = np.random.default_rng(2)
    truth = lift * (0.5 * 6.0 + 0.5 * 2.0)
    hits, lift_hits, pooled_hits = [], [], []
    for _ in range(sims):
        strata, arm, control = phases(rng, lift)
        effect, pooled = stratified(strata, "welch").effect, welch(of(arm), of(control), "y")
        hits.append((effect.difference_low or 0) <= truth <= (effect.difference_high or 0))
        lift_hits.append((effect.lift_low or 0) <= lift <= (effect.lift_high or 0))
        pooled_hits.append((pooled.difference_low or 0) <= truth <= (pooled.difference_high or 0))
    for found in (hits, lift_hits):
        assert abs(np.mean(found) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert np.mean(pooled_hits) < 0.05


def test_shares_that_are_observed_add_to_the_error() -> None:
    """The arm gains 5 in one phase and nothing in the other: most of the error is in the phases' shares."""
    sims, n = 2000, 400
    rng = np.random.default_rng(4)
    hits, lift_hits, without = [], [], []
    for _ in range(sims):
        late = rng.random(n) < 0.5
        exposed = rng.random(n) < np.where(late, 0.5, 0.3)
        values = rng.normal(10, 1, n) + 5 * (late & exposed)
        strata = [pair(values[part & exposed], values[part & ~exposed]) for part in (late, ~late)]
        effect = stratified(strata, "welch").effect
        hits.append((effect.difference_low or 0) <= 2.5 <= (effect.difference_high or 0))
        lift_hits.append((effect.lift_low or 0) <= 0.25 <= (effect.lift_high or 0))
        parts = [(a.n + c.n) ** 2 * (a.variance + c.variance) / n**2 for a, c in strata]
        without.append(abs((effect.difference or 0) - 2.5) < 1.96 * sqrt(sum(parts)))
    for found in (hits, lift_hits):
        assert abs(np.mean(found) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert np.mean(without) < 0.85


def test_any_methods_estimates_can_be_combined() -> None:
    rng = np.random.default_rng(3)
    parts = []
    for n in (60, 90):
        x = rng.gamma(2, 2, (2, n))
        parts.append([np.column_stack([row + rng.normal(0, 0.5, n), row]) for row in x])
    names = ("y", "x")
    arms = [[Aggregates.of(names, values) for values in part] for part in parts]
    adjusted = [adjusted_means(a, c, "y", ["x"]) for a, c in arms]
    plain = stratified([(mean(a, "y"), mean(c, "y")) for a, c in arms], "welch").effect
    cuped = stratified([(one.arm, one.control) for one in adjusted], "cuped").effect
    assert (cuped.status, cuped.method) == ("ok", "cuped")
    assert (cuped.standard_error or 1) < 0.5 * (plain.standard_error or 0)
    ratios = stratified([(ratio(a, "y", "x"), ratio(c, "y", "x")) for a, c in arms], "ratio").effect
    assert (ratios.status, ratios.method) == ("ok", "ratio")


SOUND = (Estimate(50, 3.0, 0.1), Estimate(60, 2.0, 0.2))


@pytest.mark.parametrize(
    ("pairs", "status", "strata", "left_out", "units"),
    [
        ([], "no_data", 0, 0, 0),
        ([(Estimate(0, None, nan), SOUND[1])] * 2, "no_data", 0, 2, 120),
        ([(Estimate(1, 3.0, nan), SOUND[1])] * 2, "too_few", 0, 2, 122),
        ([(Estimate(1, 3.0, nan), SOUND[1])], "too_few", 1, 0, 0),
        ([SOUND, (Estimate(0, None, nan), SOUND[1])], "ok", 1, 1, 60),
        ([SOUND, (Estimate(9, None, nan), SOUND[1])], "ok", 1, 1, 69),
        ([SOUND, (Estimate(9, nan, nan), SOUND[1])], "not_estimable", 2, 0, 0),
        ([SOUND, SOUND], "ok", 2, 0, 0),
        ([(Estimate(9, 0.3, 0.0), Estimate(9, 0.1, 0.0))] * 3, "zero_variance", 3, 0, 0),
        ([(SOUND[0], Estimate(9, -1.0, 0.1))] * 2, "zero_control", 2, 0, 0),
    ],
)
def test_degenerate_strata(pairs: list[Pair], status: str, strata: int, left_out: int, units: int) -> None:
    found = stratified(pairs, "welch")
    assert found.effect.status == status
    assert (found.strata, found.left_out, found.left_out_units) == (strata, left_out, units)


def test_min_units_counts_all_strata() -> None:
    assert stratified([SOUND, SOUND], "welch", Rules(min_units=100)).effect.status == "ok"
    assert stratified([SOUND, SOUND], "welch", Rules(min_units=101)).effect.status == "too_few"


def test_equal_strata_are_one_of_twice_the_size() -> None:
    found = stratified([SOUND, SOUND], "welch").effect
    a, c = (one._replace(variance=one.variance / 2) for one in SOUND)
    whole = compare("welch", a, c, independent(a, c), Rules())
    assert [found.lift, found.standard_error, found.lift_error] == pytest.approx(
        [whole.lift, whole.standard_error, whole.lift_error], rel=1e-12
    )


estimates = st.builds(
    Estimate,
    st.integers(0, 5),
    st.one_of(st.none(), st.floats(-10, 10), st.sampled_from([1e-320, 1e200, 1.7e308, float("inf"), nan])),
    st.one_of(st.floats(0, 10), st.sampled_from([1e-320, 1e200, 1.7e308, float("inf"), nan])),
)


@settings(deadline=None, max_examples=400)
@given(pairs=st.lists(st.tuples(estimates, estimates), max_size=4), lift=st.sampled_from(["log", "linear"]))
def test_it_never_raises_or_answers_a_nan(pairs: list[Pair], lift: LiftScale) -> None:
    effect = stratified(pairs, "welch", Rules(lift=lift)).effect
    assert all(isfinite(one) for one in astuple(effect) if isinstance(one, float | int)), effect
    assert (effect.lift_low is None) == (effect.status != "ok")
