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
    return EVALUATION | {"compared": {"rerank_NDCG@10": found}}


def test_a_good_model_passes() -> None:
    rulings = judge(GOOD, SETTINGS)
    assert refusals(rulings) == []
    assert {one.rule for one in rulings if one.passes is None} == {"recall", "not_worse"}


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
         "rerank_NDCG@10 against the promoted version: -12.5% [-20.0%, -5.0%]: it is worse, the interval "
         "must reach 0"),
        (GOOD._replace(evaluation=lift(-0.15, 0.3)),
         "rerank_NDCG@10 against the promoted version: +7.5% [-15.0%, +30.0%]: a larger loss than 5% is "
         "not ruled out, it must be"),
        (GOOD._replace(evaluation=lift(-0.02, -0.001)),
         "rerank_NDCG@10 against the promoted version: -1.1% [-2.0%, -0.1%]: it is worse, the interval "
         "must reach 0"),
        (GOOD._replace(evaluation=seen("zero_variance", -0.2)),
         "rerank_NDCG@10 against the promoted version: -20.0% [-20.0%, -20.0%]: it is worse, the interval "
         "must reach 0"),
        (GOOD._replace(evaluation=EVALUATION | {"promoted_until": 101}),
         "the promoted version has learned from what both are asked for: it is of a later night"),
        (GOOD._replace(evaluation=seen("too_few", None)),
         "rerank_NDCG@10 against the promoted version cannot be estimated (too_few)"),
    ],
)  # fmt: skip
def test_each_rule_refuses_in_one_sentence(candidate: Candidate, reason: str) -> None:
    assert refusals(judge(candidate, SETTINGS)) == [reason]


@pytest.mark.parametrize(
    "evaluation",
    [
        lift(-0.04, 0.05),
        lift(0.1, 0.2),
        seen("zero_variance", 0.0),
        seen("zero_control", None),
    ],
)
def test_a_model_that_is_not_worse_passes(evaluation: dict[str, Any]) -> None:
    assert refusals(judge(GOOD._replace(evaluation=evaluation), SETTINGS)) == []


def refused(loss: float, trials: int, units: int, seed: int) -> float:
    """Give how often a model that loses a share of NDCG is refused; both rank the same units' targets."""
    random = np.random.default_rng(seed)
    count = 0
    for _ in range(trials):
        # Units differ in how well their order is told, and the two models agree on most of them.
        ability = random.beta(2.4, 1.6, units)
        shared = random.random(units) < 0.6
        draws = [np.clip(ability + random.normal(0, 0.15, units), 0, 1) for _ in range(2)]
        mine = np.where(shared, draws[1], draws[0]) * (1.0 - loss)
        candidate, promoted = (Outcome({"rerank_NDCG@10": values}, {}) for values in (mine, draws[1]))
        effect = compared(candidate, promoted, SETTINGS.alpha)["rerank_NDCG@10"]
        found = seen(effect.status, effect.lift, effect.lift_low, effect.lift_high)
        count += bool(refusals(judge(GOOD._replace(evaluation=found), SETTINGS)))
    return count / trials


def test_without_impressions_the_whole_catalogue_decides_and_a_breakdown_of_it_is_refused() -> None:
    whole = {"status": "ok", "lift": -0.1, "low": -0.2, "high": 0.01, "difference": -0.1}
    (reason,) = refusals(
        judge(GOOD._replace(evaluation=EVALUATION | {"compared": {"NDCG@10": whole}}), SETTINGS)
    )
    assert reason.startswith("NDCG@10 against the promoted version: -10.0% [-20.0%, +1.0%]: a larger loss")
    order = lift(-0.04, 0.05)["compared"]
    broken = {"NDCG@10": whole | {"lift": -0.8, "low": -0.9, "high": -0.7}} | order
    (reason,) = refusals(judge(GOOD._replace(evaluation=EVALUATION | {"compared": broken}), SETTINGS))
    assert reason == "NDCG@10 against the promoted version: at best -70.0%, must be above -60%"
    served = lift(-0.2, -0.05) | {"neutral": False}
    (reason,) = refusals(judge(GOOD._replace(evaluation=served), SETTINGS))
    assert reason.startswith("rerank_NDCG@10 against the promoted version (of units that it served): ")


def test_a_model_10_percent_worse_is_refused_and_an_equal_one_seldom() -> None:
    assert refused(0.10, 400, units=1000, seed=1) >= 0.95
    assert refused(0.10, 400, units=100, seed=2) >= 0.95  # however few units there are
    assert refused(0.0, 400, units=1000, seed=3) <= 0.05
    assert refused(-0.05, 200, units=300, seed=4) <= 0.01
