"""Evidence: what each comparison says for or against shipping its arm, and what that makes of the arm."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Kind = Literal["better", "worse", "open", "unknown", "inside", "past", "unproven"]

FOR_SHIP: frozenset[Kind] = frozenset({"better", "inside"})
LOST: frozenset[Kind] = frozenset({"worse", "past"})
_ORDER: tuple[Kind, ...] = ("worse", "past", "unknown", "open", "unproven", "better", "inside")
"""From what speaks against shipping most."""


class Evidence(NamedTuple):
    """One comparison as the verdict sees it; `good` is 1 where an increase is better, else -1.

    Lifts, their bounds and `margin` are fractions. The interval `lift_low` to `lift_high` holds when it is
    read once, at an end fixed beforehand; `always_low` to `always_high` whenever it is read. Unknown is None.
    """

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
    always_low: float | None = None
    always_high: float | None = None


class Finding(NamedTuple):
    """What one comparison says; `low` and `high` bound the lift by the interval that decides.

    Of a primary metric: `better` or `worse` for sure, `open` (the lift may be 0), `unknown` (no numbers). Of
    a guardrail: `inside` its margin for sure, `past` it for sure, `unproven`, `unknown`.
    """

    kind: Kind
    one: Evidence
    low: float | None
    high: float | None

    @property
    def most_gained(self) -> float | None:
        """Give the best that the interval allows, above 0 where better."""
        if self.low is None or self.high is None:
            return None
        return max(self.one.good * self.low, self.one.good * self.high)

    def lift(self) -> str:
        """Write the lift with its interval, such as `+1.2% [-0.4%, +2.8%]`."""
        if self.one.lift is None:
            return "unknown"
        if self.low is None or self.high is None:
            return f"{percentages(self.one.lift)[0]}, interval unknown"
        lift, low, high = percentages(self.one.lift, self.low, self.high)
        return f"{lift} [{low}, {high}]"

    def text(self) -> str:
        """Say it in a line, with the numbers it rests on."""
        name, margin = self.one.metric, f"{self.one.margin:.1%}"
        if self.kind == "unknown":
            guarded = "guardrail " if self.one.role == "guardrail" else ""
            return f"{guarded}{name} cannot be compared: {self.one.status}"
        said = {
            "better": f"{name} is better",
            "worse": f"{name} is worse",
            "open": f"the lift of {name} may be 0",
            "inside": f"guardrail {name} stays within its margin of {margin}",
            "past": f"guardrail {name} is past its margin of {margin}",
            "unproven": f"guardrail {name} is not proven to stay within {margin}",
        }[self.kind]
        return f"{said}: {self.lift()}"


class Case(NamedTuple):
    """A challenger with its findings on primary metrics and guardrails, the worst first."""

    arm: str
    findings: list[Finding]

    @property
    def against(self) -> list[Finding]:
        """Give the findings that stand between the arm and shipping it."""
        return [found for found in self.findings if found.kind not in FOR_SHIP]

    @property
    def ships(self) -> bool:
        """Tell whether every primary metric is surely better and every guardrail surely inside."""
        return not self.against and any(found.kind == "better" for found in self.findings)

    @property
    def lost(self) -> bool:
        """Tell whether a primary metric is surely worse or a guardrail surely past its margin."""
        return any(found.kind in LOST for found in self.findings)

    def without(self, smallest: float) -> Finding | None:
        """Give a primary metric whose lift may be 0 and is surely under `smallest`."""
        for found in self.findings:
            most = found.most_gained
            if found.kind == "open" and most is not None and most < smallest:
                return found
        return None


def cases(evidence: Sequence[Evidence], *, early: bool, alpha: float) -> list[Case]:
    """Make each challenger's case, the nearest to shipping first.

    `early` says that the always-valid intervals decide, for the experiment has no fixed end or has not
    reached it. Among arms equally near the largest lift of the first primary metric comes first.
    """
    found = []
    for arm in dict.fromkeys(one.arm for one in evidence):
        own = [_find(one, early, alpha) for one in evidence if one.arm == arm and one.role != "secondary"]
        if own:
            found.append(Case(arm, sorted(own, key=lambda finding: _ORDER.index(finding.kind))))
    first = {one.arm: one.good * (one.lift or 0.0) for one in reversed(evidence) if one.role == "primary"}
    return sorted(
        found, key=lambda case: (not case.ships, case.lost, len(case.against), -first.get(case.arm, 0.0))
    )


def _find(one: Evidence, early: bool, alpha: float) -> Finding:
    low, high = (one.always_low, one.always_high) if early else (one.lift_low, one.lift_high)
    kind = _guardrail(one, low, high) if one.role == "guardrail" else _primary(one, low, high, early, alpha)
    return Finding(kind, one, low, high)


def _primary(one: Evidence, low: float | None, high: float | None, early: bool, alpha: float) -> Kind:
    """Read a primary metric: sure is an adjusted p below alpha, and when early an interval beside 0."""
    if one.status != "ok" or one.lift is None:
        return "unknown"
    sure = one.p is not None and one.p < alpha and one.lift != 0
    if early:
        bound = low if one.lift > 0 else high
        sure = sure and bound is not None and bound * one.lift > 0
    if not sure:
        return "open"
    return "better" if one.good * one.lift > 0 else "worse"


def _guardrail(one: Evidence, low: float | None, high: float | None) -> Kind:
    """Read a guardrail by how much worse it got: its interval must end within the margin."""
    if low is None or high is None:
        return "unproven" if one.status == "ok" else "unknown"
    least, most = sorted((-one.good * low, -one.good * high))
    if least > one.margin:
        return "past"
    return "inside" if most <= one.margin else "unproven"


def percentages(*values: float, signed: bool = True) -> list[str]:
    """Write fractions as percentages with one decimal; with two where one would show 0 for what is not."""
    decimals = 2 if any(0 < abs(value) < 0.0005 for value in values) else 1
    return [f"{value:{'+' if signed else ''}.{decimals}%}" for value in values]


def listed(names: Iterable[str]) -> str:
    """Join names with commas, the last with `and`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
