from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.estimates import Estimate
from armlift.stats.quantiles import MIN_UNITS, RankInterval, quantile, quantile_difference, rank_interval
from armlift.stats.results import LiftScale, Rules

NAMES = ("below", "values")


def clusters(sizes: Array, values: Array, q: float) -> tuple[Aggregates, Array]:
    """Aggregate units that hold `sizes` values each, one unit after the other; also sort the values."""
    ordered = np.sort(values)
    at = ordered[max(1, int(np.ceil(q * len(values) - 1e-9))) - 1]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    below = np.add.reduceat((values <= at).astype(float), starts)
    return Aggregates.of(NAMES, np.column_stack([below, sizes])), ordered


def estimate(sizes: Array, values: Array, q: float, rules: Rules | None = None) -> Estimate:
    aggregates, ordered = clusters(sizes, values, q)
    ranks = rank_interval(aggregates, q, rules or Rules())
    assert ranks.status == "ok"
    assert ranks.low is not None
    assert ranks.high is not None
    at = ordered[max(1, int(np.ceil(q * len(values) - 1e-9))) - 1]
    return quantile(ranks, float(at), float(ordered[ranks.low - 1]), float(ordered[ranks.high - 1]))


def draw(rng: np.random.Generator, n: int, scale: float = 1.0) -> tuple[Array, Array]:
    """Draw watch times of n units, each with its own level: (values a unit, all values, unit by unit)."""
    sizes = (1 + rng.negative_binomial(2, 0.25, n)).astype(np.float64)
    own = rng.normal(0, 0.7, n)
    return sizes, scale * np.exp(np.repeat(own, sizes.astype(int)) + rng.normal(0, 0.6, int(sizes.sum())))


def test_one_value_a_unit_is_the_binomial_order_statistic_interval() -> None:
    for seed in range(250):
        rng = np.random.default_rng(seed)
        n, q, alpha = (
            int(rng.integers(100, 5000)),
            float(rng.uniform(0.1, 0.9)),
            float(rng.uniform(0.02, 0.2)),
        )
        aggregates, _ = clusters(np.ones(n), rng.normal(0, 1, n), q)
        ranks = rank_interval(aggregates, q, Rules(alpha=alpha))
        low, high = (float(stats.binom.ppf(share, n, q)) for share in (alpha / 2, 1 - alpha / 2))
        assert (ranks.status, ranks.n, ranks.values) == ("ok", n, n)
        assert ranks.low == pytest.approx(low, abs=1)
        assert ranks.high == pytest.approx(high + 1, abs=1)


def test_ranks_are_the_formula_written_out() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        q, alpha = float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.01, 0.2))
        sizes, values = draw(rng, int(rng.integers(150, 400)))
        values = np.ceil(values * 20)  # ties
        aggregates, ordered = clusters(sizes, values, q)
        n, total = len(sizes), len(values)
        at = ordered[int(np.ceil(q * total)) - 1]
        parts = np.split(values, np.cumsum(sizes)[:-1].astype(int))
        below = np.array([np.sum(part <= at) for part in parts])
        p = below.sum() / total
        variance = (below - p * sizes).var(ddof=1) / n / sizes.mean() ** 2
        inflation = variance / (p * (1 - p) / total)  # clustered against independent values
        half = stats.norm.isf(alpha / 2) * np.sqrt(inflation * q * (1 - q) / total)
        ranks = rank_interval(aggregates, q, Rules(alpha=alpha))
        assert ranks.low == np.floor(total * (q - half) + 0.5)
        assert ranks.high == np.ceil(total * (q + half) + 0.5)


