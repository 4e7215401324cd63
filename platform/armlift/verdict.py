"""The verdict: rules asked in order; the first that decides gives the word, its reasons and its trace.

| rule | decides where | verdict |
|---|---|---|
| `trust_checks` | a check failed | broken |
| `resolution` | too few requests differ, or too few impressions match | cannot_tell |
| `primary_numbers` | no primary comparison has numbers | cannot_tell |
| `random_exposure` | a replayed log was not shown at random, or a matrix lacks pairs | cannot_tell |
| `better` | a challenger's primaries are surely better, its guardrails surely inside | ship |
| `worse` | every challenger has a primary surely worse or a guardrail surely past | do_not_ship |
| `no_lift` | power is reached, and the challengers left surely lack the smallest lift | do_not_ship |
| `more_data` | always | keep_running; in a replay cannot_tell, for the log will not grow |

Sure of a primary metric is an adjusted p below alpha; of a guardrail, an interval on one side of its margin.
A live experiment that has not reached its planned units, or planned none, is read early: then always-valid
intervals take the place of the plain ones, and a primary's must leave 0 as well. The end of a replay was
fixed beforehand.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from armlift.evidence import Case, Evidence, cases, listed
from armlift.trust import NO_LIFT, Trust

Status = Literal["ship", "do_not_ship", "keep_running", "broken", "cannot_tell"]
Outcome = Literal["passed", "decided", "not_asked"]


class Ruling(NamedTuple):
    """A rule, what became of it, and a sentence with the numbers it rested on."""

    rule: str
    outcome: Outcome
    sentence: str


class Verdict(NamedTuple):
    """The verdict and how it came about.

    `reasons` has the deciding one first; `trace` has every rule in its order; `why_not_ship` has a sentence
    for each condition that stands between today and ship, the most important first; `days_left` says how many
    days it takes to have enough units, where that is known and the verdict is to keep running; `ships` names
    the arms that may ship, the best first.
    """

    status: Status
    reasons: list[str]
    trace: list[Ruling]
    why_not_ship: list[str]
    days_left: int | None
    ships: Sequence[str] = ()

    @property
    def rule(self) -> str:
        """Name the rule that decided."""
        return next(ruling.rule for ruling in self.trace if ruling.outcome == "decided")


class Answer(NamedTuple):
    """What a rule says: the verdict where it decides, else None."""

    status: Status | None
    sentence: str
    reasons: Sequence[str] = ()


def judge(evidence: Sequence[Evidence], trust: Trust) -> Verdict:
    """Ask the rules of this module."""
    found = challengers(evidence, trust)
    trace: list[Ruling] = []
    for name, rule in RULES:
        answer = rule(found, trust)
        if answer.status is not None:
            break
        trace.append(Ruling(name, "passed", answer.sentence))
    trace.append(Ruling(name, "decided", answer.sentence))
    trace += [Ruling(later, "not_asked", f"{name} decided before") for later, _ in RULES[len(trace) :]]
    status = answer.status or "cannot_tell"
    return Verdict(
        status=status,
        reasons=list(answer.reasons),
        trace=trace,
        why_not_ship=[] if status == "ship" else _why_not_ship(found, trust),
        days_left=trust.days_left if status == "keep_running" else None,
        ships=[case.arm for case in found if case.ships] if status == "ship" else [],
    )


def challengers(evidence: Sequence[Evidence], trust: Trust) -> list[Case]:
    """Give each challenger's case under this trust, the nearest to shipping first."""
    return cases(evidence, early=trust.early, alpha=trust.alpha)


def _why_not_ship(found: Sequence[Case], trust: Trust) -> list[str]:
    conditions = [*_failures(trust), *trust.blind, *_biased(trust)]
    if any(case.ships for case in found):
        return conditions
    if trust.preferences:
        return [*conditions, NO_LIFT]
    conditions += [f"{_of(case, found)}{finding.text()}" for case in found for finding in case.against]
    return conditions or [_unread(found)]


def _trust_checks(found: Sequence[Case], trust: Trust) -> Answer:
    failed = _failures(trust)
    if failed:
        return Answer("broken", "; ".join(failed), failed)
    warned = [check.name for check in trust.warned]
    told = f"; {listed(warned)} {'warns' if len(warned) == 1 else 'warn'}" if warned else ""
    return Answer(None, f"none of {len(trust.checks)} checks failed{told}")


def _failures(trust: Trust) -> list[str]:
    return [f"check {check.name} failed: {check.meaning}" for check in trust.failed]


def _resolution(found: Sequence[Case], trust: Trust) -> Answer:
    if trust.blind:
        return Answer("cannot_tell", "; ".join(trust.blind), trust.blind)
    said = []
    if trust.differing is not None:
        said.append(f"slates differ on {trust.differing:.1%} of the requests")
    if trust.matched:
        said.append(f"every arm has {min(trust.matched.values()):,} matched impressions or more")
    return Answer(None, ", ".join(said) or "nothing had to be matched")


