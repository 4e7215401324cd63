"""Laws that hold for every verdict, on random evidence and trust."""

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.evidence import Evidence
from armlift.sentence import sentence
from armlift.trust import Trust
from armlift.verdict import RULES, judge

many = settings(max_examples=200, deadline=None)
NO_FAILURE = ("ok", "ok", "ok", "ok", "warn")


class Checked(NamedTuple):
    name: str
    status: str
    meaning: str = "what was found"


fractions = st.floats(-0.5, 0.5).map(lambda value: round(value, 3))


@st.composite
def evidences(draw: st.DrawFn, *, arm: str, metric: str, role: str) -> Evidence:
    """Draw a comparison: known or not, in any place, with a wider always-valid interval or none."""
    good = draw(st.sampled_from((1, -1)))
    margin = draw(st.sampled_from((0.0, 0.05, 0.2))) if role == "guardrail" else 0.0
    if not draw(st.integers(0, 9)):
        return Evidence(metric, role, arm, "too_few", None, None, None, None, good, margin)
    lift, width = draw(fractions), draw(st.floats(0.001, 0.3))
    p = draw(st.floats(0, 0.049)) if abs(lift) > width else draw(st.floats(0.05, 1))
    low, high = lift - width, lift + width
    wider = draw(st.one_of(st.none(), st.floats(0, 0.2)))
    always = (None, None) if wider is None else (low - wider, high + wider)
    return Evidence(metric, role, arm, "ok", lift, low, high, p, good, margin, *always)


@st.composite
def evidence_lists(draw: st.DrawFn) -> list[Evidence]:
    """Draw the comparisons of one to three arms, in the same metrics."""
    arms = [f"arm{number}" for number in range(draw(st.integers(1, 3)))]
    roles = ["primary"] * draw(st.integers(1, 2)) + ["guardrail"] * draw(st.integers(0, 2)) + ["secondary"]
    return [
        draw(evidences(arm=arm, metric=f"metric{number}", role=role))
        for number, role in enumerate(roles)
        for arm in arms
    ]


@st.composite
def trusts(draw: st.DrawFn, *, statuses: tuple[str, ...] = ("ok", "ok", "ok", "warn", "fail")) -> Trust:
    """Draw what else the verdict looks at."""
    names = ("random_exposure", "srm", "several_exposures", "event_loss", "symbiosis", "own_check")
    return Trust(
        checks=[Checked(name, draw(st.sampled_from(statuses))) for name in names[: draw(st.integers(0, 6))]],
        replay=draw(st.booleans()),
        differing=draw(st.sampled_from((None, 0.001, 0.5, 0.5))),
        matched=draw(st.sampled_from(({}, {"arm0": 5000}, {"arm0": 5000}, {"arm0": 7}))),
        alpha=0.05,
        planned=draw(st.sampled_from((None, True, False))),
        power_reached=draw(st.sampled_from((None, True, True, False))),
        days_left=draw(st.one_of(st.none(), st.integers(0, 400))),
        smallest_lift=draw(st.one_of(st.none(), st.floats(0.001, 0.5))),
    )


def bounds(one: Evidence, trust: Trust) -> tuple[float | None, float | None]:
    """Give the interval that decides, from the rule's own words."""
    plain = trust.replay or trust.planned is True
    return (one.lift_low, one.lift_high) if plain else (one.always_low, one.always_high)


def surely_better(one: Evidence, trust: Trust) -> bool:
    low, high = bounds(one, trust)
    if one.status != "ok" or one.p is None or one.p >= trust.alpha or low is None or high is None:
        return False
    return low > 0 if one.good == 1 else high < 0


def surely_inside(one: Evidence, trust: Trust) -> bool:
    low, high = bounds(one, trust)
    if low is None or high is None:
        return False
    return low >= -one.margin if one.good == 1 else high <= one.margin


@many
@given(evidence_lists(), trusts())
def test_a_failed_check_never_ships(evidence: list[Evidence], trust: Trust) -> None:
    verdict = judge(evidence, trust)
    failed = any(check.status == "fail" for check in trust.checks)
    assert failed == (verdict.status == "broken")


@many
@given(evidence_lists(), trusts(statuses=NO_FAILURE))
def test_ship_is_said_where_and_only_where_an_arm_is_ready(evidence: list[Evidence], trust: Trust) -> None:
    ready = [
        arm
        for arm in {one.arm for one in evidence}
        if all(surely_better(one, trust) for one in evidence if (one.arm, one.role) == (arm, "primary"))
        and all(surely_inside(one, trust) for one in evidence if (one.arm, one.role) == (arm, "guardrail"))
    ]
    told = judge(evidence, trust._replace(differing=None, matched={}, checks=[]))
    assert (told.status == "ship") == bool(ready)
    if judge(evidence, trust).status == "ship":
        assert ready


@many
@given(evidence_lists(), trusts(statuses=NO_FAILURE), st.integers(0, 9), st.floats(0, 0.5))
def test_a_worse_guardrail_never_makes_it_ship(
    evidence: list[Evidence], trust: Trust, place: int, by: float
) -> None:
    guardrails = [place for place, one in enumerate(evidence) if one.role == "guardrail"]
    if not guardrails or judge(evidence, trust).status == "ship":
        return
    chosen = guardrails[place % len(guardrails)]
    changed = list(evidence)
    one = changed[chosen]

    def moved(value: float | None) -> float | None:
        return None if value is None else value - one.good * by

    changed[chosen] = one._replace(
        lift=moved(one.lift),
        lift_low=moved(one.lift_low),
        lift_high=moved(one.lift_high),
        always_low=moved(one.always_low),
        always_high=moved(one.always_high),
    )
    assert judge(changed, trust).status != "ship"


@many
@given(evidence_lists(), trusts())
def test_the_last_rule_asked_is_the_one_that_decided(evidence: list[Evidence], trust: Trust) -> None:
    verdict = judge(evidence, trust)
    assert [ruling.rule for ruling in verdict.trace] == [name for name, _ in RULES]
    asked = [ruling.outcome for ruling in verdict.trace if ruling.outcome != "not_asked"]
    assert asked == ["passed"] * (len(asked) - 1) + ["decided"]
    assert [ruling.outcome for ruling in verdict.trace][: len(asked)] == asked
    assert verdict.rule == verdict.trace[len(asked) - 1].rule
    assert all(ruling.sentence for ruling in verdict.trace)


@many
@given(evidence_lists(), trusts())
def test_everything_but_ship_says_why_not(evidence: list[Evidence], trust: Trust) -> None:
    verdict = judge(evidence, trust)
    assert (verdict.status == "ship") == (not verdict.why_not_ship)
    assert verdict.reasons
    assert verdict.days_left == (trust.days_left if verdict.status == "keep_running" else None)


@many
@given(evidence_lists(), trusts(statuses=NO_FAILURE))
def test_looking_early_is_never_bolder(evidence: list[Evidence], trust: Trust) -> None:
    """Always-valid intervals hold the plain ones, so what ships early ships at the planned units as well."""
    early = judge(evidence, trust._replace(replay=False, planned=False))
    if early.status == "ship":
        assert judge(evidence, trust._replace(replay=False, planned=True)).status == "ship"


@many
@given(evidence_lists(), trusts())
def test_every_verdict_has_its_sentence(evidence: list[Evidence], trust: Trust) -> None:
    said = sentence(judge(evidence, trust), evidence, trust)
    assert said.endswith(".")
    assert "None" not in said
    assert "_" not in said.replace("arm_", "")
