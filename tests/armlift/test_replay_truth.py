"""A replay's intervals hold the planted truth, and do not where exposure is biased: the short form.

The long form, 200 logs, is `make bench ONLY=validity`; docs/results.md keeps its figures.
"""

from pathlib import Path

from replay_coverage import measure

LOGS = 16


def test_intervals_hold_the_truth_under_random_exposure_only(tmp_path: Path) -> None:
    found = measure(tmp_path, LOGS)
    fair = [one for one in found if one.name.endswith("random exposure")]
    unfair = [one for one in found if one not in fair]
    assert len(fair) == 4
    assert len(unfair) == 2
    for one in fair:
        assert one.truth > 0.2, "the plant must show"
        assert one.covered >= 0.75, one  # 13 of 16 or more: 95 % less three Monte-Carlo errors would be 12.6
    for one in unfair:
        assert one.covered <= 0.25, one
        assert one.mean_lift < one.truth / 2
