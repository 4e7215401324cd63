"""The verdict: a table of what checks, intervals, guardrails, power and plan make, and its trace."""

from typing import NamedTuple

import pytest

from armlift.evidence import Evidence
from armlift.trust import Trust
from armlift.verdict import RULES, judge


class Checked(NamedTuple):
    name: str
    status: str
    meaning: str = "what was found"


SMALLEST = 0.01
"""The smallest lift of interest in these tests."""
MARGIN = 0.05

PRIMARY: dict[str, tuple[float | None, ...]] = {
    # name: lift, plain interval, adjusted p, always-valid interval
    "better": (0.05, 0.02, 0.08, 0.001, 0.01, 0.09),
    "better-once": (0.05, 0.02, 0.08, 0.001, -0.01, 0.11),
    "better-unread": (0.05, 0.02, 0.08, 0.001, None, None),
    "better-unadjusted": (0.05, 0.002, 0.098, 0.06, -0.03, 0.13),
    "worse": (-0.05, -0.08, -0.02, 0.001, -0.09, -0.01),
    "worse-once": (-0.05, -0.08, -0.02, 0.001, -0.11, 0.01),
    "open": (0.01, -0.02, 0.04, 0.5, -0.04, 0.06),
    "flat": (0.001, -0.004, 0.006, 0.7, -0.007, 0.009),
    "flat-once": (0.001, -0.004, 0.006, 0.7, -0.014, 0.016),
    "unknown": (None, None, None, None, None, None),
}
GUARDRAIL: dict[str, tuple[float | None, ...]] = {
    # of a metric where more is worse and MARGIN is allowed
    "inside": (0.0, -0.02, 0.02, 0.9, -0.03, 0.03),
    "inside-once": (0.0, -0.02, 0.02, 0.9, -0.07, 0.07),
    "past": (0.13, 0.06, 0.20, 0.001, 0.055, 0.205),
    "past-once": (0.13, 0.06, 0.20, 0.001, 0.04, 0.22),
    "unproven": (0.03, -0.05, 0.11, 0.4, -0.09, 0.15),
    "unknown": (None, None, None, None, None, None),
}
PLANS: dict[str, tuple[bool, bool | None]] = {
    # name: replay, whether the planned units are reached
    "replay": (True, None),
    "no-plan": (False, None),
    "before": (False, False),
    "planned": (False, True),
}
POWER: dict[str, bool | None] = {"-": None, "short": False, "reached": True}


def primary(name: str, *, arm: str = "new", metric: str = "watch_time", good: int = 1) -> Evidence:
    lift, low, high, p, always_low, always_high = PRIMARY[name]
    status = "too_few" if lift is None else "ok"
    return Evidence(metric, "primary", arm, status, lift, low, high, p, good, 0.0, always_low, always_high)


def guardrail(name: str, *, arm: str = "new", metric: str = "hates") -> Evidence:
    lift, low, high, p, always_low, always_high = GUARDRAIL[name]
    status = "zero_control" if lift is None else "ok"
    return Evidence(metric, "guardrail", arm, status, lift, low, high, p, -1, MARGIN, always_low, always_high)


def trust(
    checks: str = "ok",
    *,
    plan: str = "replay",
    power: str = "-",
    differing: float | None = 0.4,
    matched: int = 5000,
    smallest: float | None = SMALLEST,
    days_left: int | None = 12,
) -> Trust:
    """Make a trust; `checks` is `ok`, or `srm:fail` and the like, joined by a plus."""
    replay, planned = PLANS[plan]
    found = {"random_exposure": "ok", "event_loss": "ok", "several_exposures": "ok", "srm": "ok"}
    if checks != "ok":
        found |= dict(part.split(":", 1) for part in checks.split("+"))
    return Trust(
        checks=[Checked(*one) for one in found.items()],
        replay=replay,
        differing=differing,
        matched={"old": 5000, "new": matched},
        alpha=0.05,
        planned=planned,
        power_reached=POWER[power],
        days_left=days_left,
        smallest_lift=smallest,
    )