def _primary_numbers(found: Sequence[Case], trust: Trust) -> Answer:
    primary = [finding for case in found for finding in case.findings if finding.one.role == "primary"]
    known = sum(finding.kind != "unknown" for finding in primary)
    if not known:
        said = [*trust.preferences, NO_LIFT] if trust.preferences else [_unread(found)]
        return Answer("cannot_tell", said[0], [*said, *_biased(trust)])
    return Answer(None, f"{known} of {len(primary)} primary comparisons have numbers")


def _unread(found: Sequence[Case]) -> str:
    primary = [finding.one for case in found for finding in case.findings if finding.one.role == "primary"]
    named = sorted({f"{one.metric}: {one.status}" for one in primary})
    return f"no primary metric can be compared ({', '.join(named) or 'none was measured'})"


def _random_exposure(found: Sequence[Case], trust: Trust) -> Answer:
    biased = _biased(trust)
    if biased:
        return Answer("cannot_tell", biased[0], [*biased, *_words(found)])
    if not trust.replay or trust.data != "log":
        return Answer(None, "not a replay: arms chose what was shown")
    if any(check.name == "answered_pairs" for check in trust.checks):
        return Answer(None, "the log holds nearly all that arms asked for")
    return Answer(
        None, f"the {'rows the model learned from were' if trust.modelled else 'log was'} shown at random"
    )


def _biased(trust: Trust) -> list[str]:
    """Say why a log's policy may have made the lift, where it may."""
    if trust.bias == "answered_pairs":
        return ["the log lacks too much of what arms asked for, so the lift may be biased"]
    if trust.bias and trust.modelled:
        return ["the model learned from exposure that is not random, so its lift may be biased"]
    return ["the log's exposure is not random, so its lift may be biased"] if trust.bias else []


def _better(found: Sequence[Case], trust: Trust) -> Answer:
    words = _words(found)
    if not any(case.ships for case in found):
        return Answer(None, f"no challenger is ready, by {trust.intervals}: {'; '.join(words)}")
    warned = [f"check {check.name} warns: {check.meaning}" for check in trust.warned]
    return Answer(
        "ship", f"{words[0]}, and no guardrail is in doubt, by {trust.intervals}", [*words, *warned]
    )


def _worse(found: Sequence[Case], trust: Trust) -> Answer:
    if all(case.lost for case in found):
        return Answer("do_not_ship", f"{'; '.join(_words(found))}; by {trust.intervals}", _words(found))
    hopeful = [case.arm for case in found if not case.lost]
    return Answer(None, f"{listed(hopeful)}: neither surely worse nor past the margin of a guardrail")


def _no_lift(found: Sequence[Case], trust: Trust) -> Answer:
    if trust.smallest_lift is None:
        return Answer(None, "no smallest lift of interest is set")
    size = f"{trust.smallest_lift:.1%}"
    if trust.power_reached is None:
        return Answer(None, f"it is not known whether there are enough units to find a lift of {size}")
    if not trust.power_reached:
        return Answer(None, f"there are not enough units yet to find a lift of {size}")
    words = []
    for case in found:
        flat = case.without(trust.smallest_lift)
        if case.lost:
            words.append(_first_word(case, found))
        elif flat is None:
            return Answer(None, f"a lift of {size} is not ruled out: {_first_word(case, found)}")
        else:
            none = f"no lift of at least {size} is there to be found in {flat.one.metric}"
            words.append(f"{_of(case, found)}{none}: {flat.lift()}")
    return Answer("do_not_ship", "; ".join(words), words)


def _more_data(found: Sequence[Case], trust: Trust) -> Answer:
    if trust.replay:
        return Answer("cannot_tell", f"nothing is sure, and the {trust.data} will not grow", _words(found))
    if trust.days_left is None:
        return Answer("keep_running", "nothing is sure yet; more units may settle it", _words(found))
    days = f"{trust.days_left} {'day' if trust.days_left == 1 else 'days'}"
    return Answer("keep_running", f"nothing is sure yet; there are enough units in {days}", _words(found))


def _words(found: Sequence[Case]) -> list[str]:
    return [_first_word(case, found) for case in found]


def _first_word(case: Case, found: Sequence[Case]) -> str:
    return f"{_of(case, found)}{case.findings[0].text()}"


def _of(case: Case, found: Sequence[Case]) -> str:
    """Name the arm a sentence speaks of, where there are several."""
    return f"{case.arm}: " if len(found) > 1 else ""


Rule = Callable[[Sequence[Case], Trust], Answer]
RULES: tuple[tuple[str, Rule], ...] = (
    ("trust_checks", _trust_checks),
    ("resolution", _resolution),
    ("primary_numbers", _primary_numbers),
    ("random_exposure", _random_exposure),
    ("better", _better),
    ("worse", _worse),
    ("no_lift", _no_lift),
    ("more_data", _more_data),
)
