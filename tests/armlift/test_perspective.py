"""Perspectives: what a snapshot keeps, looked at otherwise, gives what the units themselves give."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from armlift.answers import Answers
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.metric import METRICS
from armlift.perspective import Perspective, baselines_of, phases_of, see
from armlift.report import Report
from armlift.runs import LIVE, Run
from armlift.stats.aggregates import Aggregates
from armlift.verdict import Verdict

EXPERIMENT = {
    "name": "e",
    "arms": {"a": 1, "b": 1, "c": 1},
    "control": "a",
    "phases": [{"traffic": 0.5, "start": "2026-01-01"}, {"traffic": 1.0, "start": "2026-01-05"}],
    "metrics": {"primary": ["clicks"], "secondary": ["middle"]},
    "analysis": {"minimum_units": 2},
}
METRIC_DEFINITIONS = {
    "clicks": {"kind": "mean", "of": {"event": "click"}},
    "middle": {"kind": "quantile", "quantile": 0.5, "of": {"event": "click"}},
}
RNG = np.random.default_rng(7)
VALUES = {
    (arm, phase): RNG.exponential(4 + number + phase, 90 + 10 * phase)
    for number, arm in enumerate("abc")
    for phase in (0, 1)
}


def kept_of(values: dict[tuple[str, int], Any]) -> dict[str, Any]:
    """Give what a snapshot keeps of units' clicks."""
    strata = []
    for (arm, phase), one in values.items():
        found = Aggregates.of(("num",), one[:, None])
        strata.append(
            {"arm": arm, "generation": 0, "phase": phase, "names": ["num"], "n": found.n,
             "means": found.means.tolist(), "moments": found.moments.tolist()}
        )  # fmt: skip
    return {
        "counts": [[arm, 0, phase, len(one)] for (arm, phase), one in values.items()],
        "by_stratum/clicks": strata,
        "segments": [],
    }


def report_of(*, paired: bool = False) -> Report:
    run = Run("r", 1, "e", LIVE, paired, 10, 0, "running", False, {}, {}, {"kinds": ["click"]}, {}, {})
    experiment = Experiment.model_validate(EXPERIMENT)
    verdict = Verdict("keep_running", [], [], [], None, [])
    return Report(
        run=run, experiment=experiment, metrics=METRICS.validate_python(METRIC_DEFINITIONS),
        as_of="2026-01-09T00:00:00+00:00", resolution={}, verdict=verdict, sentence="Keep running.",
        comparisons=[], checks=[], dropped={}, sql="", answers=kept_of(VALUES),
    )  # fmt: skip


def test_nothing_asked_gives_the_report_itself() -> None:
    report = report_of()
    assert see(report, Perspective()) == (report, [])
    assert see(report, Perspective("a", 0.05)) == (report, [])


def test_a_phase_is_that_of_its_units_alone() -> None:
    seen = see(report_of(), Perspective(phase=1))
    assert seen.left_out == ["middle"]
    for one in seen.report.comparisons:
        arm, control = VALUES[one.arm, 1], VALUES["a", 1]
        assert (one.units, one.control_units) == (100, 100)
        assert one.lift == pytest.approx(arm.mean() / control.mean() - 1, abs=1e-12)
        assert one.p_value == pytest.approx(ttest_ind(arm, control, equal_var=False).pvalue, abs=1e-9)
        assert one.numerator == pytest.approx(arm.sum())
        assert one.denominator == 100
    assert [one.arm for one in seen.report.comparisons] == ["b", "c"]


def test_another_baseline_turns_lifts_round() -> None:
    report = report_of()
    plain = see(report, Perspective(alpha=0.1)).report.comparisons
    turned = {one.arm: one for one in see(report, Perspective("b", 0.1)).report.comparisons}
    (forth,) = (one for one in plain if one.arm == "b")
    back = turned["a"]
    assert set(turned) == {"a", "c"}
    assert forth.difference is not None
    assert back.difference == pytest.approx(-forth.difference)
    assert back.p_value == pytest.approx(forth.p_value)
    assert (back.mean, back.control_mean) == (forth.control_mean, forth.mean)


def test_more_confidence_makes_wider_intervals_and_the_same_p_values() -> None:
    report = report_of()
    narrow, wide = (see(report, Perspective(alpha=alpha)).report for alpha in (0.2, 0.01))
    for one, other in zip(narrow.comparisons, wide.comparisons, strict=True):
        assert one.lift_low is not None
        assert one.lift_high is not None
        assert other.lift_low is not None
        assert other.lift_high is not None
        assert other.lift_low < one.lift_low < one.lift_high < other.lift_high
        assert one.p_value == other.p_value
    assert narrow.experiment.analysis.alpha == 0.2


def test_the_verdict_stays_that_of_the_plan() -> None:
    report = report_of()
    seen = see(report, Perspective("c", 0.01, 0)).report
    assert (seen.verdict, seen.sentence, seen.checks) == (report.verdict, report.sentence, report.checks)


@pytest.mark.parametrize(
    ("perspective", "says"),
    [
        (Perspective(control="z"), "baseline 'z' must be one of a, b, c"),
        (Perspective(phase=7), "phase 7 must be one of 0, 1"),
        (Perspective(alpha=1.2), "confidence -0.2: must be above 0 and below 1"),
    ],
)
def test_what_a_report_does_not_have_is_refused(perspective: Perspective, says: str) -> None:
    with pytest.raises(InputError) as caught:
        see(report_of(), perspective)
    assert str(caught.value) == says


def test_pairs_are_kept_against_the_control_alone() -> None:
    report = report_of(paired=True)
    assert baselines_of(report) == ["a"]
    assert phases_of(report) == []
    assert phases_of(report_of()) == [0, 1]


def test_answers_of_a_phase_leave_what_is_not_by_stratum() -> None:
    answers = Answers({**kept_of(VALUES), "carriers/clicks": {"a": 5}}).in_phase(0)
    assert {stratum.phase for stratum in answers.counts()} == {0}
    assert answers.carriers("clicks") == {"a": 5}
