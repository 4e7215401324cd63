import numpy as np
import pytest
from scipy import stats

from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.means import welch
from armlift.stats.paired import paired_means, paired_mix, paired_ratios
from armlift.stats.results import Rules

MEANS = ("a", "c")
RATIOS = ("m_a", "d_a", "m_c", "d_c")
ARM, CONTROL = ("m_a", "d_a"), ("m_c", "d_c")


def pairs(rng: np.random.Generator, n: int, lift: float = 0.1) -> Array:
    """Draw a metric under both arms for n units that differ in their habits: [n, 2]."""
    habit = rng.gamma(2.0, 1.0, n)
    return np.column_stack(
        [habit * rng.gamma(3.0, (1 + lift) / 3, n) + 0.2, habit * rng.gamma(3.0, 1 / 3, n) + 0.2]
    )


def clicks(rng: np.random.Generator, n: int, arm: float = 0.36, control: float = 0.3) -> Array:
    """Draw clicks and impressions under both arms for n units with a taste of their own: [n, 4]."""
    taste = rng.beta(4.0, 4.0, n) * 2
    shown_a, shown_c = 1 + rng.poisson(6 * taste + 1, (2, n))
    return np.column_stack(
        [rng.binomial(shown_a, arm * taste), shown_a, rng.binomial(shown_c, control * taste), shown_c]
    ).astype(float)


def test_paired_means_equal_scipy() -> None:
    for seed in range(240):
        rng = np.random.default_rng(seed)
        alpha = float(rng.uniform(0.001, 0.3))
        values = pairs(rng, int(rng.integers(2, 400))) * 10.0 ** rng.integers(-3, 7)
        ours = paired_means(Aggregates.of(MEANS, values), "a", "c", Rules(alpha=alpha))
        theirs = stats.ttest_rel(values[:, 0], values[:, 1])
        interval = theirs.confidence_interval(1 - alpha)
        assert (ours.status, ours.method, ours.n) == ("ok", "paired", len(values))
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert ours.degrees_of_freedom == theirs.df
        assert [ours.difference_low, ours.difference_high] == pytest.approx(
            [interval.low, interval.high], rel=1e-9
        )


def linearised(values: Array, alpha: float) -> tuple[float, float, float, float, float]:
    """Compute p, the difference's and the lift's interval of a paired ratio from the units themselves."""
    (m_a, d_a, m_c, d_c), n = values.T, len(values)
    r_a, r_c = m_a.sum() / d_a.sum(), m_c.sum() / d_c.sum()
    own_a, own_c = (m_a - r_a * d_a) / d_a.mean(), (m_c - r_c * d_c) / d_c.mean()
    error = (own_a - own_c).std(ddof=1) / np.sqrt(n)
    log_error = (own_a / r_a - own_c / r_c).std(ddof=1) / np.sqrt(n)
    t = stats.t.ppf(1 - alpha / 2, n - 1)
    p = 2 * stats.t.sf(abs(r_a - r_c) / error, n - 1)
    ratio = r_a / r_c
    half = np.exp(t * log_error)
    return p, r_a - r_c - t * error, r_a - r_c + t * error, ratio / half - 1, ratio * half - 1


def test_paired_ratios_equal_a_direct_linearisation() -> None:
    for seed in range(240):
        rng = np.random.default_rng(seed)
        alpha = float(rng.uniform(0.001, 0.3))
        values = clicks(rng, int(rng.integers(20, 400)))
        ours = paired_ratios(Aggregates.of(RATIOS, values), ARM, CONTROL, Rules(alpha=alpha))
        assert (ours.status, ours.method) == ("ok", "paired_ratio")
        assert [
            *(ours.p_value, ours.difference_low, ours.difference_high, ours.lift_low, ours.lift_high)
        ] == pytest.approx(linearised(values, alpha), rel=1e-9)


def test_paired_lift_equals_the_ratio_with_denominators_of_one() -> None:
    rng = np.random.default_rng(3)
    for lift in ("log", "linear"):
        values = pairs(rng, 90)
        wide = np.column_stack([values[:, 0], np.ones(90), values[:, 1], np.ones(90)])
        rules = Rules(lift="log" if lift == "log" else "linear")
        ours = paired_means(Aggregates.of(MEANS, values), "a", "c", rules)
        theirs = paired_ratios(Aggregates.of(RATIOS, wide), ARM, CONTROL, rules)
        for name in ("difference_low", "lift_low", "lift_high", "lift_error", "p_value"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9)


def test_standard_errors_agree_with_a_bootstrap_over_units() -> None:
    rng = np.random.default_rng(4)
    values = clicks(rng, 300)
    effect = paired_ratios(Aggregates.of(RATIOS, values), ARM, CONTROL)
    weights = rng.multinomial(300, np.full(300, 1 / 300), 4000)
    m_a, d_a, m_c, d_c = (weights @ values).T
    assert effect.standard_error == pytest.approx(np.std(m_a / d_a - m_c / d_c), rel=0.08)
    assert effect.lift_error == pytest.approx(np.std(np.log(m_a / d_a / (m_c / d_c))), rel=0.08)


