"""The gate: each rule by itself, and how often worse, equal and better models pass."""

from typing import Any

import numpy as np
import pytest

from armlift.nightly import GateSettings
from armlift_pipelines.gate import Candidate, judge, refusals
from armlift_pipelines.next_day import Outcome, compared

SETTINGS = GateSettings()
EVALUATION: dict[str, Any] = {
    "units": 500,
    "neutral": True,
    "short_histories": 0.1,
    "metrics": {"milliseconds": 5.0, "prompt_gap": 0.05},
    "compared": {},
}
GOOD = Candidate({"forgetting": 0.1}, EVALUATION, 10.0, True, 5000, 100)


def lift(low: float | None, high: float | None) -> dict[str, Any]:
    value = None if low is None or high is None else (low + high) / 2
    return seen("ok", value, low, high)


def seen(
    status: str, value: float | None, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    found = {"status": status, "lift": value, "low": low, "high": high, "difference": 0.2}
    return EVALUATION | {"compared": {"NDCG@10": found}}


def test_a_good_model_passes() -> None:
    rulings = judge(GOOD, SETTINGS)
    assert refusals(rulings) == []
    assert {one.rule for one in rulings if one.passes is None} == {"not_worse"}


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (GOOD._replace(finite=False), "some weights are no numbers (NaN or infinite)"),
        (GOOD._replace(megabytes=2000.5), "the model file has 2,000.5 MB, must be at most 2000"),
        (GOOD._replace(figures={"forgetting": 0.51}),
         "fine-tuning added 0.51 nats to the loss that pre-training brought down, must be at most 0.5"),
        (GOOD._replace(behaviours=999), "999 behaviours were learned from, must be at least 1000"),
        (GOOD._replace(evaluation=EVALUATION | {"units": 99}), "99 units can be asked, must be at least 100"),
        (GOOD._replace(evaluation=EVALUATION | {"short_histories": 0.95}),
         "0.95 of the units have under 3 behaviours, must be at most 0.9"),
        (GOOD._replace(evaluation=EVALUATION | {"metrics": {"milliseconds": 101.0}}),
         "a request takes 101 ms (95th percentile), must be at most 100"),
        (GOOD._replace(evaluation=EVALUATION | {"metrics": {"milliseconds": 1.0, "prompt_gap": 0.3}}),
         "prompts are right more often on what was learned from than on new behaviours, by 0.3 of them, "
         "must be at most 0.2"),
        (GOOD._replace(evaluation=lift(-0.2, -0.05)),
         "NDCG@10 against the promoted version: -12.5% [-20.0%, -5.0%]: it is worse, the interval must "
         "reach 0"),
        (GOOD._replace(evaluation=lift(-0.15, 0.3)),
         "NDCG@10 against the promoted version: +7.5% [-15.0%, +30.0%]: a larger loss than 10% is "
         "not ruled out, it must be"),
        (GOOD._replace(evaluation=lift(-0.02, -0.001)),
         "NDCG@10 against the promoted version: -1.1% [-2.0%, -0.1%]: it is worse, the interval must "
         "reach 0"),
        (GOOD._replace(evaluation=seen("zero_variance", -0.2)),
         "NDCG@10 against the promoted version: -20.0% [-20.0%, -20.0%]: it is worse, the interval must "
         "reach 0"),
        (GOOD._replace(evaluation=EVALUATION | {"promoted_until": 101}),
         "the promoted version has learned from what both are asked for: it is of a later night"),
        (GOOD._replace(evaluation=seen("too_few", None)),
         "NDCG@10 against the promoted version cannot be estimated (too_few)"),
    ],
)  # fmt: skip
def test_each_rule_refuses_in_one_sentence(candidate: Candidate, reason: str) -> None:
    assert refusals(judge(candidate, SETTINGS)) == [reason]


@pytest.mark.parametrize(
    "evaluation",
    [
        lift(-0.09, 0.05),
        lift(0.1, 0.2),
        seen("zero_variance", 0.0),
        seen("zero_control", None),
    ],
)
def test_a_model_that_is_not_worse_passes(evaluation: dict[str, Any]) -> None:
    assert refusals(judge(GOOD._replace(evaluation=evaluation), SETTINGS)) == []


def refused(loss: float, trials: int, units: int, correlation: float, seed: int) -> float:
    """Give how often a model that loses a share of NDCG is refused; both rank the same units' targets."""
    random = np.random.default_rng(seed)
    count = 0
    for _ in range(trials):
        # A unit's NDCG is skewed, much of it 0, and the two models agree on most units.
        ability = random.gamma(0.5, 0.2, units)
        shared = random.random(units) < correlation
        draws = [np.minimum(1.0, ability * random.exponential(1.0, units)) for _ in range(2)]
        mine = np.where(shared, draws[1], draws[0]) * (1.0 - loss)
        candidate, promoted = (Outcome({"NDCG@10": values}, {}) for values in (mine, draws[1]))
        effect = compared(candidate, promoted, SETTINGS.alpha)["NDCG@10"]
        found = seen(effect.status, effect.lift, effect.lift_low, effect.lift_high)
        count += bool(refusals(judge(GOOD._replace(evaluation=found), SETTINGS)))
    return count / trials


def test_a_model_10_percent_worse_is_refused_and_an_equal_one_seldom() -> None:
    assert refused(0.10, 400, units=2000, correlation=0.6, seed=1) >= 0.95
    assert refused(0.10, 400, units=300, correlation=0.6, seed=2) >= 0.95  # however few units there are
    assert refused(0.0, 400, units=4000, correlation=0.6, seed=3) <= 0.05
    assert refused(-0.05, 200, units=2000, correlation=0.6, seed=4) <= 0.05
