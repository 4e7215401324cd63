"""The verdict's sentence, word for word."""

import pytest

from armlift.check import Check
from armlift.evidence import Evidence
from armlift.sentence import sentence
from armlift.trust import Trust
from armlift.verdict import judge


def primary(lift: float, low: float, high: float, p: float) -> Evidence:
    """Make a primary comparison; its always-valid interval is one percent wider on both sides."""
    always = (low - 0.01, high + 0.01)
    return Evidence("watch_time", "primary", "new", "ok", lift, low, high, p, 1, 0.0, *always)


def guardrail(lift: float, low: float, high: float) -> Evidence:
    return Evidence("hates", "guardrail", "new", "ok", lift, low, high, 0.5, -1, 0.05)


def unknown(one: Evidence, status: str) -> Evidence:
    return one._replace(status=status, lift=None, lift_low=None, lift_high=None, p=None)


def failed(*names: str) -> Trust:
    return LOG._replace(checks=[Check(name, "fail", None, "what was found") for name in names])


BETTER, WORSE = primary(0.05, 0.02, 0.08, 0.001), primary(-0.05, -0.08, -0.02, 0.001)
OPEN, FLAT = primary(0.01, -0.02, 0.04, 0.5), primary(0.001, -0.004, 0.006, 0.7)
INSIDE, PAST, UNPROVEN = guardrail(0, -0.02, 0.02), guardrail(0.13, 0.06, 0.2), guardrail(0.03, -0.05, 0.11)
STRICT = PAST._replace(margin=0.0)
CLICKS = BETTER._replace(metric="click_rate")
LOG = Trust(checks=[], replay=True, differing=0.4, matched={"old": 5000, "new": 5000}, alpha=0.05)
BIASED = LOG._replace(checks=[Check("random_exposure", "warn", 0.2, "20.0% were shown at random")])
THIN = LOG._replace(checks=[Check("answered_pairs", "warn", 0.5, "50.0% were answered")])
LIVE = Trust(checks=[], replay=False, differing=None, matched={}, alpha=0.05, planned=True, days_left=12)


@pytest.mark.parametrize(
    ("evidence", "given", "said"),
    [
        (
            [BETTER, INSIDE],
            LOG,
            "Ship new: watch time rose by 5.0% (between 2.0% and 8.0%), "
            "and no guardrail got worse than allowed.",
        ),
        ([BETTER], LOG, "Ship new: watch time rose by 5.0% (between 2.0% and 8.0%)."),
        ([BETTER], LIVE._replace(planned=None), "Ship new: watch time rose by 5.0% (between 1.0% and 9.0%)."),
        (
            [BETTER, CLICKS],
            LOG,
            "Ship new: watch time rose by 5.0% (between 2.0% and 8.0%) and "
            "click rate rose by 5.0% (between 2.0% and 8.0%).",
        ),
        (
            [WORSE._replace(good=-1)],
            LOG,
            "Ship new: watch time fell by 5.0% (between 2.0% and 8.0%).",
        ),
        ([WORSE], LOG, "Do not ship new: watch time fell by 5.0% (between 2.0% and 8.0%)."),
        (
            [BETTER, PAST],
            LOG,
            "Do not ship new: hates rose by 13.0% (between 6.0% and 20.0%), more than the 5.0% allowed.",
        ),
        (
            [BETTER, STRICT],
            LOG,
            "Do not ship new: hates rose by 13.0% (between 6.0% and 20.0%), and it must not get worse.",
        ),
        (
            [FLAT],
            LOG._replace(power_reached=True, smallest_lift=0.01),
            "Do not ship new: no lift of 1.0% or more is to be found in watch time "
            "(between -0.4% and +0.6%).",
        ),
        (
            [WORSE, WORSE._replace(arm="other")],
            LOG,
            "Ship none of new and other: with new watch time fell by 5.0% (between 2.0% and 8.0%); "
            "with other watch time fell by 5.0% (between 2.0% and 8.0%).",
        ),
        (
            [OPEN],
            LIVE,
            "Keep running for about 12 more days: it is not sure yet that new improves watch time "
            "(between -2.0% and +4.0%).",
        ),
        (
            [BETTER._replace(always_low=None)],
            LIVE._replace(planned=False, days_left=1),
            "Keep running for about 1 more day: it is not sure yet that new improves watch time.",
        ),
        (
            [BETTER, UNPROVEN],
            LIVE._replace(days_left=None),
            "Keep running: it is not sure yet that hates gets no worse than allowed with new "
            "(between -5.0% and +11.0%).",
        ),
        (
            [BETTER, unknown(INSIDE, "zero_control")],
            LIVE._replace(days_left=0),
            "Keep running: hates cannot be measured yet, for without a change it is 0.",
        ),
        (
            [BETTER],
            failed("own_check", "srm"),
            "Do not trust this result: the groups of users are not of the sizes they should have and "
            "the check own check failed.",
        ),
        (
            [BETTER],
            LOG._replace(differing=0.001),
            "Nothing can be told: the arms show nearly everybody the same.",
        ),
        (
            [BETTER],
            LOG._replace(matched={"old": 5000, "new": 9}),
            "Nothing can be told: too little of what new chose was ever shown.",
        ),
        (
            [unknown(OPEN, "too_few"), PAST],
            LOG,
            "Nothing can be told: watch time cannot be measured, for there are too few users.",
        ),
        ([], LOG, "Nothing can be told: nothing was measured."),
        (
            [BETTER],
            BIASED,
            "Nothing can be told: users met what the log's own policy chose for them, "
            "which may have made the lift.",
        ),
        (
            [BETTER],
            THIN,
            "Nothing can be told: what users did with too much of it is not in the log, "
            "which may have made the lift.",
        ),
        (
            [BETTER],
            BIASED._replace(modelled=True),
            "In a model of users, nothing can be told: users answered as a model says that learned from "
            "what the log's own policy chose for them.",
        ),
        (
            [BETTER],
            LOG._replace(modelled=True),
            "In a model of users, ship new: watch time rose by 5.0% (between 2.0% and 8.0%).",
        ),
        (
            [WORSE, OPEN._replace(arm="other")],
            LOG,
            "Nothing can be told: it is not sure that other improves watch time "
            "(between -2.0% and +4.0%), and a log does not grow.",
        ),
    ],
)
def test_sentences(evidence: list[Evidence], given: Trust, said: str) -> None:
    assert sentence(judge(evidence, given), evidence, given) == said
