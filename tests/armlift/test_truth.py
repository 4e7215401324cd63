"""The truth beside what a run estimates."""

from dataclasses import replace

import pytest

from armlift.comparisons import Comparison
from armlift.truth import Truth, beside, truths_of

ONE = Comparison(
    metric="click_rate", role="primary", arm="new", control="old", segment=None, method="ratio",
    adjusted="holm",
    units=100, control_units=100, mean=0.11, control_mean=0.1, lift=0.1, lift_low=0.05, lift_high=0.15,
    always_low=None, always_high=None, p_value=0.001, p_adjusted=0.001, status="ok",
)  # fmt: skip
TRUE = Truth("click_rate", "new", 0.108, 0.1, 0.08, 0.01, 1_000)


def test_it_is_read_back_as_it_was_stored() -> None:
    assert truths_of({"compared": 0, "truth": [TRUE._asdict()]}) == [TRUE]
    assert truths_of({"compared": 0}) == []


@pytest.mark.parametrize(
    ("lift", "inside"),
    [(0.08, True), (0.05, True), (0.15, True), (0.151, False), (-0.1, False), (None, None)],
)
def test_inside_is_between_the_ends(lift: float | None, inside: bool | None) -> None:
    ((truth, one, found),) = beside([TRUE._replace(lift=lift)], [ONE])
    assert (truth.lift, one, found) == (lift, ONE, inside)


def test_only_the_same_metric_and_arm_of_all_units_stand_beside() -> None:
    others = [replace(ONE, segment="a=b"), replace(ONE, arm="other"), replace(ONE, metric="clicks")]
    assert beside([TRUE], others) == []
    ((_, one, inside),) = beside([TRUE], [*others, replace(ONE, lift_low=None)])
    assert (one.lift_low, inside) == (None, None)