TABLE = """
checks                  primary            guardrail    power    plan     verdict       rule

# Replays: the end was fixed beforehand, so the plain interval decides.
ok                      better             inside       -        replay   ship          better
ok                      better             -            -        replay   ship          better
ok                      better-once        inside-once  -        replay   ship          better
ok                      better-unread      inside       -        replay   ship          better
ok                      better             unproven     -        replay   cannot_tell   more_data
ok                      better             unknown      -        replay   cannot_tell   more_data
ok                      better             past         -        replay   do_not_ship   worse
ok                      better-unadjusted  inside       -        replay   cannot_tell   more_data
ok                      worse              inside       -        replay   do_not_ship   worse
ok                      worse-once         -            -        replay   do_not_ship   worse
ok                      worse              past         -        replay   do_not_ship   worse
ok                      open               inside       -        replay   cannot_tell   more_data
ok                      open               past         -        replay   do_not_ship   worse
ok                      open               inside       reached  replay   cannot_tell   more_data
ok                      flat               inside       reached  replay   do_not_ship   no_lift
ok                      flat-once          inside       reached  replay   do_not_ship   no_lift
ok                      flat               inside       -        replay   cannot_tell   more_data
ok                      flat               inside       short    replay   cannot_tell   more_data
ok                      unknown            inside       -        replay   cannot_tell   primary_numbers
ok                      unknown            past         -        replay   cannot_tell   primary_numbers

# Live without a plan, or before the planned units: always-valid intervals decide.
ok                      better             inside       -        no-plan  ship          better
ok                      better-once        inside       -        no-plan  keep_running  more_data
ok                      better-unread      inside       -        no-plan  keep_running  more_data
ok                      better             inside-once  -        no-plan  keep_running  more_data
ok                      better             unproven     -        no-plan  keep_running  more_data
ok                      worse              inside       -        no-plan  do_not_ship   worse
ok                      worse-once         inside       -        no-plan  keep_running  more_data
ok                      open               past         -        no-plan  do_not_ship   worse
ok                      open               past-once    -        no-plan  keep_running  more_data
ok                      better             -            short    before   ship          better
ok                      better-once        inside       short    before   keep_running  more_data
ok                      better-once        inside       reached  before   keep_running  more_data
ok                      worse-once         inside       short    before   keep_running  more_data
ok                      better             past-once    short    before   keep_running  more_data
ok                      better             past         short    before   do_not_ship   worse
ok                      flat               inside       reached  before   do_not_ship   no_lift
ok                      flat-once          inside       reached  before   keep_running  more_data
ok                      flat               inside       short    before   keep_running  more_data
ok                      unknown            inside       short    before   cannot_tell   primary_numbers

# Live at the planned units: the plain interval decides.
ok                      better-once        inside-once  reached  planned  ship          better
ok                      better-unread      inside       reached  planned  ship          better
ok                      better-unadjusted  inside       reached  planned  keep_running  more_data
ok                      better             past-once    reached  planned  do_not_ship   worse
ok                      worse-once         inside       reached  planned  do_not_ship   worse
ok                      open               inside       reached  planned  keep_running  more_data
ok                      open               inside       short    planned  keep_running  more_data
ok                      flat-once          inside       reached  planned  do_not_ship   no_lift
ok                      flat-once          past         reached  planned  do_not_ship   worse
ok                      flat-once          unproven     reached  planned  do_not_ship   no_lift

# Checks come first: a failed one is broken whatever the lift; a warning does not block.
srm:fail                better             inside       -        replay   broken        trust_checks
srm:fail                worse              past         -        no-plan  broken        trust_checks
several_exposures:fail  better             inside       reached  planned  broken        trust_checks
event_loss:fail         unknown            unknown      -        replay   broken        trust_checks
pre_exposure_bias:fail  better             inside       -        no-plan  broken        trust_checks
stale_model:fail        open               inside       short    before   broken        trust_checks
symbiosis:fail          flat               inside       reached  planned  broken        trust_checks
own_check:fail          better             inside       -        replay   broken        trust_checks
srm:warn                better             inside       -        replay   ship          better
srm:no_data             better             inside       -        replay   ship          better
srm:not_applicable      better             inside       -        replay   ship          better
lateness:warn           worse              inside       -        no-plan  do_not_ship   worse
random_exposure:warn    better             inside       -        replay   cannot_tell   random_exposure
random_exposure:warn    worse              inside       -        replay   cannot_tell   random_exposure
random_exposure:warn    flat               inside       reached  replay   cannot_tell   random_exposure
random_exposure:warn    better             inside       -        no-plan  ship          better
"""
ROWS = [
    line.split()
    for line in TABLE.splitlines()
    if line and not line.startswith("#") and "guardrail " not in line
]


