"""What keeps a metric from being read off a run, by its mode."""

import pytest

from armlift.comparisons import obstacle_of
from armlift.metric import METRICS
from armlift.runs import Run

RUN = Run("r", 1, "e", "rerank", False, 1, 0, "finished", False, {}, {"a": "1", "b": "2"}, {}, {}, {})


@pytest.mark.parametrize(
    ("mode", "days", "total", "rate"),
    [
        ("rerank", "not_estimable", None, None),
        ("match", "not_estimable", "not_estimable", None),
        ("dense", "not_estimable", None, None),
        ("simulate", "not_estimable", None, None),
        ("live", None, None, None),
        ("imported", None, None, None),
    ],
)
def test_which_metrics_a_mode_can_tell(
    mode: str, days: str | None, total: str | None, rate: str | None
) -> None:
    """In a replay units come when the log says; where only matches count, sums reward likeness to the log."""
    metrics = METRICS.validate_python(
        {
            "days": {"kind": "mean", "of": {"event": "click", "aggregate": "days"}},
            "back": {"kind": "retention", "day": 1, "of": {"event": "click", "aggregate": "days"}},
            "total": {"kind": "mean", "of": {"event": "click"}},
            "rate": {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "click"}},
            "like": {"kind": "mean", "of": {"event": "like"}},
        }
    )
    run = RUN._replace(mode=mode, log={"kinds": ["click"]})
    found = {name: obstacle_of(run, metric) for name, metric in metrics.items()}
    assert found == {"days": days, "back": days, "total": total, "rate": rate, "like": "no_data"}
