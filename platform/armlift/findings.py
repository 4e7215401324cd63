"""Findings: what a study found, setting by setting, for all units and by group, and the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from armlift.evaluation import Interval


@dataclass(frozen=True)
class Row:
    """One setting: its values, and their differences to those of `base` on the same units.

    `values` and `differences` are means over units, pooled over seeds, with 95 % intervals. `figures` are the
    medians over seeds, with the least and the greatest, of what is no mean over units, such as times. With
    `no_data` there is none of these, and `reason` says why.
    """

    setting: str
    base: str | None = None
    status: Literal["ok", "no_data"] = "ok"
    reason: str = ""
    units: int = 0
    versions: tuple[str, ...] = ()
    values: Mapping[str, Interval] = field(default_factory=dict)
    differences: Mapping[str, Interval] = field(default_factory=dict)
    figures: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """The rows of all units or of a group of them.

    `best` is the setting with the best value. `stops` is the one from which more stops helping, where the
    settings are more and more of one thing: the first that no later one is better than beyond chance.
    """

    name: str
    units: int
    rows: tuple[Row, ...]
    best: str | None
    stops: str | None
    answer: str


@dataclass(frozen=True)
class Findings:
    """What a study found; the first section has all units. `metric` is what settings are compared by."""

    study: str
    question: str
    arm: str
    metric: str
    split: str
    file_hash: str
    seeds: tuple[int, ...]
    sections: tuple[Section, ...]
    lower_is_better: bool = False
    notes: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """Give the sentence that answers the question, for all units."""
        return self.sections[0].answer


Answer = Callable[[str, Sequence[Row], str | None, str | None], str]
"""Makes the sentence of (metric, rows, best, stops)."""


def default_answer(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Name the best setting and those that differ from their base beyond chance; say so where none does."""
    known = [row for row in rows if row.status == "ok" and metric in row.values]
    if not known:
        return f"No data: {rows[0].reason}." if rows else "No data."
    compared = [row for row in known if metric in row.differences]
    told = [row for row in compared if apart(row.differences[metric])]
    if not compared:
        return f"There is nothing to compare: {known[0].setting} alone has data."
    named = {str(row.base) for row in compared}
    bases = named.pop() if len(named) == 1 else "its base"
    if not told:
        reach = _reach(metric, compared)
        return f"Nothing differs: no setting's {metric} is told apart from that of {bases} ({reach})."
    top = next(row for row in known if row.setting == best)
    said = [_of_best(metric, top, bases)]
    worse = [row for row in told if row.differences[metric].high < 0]
    if worse:
        losses = ", ".join(f"{row.setting} ({signed(row.differences[metric])})" for row in worse)
        said.append(f"worse than {bases} beyond chance: {losses}")
    if stops is not None and stops != known[-1].setting:
        said.append(f"from {stops} on more stops helping")
    return "; ".join(said) + "."


def _of_best(metric: str, top: Row, bases: str) -> str:
    value = top.values[metric].value
    found = top.differences.get(metric)
    if found is None:
        return f"{top.setting} is best, {metric} {value:.4f}"
    if apart(found):
        return f"{top.setting} is best, {metric} {value:.4f}, {signed(found)} against {bases}"
    highest = f"{top.setting} has the highest {metric}, {value:.4f}"
    return f"{highest}, but is not told apart from {bases} ({signed(found)})"


def _reach(metric: str, rows: Sequence[Row]) -> str:
    """Say how large a difference could have stayed unseen."""
    most = max(max(abs(row.differences[metric].low), abs(row.differences[metric].high)) for row in rows)
    return f"all differences lie within ±{most:.4f}"


def apart(found: Interval) -> bool:
    """Tell whether a difference's interval leaves 0 out."""
    return found.low > 0 or found.high < 0


def signed(found: Interval) -> str:
    """Write a difference with its interval."""
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