def test_the_table_is_large_and_has_every_verdict_of_every_rule() -> None:
    assert len(ROWS) >= 40
    assert len({tuple(row[:5]) for row in ROWS}) == len(ROWS)
    assert {row[5] for row in ROWS} == {"ship", "do_not_ship", "keep_running", "broken", "cannot_tell"}
    assert {row[6] for row in ROWS} == {name for name, _ in RULES} - {"resolution"}


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_golden(row: list[str]) -> None:
    checks, first, guarded, power, plan, status, rule = row
    evidence = [primary(first)] + ([] if guarded == "-" else [guardrail(guarded)])
    verdict = judge(evidence, trust(checks, plan=plan, power=power))
    assert (verdict.status, verdict.rule) == (status, rule)
    assert bool(verdict.why_not_ship) == (status != "ship")
    assert verdict.days_left == (12 if status == "keep_running" else None)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (trust(differing=0.009), "slates differ on 0.90% of the requests, needed is 1% or more"),
        (trust(matched=99), "new has 99 matched impressions, at least 100 are needed"),
    ],
)
def test_too_little_resolution_tells_nothing(given: Trust, word: str) -> None:
    verdict = judge([primary("better")], given)
    assert (verdict.status, verdict.rule, verdict.reasons) == ("cannot_tell", "resolution", [word])
    assert verdict.why_not_ship == [word]


@pytest.mark.parametrize("given", [trust(differing=0.01), trust(matched=100), trust(differing=None)])
def test_just_enough_resolution_tells(given: Trust) -> None:
    assert judge([primary("better")], given).status == "ship"


def test_the_trace_names_every_rule_and_the_numbers_it_rested_on() -> None:
    verdict = judge([primary("open"), guardrail("inside")], trust(plan="before", power="short"))
    assert verdict.trace == [
        ("trust_checks", "passed", "none of 4 checks failed"),
        (
            *("resolution", "passed"),
            "slates differ on 40.0% of the requests, every arm has 5,000 matched impressions or more",
        ),
        ("primary_numbers", "passed", "1 of 1 primary comparisons have numbers"),
        ("random_exposure", "passed", "not a replay: arms chose what was shown"),
        (
            *("better", "passed"),
            "no challenger is ready, by always-valid intervals, for the plan is not fulfilled: "
            "the lift of watch_time may be 0: +1.0% [-4.0%, +6.0%]",
        ),
        ("worse", "passed", "new: neither surely worse nor past the margin of a guardrail"),
        ("no_lift", "passed", "there are not enough units yet to find a lift of 1.0%"),
        ("more_data", "decided", "nothing is sure yet; there are enough units in 12 days"),
    ]


def test_rules_after_the_deciding_one_are_not_asked() -> None:
    verdict = judge([primary("better")], trust("srm:fail"))
    assert [ruling.outcome for ruling in verdict.trace] == ["decided", *["not_asked"] * 7]
    assert verdict.trace[0].sentence == "check srm failed: what was found"
    assert {ruling.sentence for ruling in verdict.trace[1:]} == {"trust_checks decided before"}


@pytest.mark.parametrize(
    ("evidence", "given", "expected"),
    [
        ([primary("better"), guardrail("inside")], trust(), []),
        (
            [primary("open"), guardrail("unproven")],
            trust(),
            [
                "the lift of watch_time may be 0: +1.0% [-2.0%, +4.0%]",
                "guardrail hates is not proven to stay within 5.0%: +3.0% [-5.0%, +11.0%]",
            ],
        ),
        (
            [primary("better"), primary("worse", metric="clicks"), guardrail("past")],
            trust("srm:fail+random_exposure:warn", differing=0.001),
            [
                "check srm failed: what was found",
                "slates differ on 0.10% of the requests, needed is 1% or more",
                "the log's exposure is not random, so its lift may be biased",
                "clicks is worse: -5.0% [-8.0%, -2.0%]",
                "guardrail hates is past its margin of 5.0%: +13.0% [+6.0%, +20.0%]",
            ],
        ),
        (
            [primary("unknown"), guardrail("unknown")],
            trust(),
            ["watch_time cannot be compared: too_few", "guardrail hates cannot be compared: zero_control"],
        ),
        ([primary("better")], trust("srm:fail"), ["check srm failed: what was found"]),
        (
            [primary("better")],
            trust("answered_pairs:warn"),
            ["the log lacks too much of what arms asked for, so the lift may be biased"],
        ),
        (
            [primary("better")],
            trust("random_exposure:warn")._replace(modelled=True),
            ["the model learned from exposure that is not random, so its lift may be biased"],
        ),
        (
            [primary("better-unread"), primary("worse", arm="bad")],
            trust(plan="no-plan"),
            [
                "new: the lift of watch_time may be 0: +5.0%, interval unknown",
                "bad: watch_time is worse: -5.0% [-9.0%, -1.0%]",
            ],
        ),
        ([], trust(), ["no primary metric can be compared (none was measured)"]),
    ],
)
def test_why_not_ship_has_every_condition(
    evidence: list[Evidence], given: Trust, expected: list[str]
) -> None:
    assert judge(evidence, given).why_not_ship == expected


