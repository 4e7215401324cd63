"""Replays predict the lift they go on to observe: the short form of `replay_coverage.predicted`."""

from pathlib import Path

import numpy as np
from replay_coverage import predicted

LOGS = 14


def test_predicted_and_observed_lifts_agree(tmp_path: Path) -> None:
    found = predicted(tmp_path, LOGS, ["rerank"])["rerank"]
    assert [one.status for one in found] == ["ok"] * LOGS
    z = np.array([one.z for one in found], dtype=np.float64)
    assert sum(bool(one.agrees) for one in found) >= LOGS - 3  # 95 % less three Monte-Carlo errors
    assert abs(z.mean()) < 3 / np.sqrt(LOGS)
    # Both see the plant, and not merely by being wide.
    assert np.mean([one.lift or 0.0 for one in found]) > 0.2
    assert np.mean([one.observed_lift or 0.0 for one in found]) > 0.2
    assert all(one.effective_rows > 100 for one in found)
