import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from armlift.errors import InputError
from armlift.stats.srm import (
    Stratum,
    sample_ratio,
    sample_ratio_strata,
    sequential_sample_ratio,
    sequential_sample_ratio_strata,
)


def draw(rng: np.random.Generator) -> tuple[list[int], list[float]]:
    weights = rng.uniform(0.5, 5.0, rng.integers(2, 6))
    units = int(rng.integers(500, 50_000))
    skew = weights * rng.uniform(0.95, 1.05, len(weights))
    return rng.multinomial(units, skew / skew.sum()).tolist(), weights.tolist()


def test_it_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(250):
        observed, weights = draw(rng)
        expected = np.array(weights) / sum(weights) * sum(observed)
        ours, theirs = sample_ratio(observed, weights), stats.chisquare(observed, expected)
        assert [ours.chi_square, ours.p_value] == pytest.approx(list(theirs), rel=1e-9)
        assert ours.degrees_of_freedom == len(weights) - 1
        assert ours.status == ("fail" if theirs.pvalue < 0.001 else "ok")
        assert ours.expected == pytest.approx(expected.tolist())


def test_strata_add_up() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        first, second = draw(rng), draw(rng)
        arms = min(len(first[1]), len(second[1]))
        strata = [Stratum(o[:arms], w[:arms]) for o, w in (first, second)]
        parts = [sample_ratio(s.observed, s.weights) for s in strata]
        both = sample_ratio_strata(strata)
        total = sum(part.chi_square or 0.0 for part in parts)
        assert both.chi_square == pytest.approx(total, rel=1e-12)
        assert both.degrees_of_freedom == 2 * (arms - 1)
        assert both.p_value == pytest.approx(stats.chi2.sf(total, 2 * (arms - 1)), rel=1e-9)
        assert (both.strata, both.left_out) == (2, 0)


def test_a_change_of_weights_is_no_mismatch() -> None:
    phases = [Stratum([9000, 1000], [9, 1]), Stratum([500, 500], [1, 1])]
    assert sample_ratio_strata(phases).status == "ok"
    assert sample_ratio([9500, 1500], [9, 1]).status == "fail"


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(3)
    counts = rng.multinomial(3000, [0.5, 0.3, 0.2], 4000).tolist()
    p_values = [sample_ratio(observed, [5, 3, 2]).p_value for observed in counts]
    share = np.mean([p is not None and p < 0.05 for p in p_values])
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.parametrize(
    ("observed", "weights", "status"),
    [
        ([0, 0], [1, 1], "no_data"),
        ([2, 1], [1, 1], "no_data"),
        ([9000, 1], [9999, 1], "no_data"),
        ([9, 0], [1, 0], "not_applicable"),
        ([9], [1], "not_applicable"),
        ([0, 0], [0, 0], "not_applicable"),
        ([5000, 5000, 0], [1, 1, 0], "ok"),
        ([5000, 5000, 1], [1, 1, 0], "fail"),
        ([5000, 4000], [1, 1], "fail"),
    ],
)
def test_status(observed: list[int], weights: list[float], status: str) -> None:
    assert sample_ratio(observed, weights).status == status


def test_a_stratum_too_small_to_test_is_left_out() -> None:
    result = sample_ratio_strata([Stratum([5000, 5010], [1, 1]), Stratum([3, 0], [1, 1])])
    assert (result.status, result.strata, result.left_out, result.observed) == ("ok", 1, 1, (5000, 5010))


def test_no_stratum_is_no_data() -> None:
    assert sample_ratio_strata([]).status == "no_data"


def test_what_is_no_count_or_weight_is_refused() -> None:
    with pytest.raises(InputError, match="count -1"):
        sample_ratio([-1, 5], [1, 1])
    with pytest.raises(InputError, match="weight nan"):
        sample_ratio([1, 5], [1, float("nan")])
    with pytest.raises(InputError, match="3 counts and 2 weights"):
        sample_ratio([1, 5, 6], [1, 1])


@given(
    arms=st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e300)), min_size=1, max_size=5),
)
def test_it_never_answers_a_nan(arms: list[tuple[int, float]]) -> None:
    result = sample_ratio([count for count, _ in arms], [weight for _, weight in arms])
    for value in (result.chi_square, result.p_value, *result.expected):
        assert value is None or np.isfinite(value)


def test_the_sequential_e_value_equals_scipys_likelihood_ratio() -> None:
    rng = np.random.default_rng(4)
    for _ in range(250):
        observed, weights = draw(rng)
        concentration = float(10.0 ** rng.uniform(-1, 5))
        p, n = np.array(weights) / sum(weights), sum(observed)
        ours = sequential_sample_ratio(observed, weights, concentration=concentration)
        drawn = float(stats.dirichlet_multinomial.logpmf(observed, concentration * p, np.array(n)))
        theirs = drawn - float(stats.multinomial.logpmf(observed, n, p))
        assert ours.log_e_value == pytest.approx(theirs, rel=1e-9, abs=1e-8)
        assert ours.p_value == pytest.approx(min(1.0, np.exp(-theirs)), rel=1e-7)
        assert ours.status == ("fail" if np.exp(-theirs) < 0.001 else "ok")
        assert ours.expected == pytest.approx((p * n).tolist())