def test_failed_checks_come_in_a_fixed_order() -> None:
    failed = "own_check:fail+symbiosis:fail+event_loss:fail+srm:fail+several_exposures:fail"
    named = [reason.split()[1] for reason in judge([primary("better")], trust(failed)).reasons]
    assert named == ["srm", "several_exposures", "event_loss", "symbiosis", "own_check"]


def test_a_ship_names_what_warns() -> None:
    verdict = judge([primary("better"), guardrail("inside")], trust("srm:warn+lateness:warn"))
    assert verdict.reasons == [
        "watch_time is better: +5.0% [+2.0%, +8.0%]",
        "check srm warns: what was found",
        "check lateness warns: what was found",
    ]
    assert verdict.trace[0].sentence == "none of 5 checks failed; srm and lateness warn"


def test_less_is_better_where_the_metric_says_so() -> None:
    assert judge([primary("worse", good=-1)], trust()).status == "ship"
    assert judge([primary("better", good=-1)], trust()).status == "do_not_ship"
    assert judge([primary("worse", good=-1)], trust(plan="no-plan")).status == "ship"
    assert judge([primary("flat", good=-1)], trust(power="reached")).rule == "no_lift"


def test_every_primary_metric_must_be_better() -> None:
    assert judge([primary("better"), primary("open", metric="clicks")], trust()).status == "cannot_tell"
    both = [primary("better"), primary("flat", metric="clicks")]
    verdict = judge(both, trust(power="reached"))
    assert verdict.reasons == [
        "no lift of at least 1.0% is there to be found in clicks: +0.1% [-0.4%, +0.6%]"
    ]


def test_one_arm_is_enough_to_ship_and_the_best_comes_first() -> None:
    second = primary("better", arm="second")._replace(lift=0.06)
    verdict = judge([primary("worse", arm="bad"), primary("better"), second], trust())
    assert verdict.status == "ship"
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["second", "new", "bad"]


def test_every_arm_must_be_lost_not_to_ship() -> None:
    lost, opened, flat = primary("worse", arm="lost"), primary("open"), primary("flat", arm="flat")
    assert judge([lost, primary("worse")], trust()).status == "do_not_ship"
    assert judge([lost, opened], trust()).status == "cannot_tell"
    assert judge([lost, flat], trust(power="reached")).rule == "no_lift"
    assert judge([lost, flat, opened], trust(power="reached")).rule == "more_data"


def test_a_lift_without_a_smallest_one_of_interest_is_never_ruled_out() -> None:
    verdict = judge([primary("flat")], trust(power="reached", smallest=None))
    assert verdict.rule == "more_data"
    assert verdict.trace[6].sentence == "no smallest lift of interest is set"


@pytest.mark.parametrize(
    ("days", "said"),
    [(None, "more units may settle it"), (1, "enough units in 1 day"), (30, "enough units in 30 days")],
)
def test_days_left_are_told(days: int | None, said: str) -> None:
    verdict = judge([primary("open")], trust(plan="before", days_left=days))
    assert verdict.days_left == days
    assert verdict.trace[-1].sentence.endswith(said)


def test_small_lifts_do_not_read_as_nothing() -> None:
    small = primary("better")._replace(lift=0.003, lift_low=0.0003, lift_high=0.0057)
    assert judge([small], trust()).reasons == ["watch_time is better: +0.30% [+0.03%, +0.57%]"]


def test_a_small_lift_that_is_sure_is_not_ruled_out() -> None:
    small = primary("better")._replace(lift=0.003, lift_low=0.001, lift_high=0.005)
    hates = guardrail("unproven")._replace(lift_low=0.001)
    assert judge([small, hates], trust(power="reached")).rule == "more_data"
    assert judge([small, guardrail("inside")], trust(power="reached")).rule == "better"


def test_the_verdict_names_the_arms_that_may_ship() -> None:
    evidence = [
        primary("open", arm="new"),
        primary("better", arm="other"),
        primary("better-once", arm="third"),
    ]
    assert judge(evidence, trust()).ships == ["other", "third"]
    assert judge(evidence, trust(plan="no-plan")).ships == ["other"]
    assert judge(evidence, trust("srm:fail")).ships == []
    assert judge([primary("open")], trust()).ships == []