def test_values_repeated_within_units_count_once() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 400)
    once, _ = clusters(np.ones(400), values, 0.5)
    many, _ = clusters(np.full(400, 25.0), np.repeat(values, 25), 0.5)
    single, repeated = rank_interval(once, 0.5), rank_interval(many, 0.5)
    assert repeated.values == 25 * single.values
    assert single.low is not None
    assert repeated.low == pytest.approx(25 * single.low, abs=25)
    assert repeated.high == pytest.approx(25 * (single.high or 0), abs=50)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_the_error_is_the_bootstraps_over_units(q: float) -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(8):
        sizes, values = draw(rng, 400)
        parts = np.split(values, np.cumsum(sizes)[:-1].astype(int))
        resampled = [
            np.quantile(
                np.concatenate([parts[i] for i in rng.integers(0, 400, 400)]), q, method="inverted_cdf"
            )
            for _ in range(150)
        ]
        shares.append(np.sqrt(estimate(sizes, values, q).variance) / np.std(resampled))
    assert np.mean(shares) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("q", [0.25, 0.5, 0.95])
def test_coverage_is_nominal(q: float) -> None:
    sims, lift = 700, 0.1
    rng = np.random.default_rng(3)
    truth = lift * np.exp(stats.norm.ppf(q) * np.hypot(0.7, 0.6))
    within, relative, naive = [], [], []
    for _ in range(sims):
        (a_sizes, a), (c_sizes, c) = draw(rng, 500, 1 + lift), draw(rng, 400)
        effect = quantile_difference(estimate(a_sizes, a, q), estimate(c_sizes, c, q))
        within.append((effect.difference_low or 0) <= truth <= (effect.difference_high or 0))
        relative.append((effect.lift_low or 0) <= lift <= (effect.lift_high or 0))
        alone = quantile_difference(estimate(np.ones(len(a)), a, q), estimate(np.ones(len(c)), c, q))
        naive.append((alone.difference_low or 0) <= truth <= (alone.difference_high or 0))
    for found in (within, relative):
        assert abs(np.mean(found) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims)
    assert np.mean(naive) < 0.9  # values taken for independent


def test_the_difference_is_a_welch_comparison_of_the_quantiles() -> None:
    a, c = Estimate(400, 3.0, 0.04), Estimate(300, 2.0, 0.01)
    effect = quantile_difference(a, c)
    df = 0.05**2 / (0.04**2 / 399 + 0.01**2 / 299)
    assert (effect.status, effect.method, effect.n, effect.control_n) == ("ok", "quantile", 400, 300)
    assert effect.degrees_of_freedom == pytest.approx(df, rel=1e-12)
    low, high = stats.t.interval(0.95, df, loc=1.0, scale=np.sqrt(0.05))
    assert [effect.difference_low, effect.difference_high] == pytest.approx([low, high], rel=1e-9)
    assert effect.lift_error == pytest.approx(np.sqrt(0.04 / 9 + 0.01 / 4), rel=1e-12)


def test_the_error_is_read_off_the_two_values() -> None:
    ranks = RankInterval("ok", 400, 4000, 900, 1100, 0.1)
    found = quantile(ranks, 5.0, 4.0, 6.5)
    assert found.value == 5.0
    assert found.variance == pytest.approx((2.5 / 2 / stats.norm.isf(0.05)) ** 2, rel=1e-9)


def rows(below: Array, values: Array) -> Aggregates:
    return Aggregates.of(NAMES, np.column_stack([below, values]))


