"""The verdict: from trust checks, resolution and comparisons to one word and its reasons.

The rules, in this order; the first that applies decides:

1. a failed check                                                  -> broken
2. too few requests differ, too few matched impressions            -> cannot_tell
3. no primary comparison has numbers                               -> cannot_tell
4. every challenger has a primary metric surely worse or a
   guardrail surely past its margin                                -> do_not_ship
5. a challenger's primary metrics surely better (adjusted p below
   alpha), and each of its guardrails surely within its margin     -> ship
6. anything else                                                   -> keep_running; in a replay cannot_tell,
                                                                      for the log will not grow

Where exposure was not random, 4 and 5 say cannot_tell: what is sure then is only the log's own policy.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Status = Literal["ship", "do_not_ship", "keep_running", "broken", "cannot_tell"]

LEAST_DIFFERING = 0.01
"""Share of requests on which slates must differ."""
LEAST_MATCHED = 100
"""Matched impressions each arm must have."""


class Verdict(NamedTuple):
    """The verdict and the reasons for it, the deciding one first."""

    status: Status
    reasons: list[str]


class Evidence(NamedTuple):
    """One comparison as the verdict sees it; `good` is 1 where an increase is better, else -1."""

    metric: str
    role: str
    arm: str
    status: str
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    p: float | None
    good: int
    margin: float


class Trust(NamedTuple):
    """What else the verdict looks at; `differing` and `matched` are None where there is nothing to match."""

    checks: Mapping[str, str]
    replay: bool
    differing: float | None
    matched: Mapping[str, int]
    alpha: float


def judge(evidence: Sequence[Evidence], trust: Trust) -> Verdict:
    """Apply the rules of this module."""
    failed = [f"check {name} failed" for name, status in trust.checks.items() if status == "fail"]
    if failed:
        return Verdict("broken", failed)
    blind = _blind(trust)
    if blind:
        return Verdict("cannot_tell", blind)
    primary = [one for one in evidence if one.role == "primary"]
    if not any(one.status == "ok" for one in primary):
        named = sorted({f"{one.metric}: {one.status}" for one in primary})
        return Verdict("cannot_tell", [f"no primary metric can be compared ({', '.join(named)})"])
    arms = list(dict.fromkeys(one.arm for one in evidence))
    reasons = {arm: _case(arm, evidence, trust) for arm in arms}
    winners = [arm for arm, (answer, _) in reasons.items() if answer == "ship"]
    words = [text for _, (_, text) in sorted(reasons.items(), key=lambda item: item[0] not in winners)]
    losing = all(answer == "worse" for answer, _ in reasons.values())
    if not (winners or losing):
        return Verdict("cannot_tell" if trust.replay else "keep_running", words)
    if trust.checks.get("random_exposure") == "warn":
        return Verdict("cannot_tell", ["the log's exposure is not random, so its lift may be biased", *words])
    return Verdict("ship" if winners else "do_not_ship", words)


def _blind(trust: Trust) -> list[str]:
    found = []
    if trust.differing is not None and trust.differing < LEAST_DIFFERING:
        found.append(
            f"slates differ on {trust.differing:.2%} of the requests, needed is {LEAST_DIFFERING:.0%} or more"
        )
    for arm, count in trust.matched.items():
        if count < LEAST_MATCHED:
            found.append(f"{arm} has {count} matched impressions, at least {LEAST_MATCHED} are needed")
    return found


def _case(arm: str, evidence: Sequence[Evidence], trust: Trust) -> tuple[str, str]:
    """Judge one challenger: ship, worse or open, with its reason."""
    own = [one for one in evidence if one.arm == arm]
    primary = [one for one in own if one.role == "primary"]
    worse = [one for one in primary if _significant(one, trust.alpha) and _gain(one) < 0]
    if worse:
        return "worse", f"{arm}: {worse[0].metric} is worse: {_lift(worse[0])}"
    for one in own:
        if one.role == "guardrail" and _harm(one)[0] > one.margin:
            return "worse", f"{arm}: guardrail {one.metric} is past its margin of {one.margin:.1%}"
    open_ones = [one for one in primary if not _significant(one, trust.alpha)]
    if open_ones:
        return "open", f"{arm}: the lift of {open_ones[0].metric} may be 0: {_lift(open_ones[0])}"
    unproven = [one for one in own if one.role == "guardrail" and not _harm(one)[1] <= one.margin]
    if unproven:
        one = unproven[0]
        return "open", f"{arm}: guardrail {one.metric} is not proven to stay within {one.margin:.1%}"
    return "ship", f"{arm}: {primary[0].metric} is better: {_lift(primary[0])}"


def _significant(one: Evidence, alpha: float) -> bool:
    return one.status == "ok" and one.p is not None and one.p < alpha


def _gain(one: Evidence) -> float:
    return one.good * (one.lift or 0.0)


def _harm(one: Evidence) -> tuple[float, float]:
    """Give the interval of how much worse the metric got, as a fraction; all of the line where unknown."""
    if one.lift_low is None or one.lift_high is None:
        return float("-inf"), float("inf")
    sides = (-one.good * one.lift_low, -one.good * one.lift_high)
    return min(sides), max(sides)


def _lift(one: Evidence) -> str:
    if one.lift is None:
        return "unknown"
    if one.lift_low is None or one.lift_high is None:
        return f"{one.lift:+.1%}"
    return f"{one.lift:+.1%} [{one.lift_low:+.1%}, {one.lift_high:+.1%}]"