def test_sequential_strata_multiply() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        first, second = draw(rng), draw(rng)
        arms = min(len(first[1]), len(second[1]))
        strata = [Stratum(o[:arms], w[:arms]) for o, w in (first, second)]
        parts = [sequential_sample_ratio(s.observed, s.weights) for s in strata]
        both = sequential_sample_ratio_strata(
            [*strata, Stratum([7] + [0] * (arms - 1), [1] + [0] * (arms - 1))]
        )
        assert both.log_e_value == pytest.approx(sum(part.log_e_value or 0.0 for part in parts), rel=1e-12)
        assert (both.strata, both.left_out) == (2, 1)
        assert both.observed == tuple(np.sum([s.observed for s in strata], axis=0).tolist())


def test_the_e_value_is_fair_to_every_next_unit() -> None:
    weights, share = [5, 3, 2], np.array([0.5, 0.3, 0.2])
    rng = np.random.default_rng(6)
    for counts in rng.multinomial(50, [0.4, 0.4, 0.2], 200).tolist():
        now = sequential_sample_ratio(counts, weights, concentration=20).log_e_value
        grown = [
            sequential_sample_ratio((counts + unit).tolist(), weights, concentration=20).log_e_value
            for unit in np.eye(3, dtype=int)
        ]
        growth = np.exp(np.array(grown, dtype=float) - (now or 0.0))
        assert share @ growth == pytest.approx(1.0, rel=1e-9)


def ever_and_found(split: list[float], sims: int) -> tuple[float, float, float]:
    """Look 50 times at strata of two weights; give the shares that ever fall below .05, and below .001."""
    rng = np.random.default_rng(7)
    ever = fixed = found = 0
    for _ in range(sims):
        first = np.cumsum(rng.multinomial(100, split, 50), axis=0)
        second = np.cumsum(rng.multinomial(60, split, 50), axis=0)
        looks = [
            [Stratum(a.tolist(), [1, 1]), Stratum(b.tolist(), [2, 2])]
            for a, b in zip(first, second, strict=True)
        ]
        p = [sequential_sample_ratio_strata(look).p_value or 0.0 for look in looks]
        ever += min(p) < 0.05
        found += min(p) < 0.001
        fixed += min(sample_ratio_strata(look).p_value or 0.0 for look in looks) < 0.05
    return ever / sims, fixed / sims, found / sims


def test_fifty_looks_raise_false_alarms_no_more_often_than_promised() -> None:
    ever, fixed, _ = ever_and_found([0.5, 0.5], 300)
    assert ever <= 0.05
    assert fixed > 0.15


def test_fifty_looks_find_a_true_mismatch() -> None:
    assert ever_and_found([0.55, 0.45], 60)[2] > 0.95


@pytest.mark.parametrize(
    ("observed", "weights", "status"),
    [
        ([0, 0], [1, 1], "no_data"),
        ([2, 1], [1, 1], "ok"),
        ([9, 0], [1, 0], "not_applicable"),
        ([9], [1], "not_applicable"),
        ([0, 0], [0, 0], "not_applicable"),
        ([5000, 5000, 0], [1, 1, 0], "ok"),
        ([5000, 5000, 1], [1, 1, 0], "fail"),
        ([5000, 4000], [1, 1], "fail"),
    ],
)
def test_sequential_status(observed: list[int], weights: list[float], status: str) -> None:
    result = sequential_sample_ratio(observed, weights)
    assert result.status == status
    assert (result.p_value is None) == (status in ("no_data", "not_applicable"))


def test_a_unit_where_none_may_be_is_a_certain_mismatch() -> None:
    result = sequential_sample_ratio_strata([Stratum([50, 50], [1, 1]), Stratum([9, 1], [1, 0])])
    assert (result.status, result.p_value, result.log_e_value) == ("fail", 0.0, None)


def test_no_stratum_is_no_data_sequentially() -> None:
    assert sequential_sample_ratio_strata([]).status == "no_data"


@pytest.mark.parametrize("concentration", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_concentration_is_refused(concentration: float) -> None:
    with pytest.raises(InputError, match=r"concentration is .*, must be finite and above 0"):
        sequential_sample_ratio([1, 1], [1, 1], concentration=concentration)


def test_weights_without_a_finite_sum_are_refused() -> None:
    with pytest.raises(InputError, match="weights add up to inf"):
        sequential_sample_ratio([1, 1], [1.7e308, 1.7e308])


@given(
    arms=st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e300)), min_size=1, max_size=5),
    concentration=st.floats(1e-300, 1e12),
)
def test_the_sequential_check_never_answers_a_nan(
    arms: list[tuple[int, float]], concentration: float
) -> None:
    result = sequential_sample_ratio(
        [count for count, _ in arms], [weight for _, weight in arms], concentration=concentration
    )
    for value in (result.log_e_value, result.p_value, *result.expected):
        assert value is None or np.isfinite(value)