MANY = 200
HALF = np.tile([2.0, 0.0], MANY // 2)


@pytest.mark.parametrize(
    ("aggregates", "q", "status"),
    [
        (Aggregates.empty(NAMES), 0.5, "no_data"),
        (rows(np.zeros(MANY), np.zeros(MANY)), 0.5, "no_data"),
        (rows(HALF[: MIN_UNITS - 1], np.full(MIN_UNITS - 1, 2.0)), 0.5, "too_few"),
        (rows(HALF, np.full(MANY, 2.0)), 0.5, "ok"),
        (rows(HALF, np.full(MANY, 2.0)), 0.999, "not_estimable"),
        (rows(HALF, np.full(MANY, 2.0)), 0.001, "not_estimable"),
        (rows(np.full(MANY, 2.0), np.full(MANY, 2.0)), 0.95, "not_estimable"),
        (rows(np.ones(MANY), np.full(MANY, 2.0)), 0.5, "zero_variance"),
        (rows(HALF, np.full(MANY, -2.0)), 0.5, "not_estimable"),
    ],
)
def test_degenerate_clusters(aggregates: Aggregates, q: float, status: str) -> None:
    ranks = rank_interval(aggregates, q)
    assert ranks.status == status
    assert (ranks.low is None) == (ranks.high is None) == (status != "ok")


def test_min_units_is_a_rule_above_the_smallest() -> None:
    aggregates = rows(HALF, np.full(MANY, 2.0))
    assert rank_interval(aggregates, 0.5, Rules(min_units=MANY + 1)).status == "too_few"
    few, many = Estimate(MIN_UNITS - 1, 2.0, 0.1), Estimate(MIN_UNITS, 2.0, 0.1)
    assert quantile_difference(few, many).status == "too_few"
    assert quantile_difference(many, many).status == "ok"
    assert quantile_difference(many, many, Rules(min_units=MIN_UNITS + 1)).status == "too_few"


def test_without_ranks_or_values_there_is_no_interval() -> None:
    ok = RankInterval("ok", 400, 4000, 900, 1100, 0.05)
    sound = quantile(ok, 2.0, 1.0, 3.0)
    out_of_data, no_data = replace(ok, status="not_estimable"), replace(ok, status="no_data")
    for ranks, value, low, high, expected in (
        (out_of_data, 2.0, None, None, "not_estimable"),
        (ok, 2.0, 3.0, 1.0, "not_estimable"),
        (ok, 2.0, None, 3.0, "not_estimable"),
        (no_data, None, None, None, "no_data"),
    ):
        assert quantile_difference(quantile(ranks, value, low, high), sound).status == expected
    tied = quantile(ok, 2.0, 2.0, 2.0)
    fixed = quantile(replace(ok, status="zero_variance"), 3.0, None, None)
    assert quantile_difference(tied, fixed).status == "zero_variance"
    assert quantile_difference(tied, sound).status == "ok"


@pytest.mark.parametrize("q", [0.0, 1.0, -0.5, float("nan")])
def test_a_quantile_is_a_share(q: float) -> None:
    with pytest.raises(InputError, match=r"q is .*, must be above 0 and below 1"):
        rank_interval(rows(HALF, np.full(MANY, 2.0)), q)


def test_columns_have_their_names() -> None:
    with pytest.raises(InputError, match="column 'below' is not aggregated"):
        rank_interval(Aggregates.empty(("x", "values")), 0.5)


odd = st.one_of(
    st.floats(-10, 10),
    st.sampled_from([0.0, 1e-320, 1e-200, 1e200, 1.7e308, float("inf"), float("nan")]),
)


@settings(deadline=None, max_examples=400)
@given(
    n=st.sampled_from([0, 1, 99, 100, 10**9]),
    means=st.lists(odd, min_size=2, max_size=2),
    moments=st.lists(odd, min_size=4, max_size=4),
    q=st.floats(1e-6, 1 - 1e-6),
    values=st.lists(st.one_of(st.none(), odd), min_size=3, max_size=3),
    lift=st.sampled_from(["log", "linear"]),
)
def test_it_never_raises_or_answers_a_nan(
    n: int, means: list[float], moments: list[float], q: float, values: list[float | None], lift: LiftScale
) -> None:
    aggregates = Aggregates(NAMES, n, np.array(means), np.array(moments).reshape(2, 2))
    ranks = rank_interval(aggregates, q)
    assert (ranks.low is None) == (ranks.status != "ok")
    if ranks.low is not None and ranks.high is not None:
        assert 1 <= ranks.low <= ranks.high <= ranks.values
    found = quantile(ranks, *values)
    effect = quantile_difference(found, Estimate(400, 1.0, 0.1), Rules(lift=lift))
    assert (effect.lift_low is None) == (effect.status != "ok")
    assert effect.p_value is None or 0.0 <= effect.p_value <= 1.0
