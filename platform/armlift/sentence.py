"""The verdict in one sentence for people who make products: what to do, and the one reason why."""

from collections.abc import Sequence

from armlift.evidence import Case, Evidence, Finding, listed, percentages
from armlift.trust import LEAST_MATCHED, Trust
from armlift.verdict import Verdict, challengers

BROKEN = {
    "srm": "the groups of users are not of the sizes they should have",
    "several_exposures": "too many users met more than one arm",
    "exclusions": "the rules leave out more users of one group than of another",
    "pre_exposure_bias": "the groups of users differed before the experiment began",
    "event_loss": "what too many users did was lost",
    "fallbacks": "too often another arm had to answer in an arm's name",
    "stale_model": "an arm answered from a model that is too old",
    "symbiosis": "an arm learns from what another one shows",
    "merged_ids": "it is in doubt who too many users are",
}
UNMEASURED = {
    "no_data": "nothing of it was recorded",
    "too_few": "there are too few users",
    "zero_variance": "it is the same for every user",
    "zero_control": "without a change it is 0",
    "not_estimable": "this kind of run cannot know it",
}


BIASED = {
    "random_exposure": "users met what the log's own policy chose for them, which may have made the lift",
    "answered_pairs": "what users did with too much of it is not in the log, which may have made the lift",
}


def sentence(verdict: Verdict, evidence: Sequence[Evidence], trust: Trust) -> str:
    """Say a verdict in one sentence; `evidence` and `trust` are those it was made from."""
    said = _sentence(verdict, challengers(evidence, trust), trust)
    # Whoever reads one line must not take a model's lift for that of users.
    return f"In a model of users, {said[0].lower()}{said[1:]}" if trust.modelled else said


def _sentence(verdict: Verdict, found: Sequence[Case], trust: Trust) -> str:
    if verdict.status == "ship":
        return _ship(found[0])
    if verdict.status == "do_not_ship":
        return _do_not_ship(found, trust)
    if verdict.status == "keep_running":
        return f"Keep running{_days(verdict.days_left)}: {_open(found[0], ' yet')}."
    if verdict.status == "broken":
        return f"Do not trust this result: {_broken(trust)}."
    if verdict.rule == "primary_numbers" and trust.preferences:
        return _preferred(trust)
    return f"Nothing can be told: {_untold(verdict.rule, found, trust)}."


def _preferred(trust: Trust) -> str:
    first, doubt = trust.preferences[0], ", and the log's own policy may have made it" if trust.biased else ""
    return f"{first[0].upper()}{first[1:]}; this is no lift{doubt}."


def _ship(case: Case) -> str:
    won = [_moved(finding) for finding in case.findings if finding.one.role == "primary"]
    guarded = any(finding.one.role == "guardrail" for finding in case.findings)
    return f"Ship {case.arm}: {listed(won)}{', and no guardrail got worse than allowed' if guarded else ''}."


def _do_not_ship(found: Sequence[Case], trust: Trust) -> str:
    clauses = [_lost(case, trust) for case in found]
    if len(found) == 1:
        return f"Do not ship {found[0].arm}: {clauses[0]}."
    told = (f"with {case.arm} {clause}" for case, clause in zip(found, clauses, strict=True))
    return f"Ship none of {listed(case.arm for case in found)}: {'; '.join(told)}."


def _lost(case: Case, trust: Trust) -> str:
    flat = None if case.lost or trust.smallest_lift is None else case.without(trust.smallest_lift)
    if flat is not None and trust.smallest_lift is not None:
        least = percentages(trust.smallest_lift, signed=False)[0]
        return f"no lift of {least} or more is to be found in {_name(flat)}{_between(flat)}"
    worst = case.findings[0]
    return f"{_moved(worst)}{f', {_allowance(worst)}' if worst.kind == 'past' else ''}"


def _allowance(guardrail: Finding) -> str:
    if guardrail.one.margin == 0:
        return "and it must not get worse"
    return f"more than the {percentages(guardrail.one.margin, signed=False)[0]} allowed"


def _open(case: Case, yet: str = "") -> str:
    """Say what is open about the arm nearest to shipping."""
    worst = case.findings[0]
    if worst.kind == "unknown":
        return _unmeasured(worst, yet)
    if worst.kind == "open":
        return f"it is not sure{yet} that {case.arm} improves {_name(worst)}{_between(worst)}"
    if worst.kind == "unproven":
        allowed = f"{_name(worst)} gets no worse than allowed with {case.arm}"
        return f"it is not sure{yet} that {allowed}{_between(worst)}"
    return f"with {case.arm} {_moved(worst)}"


def _unmeasured(found: Finding, yet: str = "") -> str:
    why = UNMEASURED.get(found.one.status, "it has no numbers")
    return f"{_name(found)} cannot be measured{yet}, for {why}"


def _untold(rule: str, found: Sequence[Case], trust: Trust) -> str:
    if rule == "resolution":
        few = [arm for arm, count in trust.matched.items() if count < LEAST_MATCHED]
        if few:
            return f"too little of what {listed(few)} chose was ever shown"
        return "the arms show nearly everybody the same"
    if rule == "primary_numbers":
        primary = [one for case in found for one in case.findings if one.one.role == "primary"]
        return _unmeasured(primary[0]) if primary else "nothing was measured"
    if rule == "random_exposure" and trust.modelled:
        return "users answered as a model says that learned from what the log's own policy chose for them"
    if rule == "random_exposure":
        return BIASED[trust.bias or ""]
    does = {"log": "a log does", "data": "the data do"}.get(trust.data, f"the {trust.data} does")
    return f"{_open(found[0])}, and {does} not grow"


def _broken(trust: Trust) -> str:
    return listed(BROKEN.get(check.name, f"the check {_spaced(check.name)} failed") for check in trust.failed)


def _days(left: int | None) -> str:
    if not left:
        return ""
    return f" for about {left} more {'day' if left == 1 else 'days'}"


def _moved(found: Finding) -> str:
    """Say how a metric moved, such as `watch time rose by 4.1% (between 1.2% and 7.0%)`."""
    lift, low, high = found.one.lift, found.low, found.high
    if lift is None:
        return f"{_name(found)} changed"
    verb = "rose" if lift > 0 else "fell"
    if low is None or high is None or low * high < 0:
        return f"{_name(found)} {verb} by {percentages(abs(lift), signed=False)[0]}{_between(found)}"
    by, *ends = percentages(abs(lift), *sorted((abs(low), abs(high))), signed=False)
    return f"{_name(found)} {verb} by {by} (between {ends[0]} and {ends[1]})"


def _between(found: Finding) -> str:
    """Write an interval that may hold 0, with its signs."""
    if found.low is None or found.high is None:
        return ""
    low, high = percentages(found.low, found.high)
    return f" (between {low} and {high})"


def _name(found: Finding) -> str:
    return _spaced(found.one.metric)


def _spaced(name: str) -> str:
    return name.replace("_", " ")
