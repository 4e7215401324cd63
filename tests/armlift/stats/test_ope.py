"""Off-policy evaluation: against formulas written out, real logs of two policies, and known values."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, merge
from armlift.stats.ope import COLUMNS, PolicyMethod, Rows, policy_value, totals_of

METHODS: tuple[PolicyMethod, ...] = ("replay", "ips", "snips", "doubly_robust")
ITEMS = 6
Rng = np.random.Generator


def softmax(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def draw(rng: Rng, units: int, *, sharp: float = 1.0, model_error: float = 0.05) -> tuple[Rows, float]:
    """Draw a log of contexts that a softmax policy answered, and the true value of another policy on them.

    A unit has one to five rows, and a taste of its own that all of them share.
    """
    sizes = rng.integers(1, 6, units)
    whose = np.repeat(np.arange(units), sizes)
    context = rng.normal(size=(len(whose), ITEMS))
    logged, target = softmax(0.5 * rng.normal(size=context.shape)), softmax(sharp * context)
    chances = 0.1 + 0.3 * softmax(context) + rng.uniform(-0.05, 0.05, units)[whose][:, None]
    item = (logged.cumsum(axis=1) > rng.random(len(whose))[:, None]).argmax(axis=1)
    at = (np.arange(len(whose)), item)
    reward = chances[at] + rng.normal(0, 0.05, len(whose))
    guess = chances + rng.normal(0, model_error, chances.shape)
    rows = Rows(whose, reward, logged[at], target[at], guess[at], (target * guess).sum(axis=1))
    return rows, float((target * chances).sum(axis=1).mean())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60))
def test_estimators_and_their_errors_equal_the_formulas(seed: int, units: int) -> None:
    rng = np.random.default_rng(seed)
    rows, _ = draw(rng, units)
    sure = rng.random(len(rows.units)) < 0.5
    sure[0] = True
    rows = rows._replace(target=np.where(sure, 1.0, rows.target * 0.9))
    assert rows.predicted is not None
    assert rows.expected is not None
    w, r, ones = rows.target / rows.logged, rows.rewards, np.ones(len(rows.units))
    parts = {
        "replay": (sure * r, sure * ones),
        "ips": (w * r, ones),
        "snips": (w * r, w),
        "doubly_robust": (rows.expected + w * (r - rows.predicted), ones),
    }
    totals = totals_of(rows)
    for method in METHODS:
        top, bottom = parts[method]
        value = top.sum() / bottom.sum()
        left = np.bincount(rows.units, top - value * bottom)
        error = np.sqrt((left**2).sum() * units / (units - 1)) / bottom.sum()
        found = policy_value(totals, method, alpha=0.1)
        assert found.value == pytest.approx(value, rel=1e-9)
        if found.status == "ok":
            assert found.standard_error == pytest.approx(error, rel=1e-9)
            half = stats.t.ppf(0.95, units - 1) * error
            assert [found.low, found.high] == pytest.approx([value - half, value + half], rel=1e-9, abs=1e-12)
        assert found.effective_rows == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
        assert found.mean_weight == pytest.approx(w.mean(), rel=1e-9)
        assert (found.n, found.rows) == (units, len(rows.units))


def test_units_that_are_known_apart_merge() -> None:
    rows, _ = draw(np.random.default_rng(3), 40)
    left = np.asarray(rows.units, dtype=np.int64) < 20
    parts = [
        totals_of(rows._replace(**{name: column[side] for name, column in rows._asdict().items()}))
        for side in (left, ~left)
    ]
    whole, merged = totals_of(rows), merge(*parts)
    for method in METHODS[1:]:
        one, other = policy_value(whole, method), policy_value(merged, method)
        assert (one.value, one.standard_error) == pytest.approx((other.value, other.standard_error), rel=1e-9)


def test_the_log_itself_is_worth_all_its_rows() -> None:
    rows, _ = draw(np.random.default_rng(4), 100)
    rows = rows._replace(target=rows.logged)
    for method in ("ips", "snips"):
        found = policy_value(totals_of(rows), method)
        assert found.value == pytest.approx(rows.rewards.mean(), rel=1e-12)
        assert found.effective_rows == pytest.approx(len(rows.units))
        assert found.mean_weight == 1.0


def test_a_known_value_is_covered_and_the_better_estimators_are_narrower() -> None:
    draws = 400
    covered = dict.fromkeys(METHODS[1:], 0)
    widths: dict[PolicyMethod, list[float]] = {method: [] for method in METHODS[1:]}
    for seed in range(draws):
        rows, truth = draw(np.random.default_rng(seed), 300)
        totals = totals_of(rows)
        for method in METHODS[1:]:
            found = policy_value(totals, method)
            assert found.low is not None
            assert found.high is not None
            covered[method] += found.low <= truth <= found.high
            widths[method].append(found.high - found.low)
    # The truth is of these very contexts, so that the interval of a larger population holds it more often.
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)
    assert all(count / draws >= least for count in covered.values()), covered
    medians = {method: np.median(some) for method, some in widths.items()}
    assert medians["doubly_robust"] < medians["snips"] < medians["ips"]


def test_thompson_sampling_from_the_random_log_of_a_shop(shared_data: Path) -> None:
    """The estimate from uniformly random rows agrees with what the policy itself earned in the same shop."""
    folder = shared_data / "obd"
    own, random = (pl.read_csv(folder / f"{name}_men.csv") for name in ("bts", "random"))
    shares = own.group_by("item_id", "position").agg(
        target=pl.len() / pl.lit(1.0), shown=pl.col("propensity_score").mean()
    )
    shares = shares.with_columns(target=pl.col("target") / pl.col("target").sum().over("position"))
    joined = random.with_row_index("row").join(shares, on=["item_id", "position"], how="left")
    target = joined.sort("row")["target"].fill_null(0.0).to_numpy()
    rows = Rows(
        np.arange(len(random)),
        random["click"].to_numpy().astype(np.float64),
        random["propensity_score"].to_numpy(),
        target,
    )
    on_policy = float(own["click"].to_numpy().mean())
    assert on_policy == pytest.approx(0.0069)
    totals = totals_of(rows)
    for method in ("ips", "snips"):
        found = policy_value(totals, method)
        assert found.low is not None
        assert found.high is not None
        assert found.low < on_policy < found.high
        assert found.mean_weight == pytest.approx(1.0, abs=0.05)
        assert found.effective_rows is not None
        assert 1_000 < found.effective_rows < 10_000


def test_what_cannot_be_told_has_a_status() -> None:
    rows = Rows(np.array([1, 2]), np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.5, 0.2]))
    assert policy_value(totals_of(rows), "replay").status == "no_data"
    assert policy_value(Aggregates.empty(COLUMNS), "ips").status == "no_data"
    one = policy_value(totals_of(rows._replace(units=np.array([1, 1]))), "ips")
    assert (one.status, one.value, one.low) == ("too_few", 0.5, None)
    same = policy_value(totals_of(rows._replace(rewards=np.ones(2))), "snips")
    assert (same.status, same.value) == ("zero_variance", 1.0)
    nothing = policy_value(totals_of(rows._replace(target=np.zeros(2))), "snips")
    assert (nothing.status, nothing.effective_rows) == ("no_data", None)
    assert "above 0" in policy_value(totals_of(rows), "ips").assumption


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"rewards": np.ones(3)}, r"rows: rewards has shape \(3,\), must be \(2,\)"),
        ({"logged": np.array([0.5, 0.0])}, r"rows: logged\[1\] is 0, must be above 0 and at most 1"),
        ({"target": np.array([-0.1, 0.0])}, r"rows: target\[0\] is -0.1, must be 0 or more and at most 1"),
        ({"target": np.array([0.1, np.nan])}, r"rows: target\[1\] is nan, must be 0 or more and at most 1"),
        ({"predicted": np.zeros(2)}, "predicted and expected rewards must be given together"),
    ],
)
def test_bad_rows_are_refused(changed: dict[str, Any], complaint: str) -> None:
    rows = Rows(np.array([1, 2]), np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.5, 0.2]))
    with pytest.raises(InputError, match=complaint):
        totals_of(rows._replace(**changed))


def test_clipping_lowers_ips_and_its_variance() -> None:
    rows, _ = draw(np.random.default_rng(9), 200, sharp=2.0)
    rewards = np.abs(rows.rewards)
    plain, clipped = (
        policy_value(totals_of(rows._replace(rewards=rewards), clip=clip), "ips") for clip in (None, 3.0)
    )
    weights = np.minimum(rows.target / rows.logged, 3.0)
    assert clipped.value == pytest.approx((weights * rewards).mean(), rel=1e-9)
    assert plain.value is not None
    assert clipped.value is not None
    assert plain.standard_error is not None
    assert clipped.standard_error is not None
    assert clipped.value < plain.value
    assert clipped.standard_error < plain.standard_error
    with pytest.raises(InputError, match="clip is 0, must be above 0"):
        totals_of(rows, clip=0.0)
