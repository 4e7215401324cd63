"""The verdict's rules, case by case."""

import pytest

from armlift.verdict import Evidence, Trust, judge

FINE = {"random_exposure": "ok", "srm": "ok", "several_exposures": "ok"}


def primary(lift: float, low: float, high: float, p: float, arm: str = "new", good: int = 1) -> Evidence:
    return Evidence("clicks", "primary", arm, "ok", lift, low, high, p, good, 0.0)


def guardrail(low: float, high: float, margin: float = 0.05, arm: str = "new") -> Evidence:
    return Evidence("hates", "guardrail", arm, "ok", (low + high) / 2, low, high, 0.5, -1, margin)


def trust(
    checks: dict[str, str] | None = None,
    *,
    replay: bool = True,
    differing: float | None = 0.4,
    matched: int = 5000,
) -> Trust:
    return Trust(FINE | (checks or {}), replay, differing, {"old": 5000, "new": matched}, 0.05)


BETTER = primary(0.05, 0.02, 0.08, 0.001)
WORSE = primary(-0.05, -0.08, -0.02, 0.001)
OPEN = primary(0.01, -0.02, 0.04, 0.5)
SAFE, BREACHED, UNPROVEN = guardrail(-0.02, 0.02), guardrail(0.06, 0.20), guardrail(-0.05, 0.20)


@pytest.mark.parametrize(
    ("evidence", "given", "status", "word"),
    [
        ([BETTER], trust(), "ship", "new: clicks is better: +5.0%"),
        ([BETTER, SAFE], trust(), "ship", "better"),
        ([BETTER, BREACHED], trust(), "do_not_ship", "past its margin of 5.0%"),
        ([BETTER, UNPROVEN], trust(), "cannot_tell", "not proven to stay within 5.0%"),
        ([BETTER, UNPROVEN], trust(replay=False), "keep_running", "not proven"),
        ([WORSE, SAFE], trust(), "do_not_ship", "clicks is worse"),
        ([OPEN, SAFE], trust(), "cannot_tell", "may be 0"),
        ([OPEN, SAFE], trust(replay=False), "keep_running", "may be 0"),
        ([BETTER], trust({"srm": "fail"}), "broken", "check srm failed"),
        ([WORSE], trust({"several_exposures": "fail"}), "broken", "several_exposures"),
        ([BETTER], trust({"srm": "warn"}), "ship", "better"),
        ([BETTER], trust({"random_exposure": "warn"}), "cannot_tell", "not random"),
        ([WORSE], trust({"random_exposure": "warn"}), "cannot_tell", "not random"),
        ([BETTER], trust(differing=0.009), "cannot_tell", "0.90% of the requests"),
        ([BETTER], trust(differing=0.01), "ship", "better"),
        ([BETTER], trust(matched=99), "cannot_tell", "new has 99 matched impressions"),
        ([BETTER], trust(matched=100), "ship", "better"),
        ([BETTER], trust(differing=None), "ship", "better"),
        ([primary(-0.05, -0.08, -0.02, 0.001, good=-1)], trust(), "ship", "better"),
        ([primary(0.05, 0.02, 0.08, 0.001, good=-1)], trust(), "do_not_ship", "worse"),
        ([BETTER, primary(-0.05, -0.08, -0.02, 0.001, "bad")], trust(), "ship", "new: clicks is better"),
        ([WORSE, primary(0.01, -0.02, 0.04, 0.5, "other")], trust(), "cannot_tell", "clicks is worse"),
    ],
)
def test_rules(evidence: list[Evidence], given: Trust, status: str, word: str) -> None:
    verdict = judge(evidence, given)
    assert verdict.status == status
    assert word in verdict.reasons[0]


@pytest.mark.parametrize("status", ["no_data", "too_few", "zero_variance", "not_estimable"])
def test_a_primary_metric_without_numbers_cannot_be_told(status: str) -> None:
    unknown = Evidence("clicks", "primary", "new", status, None, None, None, None, 1, 0.0)
    verdict = judge([unknown, SAFE], trust())
    assert verdict.status == "cannot_tell"
    assert verdict.reasons == [f"no primary metric can be compared (clicks: {status})"]


def test_a_guardrail_without_numbers_keeps_from_shipping() -> None:
    unknown = Evidence("hates", "guardrail", "new", "too_few", None, None, None, None, -1, 0.05)
    assert judge([BETTER, unknown], trust()).status == "cannot_tell"


def test_every_primary_metric_must_be_better() -> None:
    other = primary(0.01, -0.02, 0.04, 0.5)._replace(metric="watch")
    assert judge([BETTER, other], trust()).status == "cannot_tell"


def test_the_winner_is_named_first() -> None:
    verdict = judge([WORSE, primary(0.05, 0.02, 0.08, 0.001, "second")], trust())
    assert verdict.status == "ship"
    assert verdict.reasons[0].startswith("second:")
    assert len(verdict.reasons) == 2
