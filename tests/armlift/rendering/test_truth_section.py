"""The section on the truth in the HTML report."""

from dataclasses import replace

from armlift.rendering.truth_section import truth_section
from armlift.report import Report
from armlift.truth import Truth


def test_without_a_truth_there_is_no_section(report: Report) -> None:
    assert truth_section(report) == ""


def test_each_true_lift_stands_beside_its_interval(report: Report) -> None:
    known = [one for one in report.comparisons if one.metric == "click_rate" and one.lift_low is not None]
    assert known
    truths = [
        Truth("click_rate", known[0].arm, 0.2, 0.1, known[0].lift, 0.0125, 1_234)._asdict(),
        Truth("click_rate", known[-1].arm, 0.2, 0.1, 9.0, 0.01, 1_234)._asdict(),
    ]
    run = report.run._replace(resolution={**report.run.resolution, "truth": truths})
    html = truth_section(replace(report, run=run))
    assert "± 1.25%" in html
    assert "1,234" in html
    assert "outside" in html
    assert ("inside" in html) or len(known) == 1