def test_pairing_narrows_what_units_share() -> None:
    values = pairs(np.random.default_rng(5), 300)
    both = Aggregates.of(MEANS, values)
    apart = welch(
        Aggregates.of(("y",), values[:, :1]), Aggregates.of(("y",), values[:, 1:]), "y"
    ).standard_error
    assert apart is not None
    together = paired_means(both, "a", "c").standard_error
    assert together is not None
    assert together < 0.75 * apart


@pytest.mark.parametrize(
    ("values", "status", "difference", "lift"),
    [
        (np.zeros((0, 2)), "no_data", None, None),
        (np.array([[2.0, 1.0]]), "too_few", None, None),
        (np.array([[2.0, 2.0], [5.0, 5.0], [7.0, 7.0]]), "zero_variance", 0.0, 0.0),
        (np.array([[2.0, 1.0], [5.0, 4.0], [3.0, 2.0]]), "zero_variance", 1.0, 3 / 7),
        (np.array([[2.0, 1.0], [8.0, 4.0], [4.0, 2.0]]), "zero_variance", 7 / 3, 1.0),
        (np.array([[2.0, 0.0], [5.0, 0.0]]), "zero_control", 3.5, None),
        (np.array([[0.0, 1.0], [0.0, 3.0]]), "not_estimable", -2.0, -1.0),
    ],
)
def test_degenerate_pairs(values: Array, status: str, difference: float | None, lift: float | None) -> None:
    effect = paired_means(Aggregates.of(MEANS, values), "a", "c")
    assert effect.status == status
    assert effect.difference == (None if difference is None else pytest.approx(difference, abs=1e-15))
    assert effect.lift == (None if lift is None else pytest.approx(lift, abs=1e-15))
    assert effect.lift_low is None


def test_a_constant_difference_at_a_high_mean_is_no_variance() -> None:
    base = np.random.default_rng(6).normal(1e6, 3.0, 1000)
    effect = paired_means(Aggregates.of(MEANS, np.column_stack([base + 0.1, base])), "a", "c")
    assert (effect.status, effect.p_value) == ("zero_variance", None)


def test_an_arm_without_impressions_has_no_data() -> None:
    values = clicks(np.random.default_rng(7), 30)
    values[:, :2] = 0.0
    effect = paired_ratios(Aggregates.of(RATIOS, values), ARM, CONTROL)
    assert (effect.status, effect.mean, effect.difference) == ("no_data", None, None)
    assert effect.control_mean == pytest.approx(values[:, 2].sum() / values[:, 3].sum())


def covers(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def test_coverage_is_nominal() -> None:
    sims = 2000
    rng = np.random.default_rng(13)
    hits = np.zeros(3)
    # The ratio of totals is rate * E[taste * shown] / E[shown], with E[taste] = 1 and var(taste) = 1/9.
    level = (6 * (1 + 1 / 9) + 2) / (6 + 2)
    for _ in range(sims):
        mean = paired_means(Aggregates.of(MEANS, pairs(rng, 300)), "a", "c")
        ratio = paired_ratios(Aggregates.of(RATIOS, clicks(rng, 400)), ARM, CONTROL)
        hits += [
            covers(mean.difference_low, mean.difference_high, 0.2),
            covers(ratio.difference_low, ratio.difference_high, 0.06 * level),
            covers(ratio.lift_low, ratio.lift_high, 0.2),
        ]
    assert np.all(np.abs(hits / sims - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sims))


def test_a_mix_of_ratios_equals_its_formula() -> None:
    rng = np.random.default_rng(8)
    units = 300
    mood = rng.uniform(0.5, 1.5, units)
    counts = rng.poisson(5, (units, 3)) + 1.0
    rewards = counts * (mood[:, None] * [0.3, 0.2, 0.1] + rng.normal(0, 0.02, (units, 3)))
    names = ("r0", "n0", "r1", "n1", "rc", "nc")
    values = np.stack(
        [rewards[:, 0], counts[:, 0], rewards[:, 1], counts[:, 1], rewards[:, 2], counts[:, 2]], 1
    )
    weights = (0.7, 0.3)
    mix = [(weights[0], "r0", "n0"), (weights[1], "r1", "n1")]
    found = paired_mix(Aggregates.of(names, values), mix, ("rc", "nc"))
    ratios = rewards.sum(axis=0) / counts.sum(axis=0)
    value = weights[0] * ratios[0] + weights[1] * ratios[1]
    left = (rewards - ratios * counts) / counts.sum(axis=0)
    log_left = (weights[0] * left[:, 0] + weights[1] * left[:, 1]) / value - left[:, 2] / ratios[2]
    error = np.sqrt((log_left**2).sum() * units / (units - 1))
    assert found.lift == pytest.approx(value / ratios[2] - 1)
    assert found.lift_error == pytest.approx(error)
    nothing = values.copy()
    nothing[:, 3] = 0.0
    assert paired_mix(Aggregates.of(names, nothing), mix, ("rc", "nc")).status == "no_data"
