"""A report built by hand, for tests of what shows reports."""

import pytest

from armlift.check import Check
from armlift.comparisons import Comparison
from armlift.experiment import Experiment
from armlift.metric import METRICS
from armlift.report import Report
from armlift.runs import Run
from armlift.verdict import Ruling, Verdict

RATIO = {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}}
EXPERIMENT = {
    "name": "baselines",
    "description": "Does it lift clicks?",
    "arms": {"popularity": 1, "covisitation": 1, "random": 0.5},
    "control": "popularity",
    "metrics": {
        "primary": ["click_rate"],
        "secondary": ["watch_time", "likers"],
        "guardrails": ["hate_rate"],
    },
}
METRIC_DEFINITIONS = {
    "click_rate": {**RATIO, "description": "Clicks per item shown."},
    "watch_time": {**RATIO, "unit": "seconds"},
    "likers": {"kind": "proportion", "of": {"event": "like"}},
    "hate_rate": {**RATIO, "direction": "decrease", "margin": 0.05},
}
LOG = {
    "files": ["logs/first.csv", "logs/second.csv"],
    "format": "KuaiRand",
    "sha256": "5e" * 32,
    "rows": 41_704,
    "first_ts": 1_649_346_288_441,
    "last_ts": 1_650_556_315_790,
    "kinds": ["click", "hate", "like"],
    "random_rows": None,
    "cut": 1_649_865_600_000,
}


def _comparison(
    metric: str,
    role: str,
    arm: str,
    *lift: float | None,
    p: float | None = None,
    adjusted: float | None = None,
    status: str = "ok",
) -> Comparison:
    middle, low, high = lift or (None, None, None)
    return Comparison(
        metric=metric,
        role=role,
        arm=arm,
        control="popularity",
        segment=None,
        method="proportion" if metric == "likers" else "ratio",
        adjusted={"primary": "holm", "secondary": "benjamini_hochberg"}.get(role),
        units=1_215,
        control_units=1_226,
        mean=0.40512,
        control_mean=0.39871,
        lift=middle,
        lift_low=low,
        lift_high=high,
        always_low=None,
        always_high=None,
        p_value=p,
        p_adjusted=adjusted,
        status=status,
    )


@pytest.fixture
def report() -> Report:
    """Give a report of three arms with every kind of comparison: better, worse, open, clipped, unknown."""
    run = Run(
        run="86346f41d52f424c",
        number=1,
        experiment="baselines",
        mode="rerank",
        paired=False,
        k=3,
        seed=7,
        state="finished",
        synthetic=False,
        definition={"experiment": EXPERIMENT, "metrics": METRIC_DEFINITIONS},
        arms={"popularity": "61cf0ffd8e0c", "covisitation": "e83b66d1e923", "random": "db219885b065"},
        log=LOG,
        resolution={},
        dropped={},
    )
    experiment, metrics = Experiment.model_validate(EXPERIMENT), METRICS.validate_python(METRIC_DEFINITIONS)
    return Report(
        run=run,
        experiment=experiment,
        metrics=metrics,
        as_of="2022-04-21T23:51:55+08:00",
        resolution={
            "differing_requests": 0.1052,
            "matched": 5_631,
            "mde": 0.107,
            "compared_requests": 2_621,
            "by_arm": {
                "popularity": {"differing_requests": None, "matched": 5_943, "mde": None},
                "covisitation": {"differing_requests": 0.0301, "matched": 6_018, "mde": 0.107},
                "random": {"differing_requests": 0.103, "matched": 5_631, "mde": None},
            },
        },
        verdict=Verdict(
            status="cannot_tell",
            reasons=["the log's exposure is not random", "random: the lift of click_rate may be 0"],
            trace=[
                Ruling("trust_checks", "passed", "none of 3 checks failed"),
                Ruling("random_exposure", "decided", "the log's exposure is not random"),
                Ruling("better", "not_asked", "random_exposure decided before"),
            ],
            why_not_ship=["random: the lift of click_rate may be 0", "guardrail hate_rate is in doubt"],
            days_left=None,
        ),
        sentence="Nothing can be told: users met what the log's own policy chose for them, to the very end.",
        comparisons=[
            _comparison("click_rate", "primary", "covisitation", 0.031, 0.012, 0.05, p=0.001, adjusted=0.002),
            _comparison("click_rate", "primary", "random", -0.02, -0.05, 0.011, p=0.21, adjusted=0.215),
            _comparison("watch_time", "secondary", "covisitation", 0.08, -0.4, 0.9, p=0.7, adjusted=0.71),
            _comparison("watch_time", "secondary", "random", status="too_few"),
            _comparison("likers", "secondary", "covisitation", 0.0, None, None, status="zero_variance"),
            _comparison("likers", "secondary", "random", status="not_estimable"),
            _comparison("hate_rate", "guardrail", "covisitation", 0.01, -0.01, 0.03, p=0.33),
            _comparison("hate_rate", "guardrail", "random", 0.09, 0.06, 0.12, p=2.5e-7),
        ],
        checks=[
            Check("random_exposure", "warn", 0.25, "25.0% of the log's exposures were random"),
            Check("srm", "ok", 0.86914, "the arms hold 226 : 215 : 222 units"),
            Check("event_loss", "not_applicable", None, "not every request has an impression that counts"),
        ],
        dropped={"duplicate": 12, "blank_user": 0, "request_outside": 3_456},
        sql="SELECT unit_id FROM exposures WHERE ts <= 1650556315790 AND arm <> ''",
    )
