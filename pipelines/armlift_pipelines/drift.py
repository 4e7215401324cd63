"""Drift: whether the last day of a run is like the days before, in items, behaviours and units."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection

from armlift.days import DAY_MS, utc_text
from armlift.errors import InputError
from armlift_pipelines import drift_counts as counts
from armlift_pipelines.drift_counts import Span
from armlift_pipelines.prompt_quality import PromptQuality, prompt_quality, stored_versions
from armlift_pipelines.shifts import BITS, Counts, Shift, binned, divergence, stability, turnover, unseen

WINDOW = 7
"""Days a day is held against."""
TOP = 100
"""Items of most behaviours whose turnover is told."""
WARN, FAIL = 0.10, 0.25
"""The rule of thumb of the PSI: below .1 no shift to speak of, from .25 on a large one."""
SOURCE = "Siddiqi 2006, Credit Risk Scorecards"
"""Where that rule is from; the JS is held to the same, divided by 8 ln 2; shares to .1 and .25."""
WIDTH = 80

Status = Literal["ok", "warn", "fail", "no_data"]
_ORDER: tuple[Status, ...] = ("no_data", "ok", "warn", "fail")


class Measure(NamedTuple):
    """One measure of drift: its name, its steps of warning and failure, and what was found, if anything."""

    name: str
    warn: float
    fail: float
    shift: Shift | None

    @property
    def status(self) -> Status:
        """Judge what goes beyond chance: neither a small excess nor one that chance may make is drift."""
        if self.shift is None:
            return "no_data"
        excess = self.shift.value - self.shift.noise
        if excess < self.warn or self.shift.value <= self.shift.limit:
            return "ok"
        return "fail" if excess >= self.fail else "warn"

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data; what is not known is null."""
        found = dict.fromkeys(Shift._fields) if self.shift is None else self.shift._asdict()
        return {"name": self.name, "status": self.status, "warn": self.warn, "fail": self.fail, **found}


@dataclass(frozen=True)
class Drift:
    """The drift of a day of a run against the window before it; times are UTC milliseconds.

    `behaviours` and `units` count those of the day, then those of the window.
    """

    run: str
    since: int
    day: int
    until: int
    window: int
    behaviours: tuple[int, int]
    units: tuple[int, int]
    measures: tuple[Measure, ...]
    prompts: tuple[PromptQuality, ...]

    @property
    def status(self) -> Status:
        """Give the worst status of all measures."""
        return max((one.status for one in self.measures), key=_ORDER.index)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "run": self.run,
            "since": self.since,
            "day": self.day,
            "until": self.until,
            "window": self.window,
            "status": self.status,
            "rule": SOURCE,
            "behaviours": list(self.behaviours),
            "units": list(self.units),
            "measures": [one.as_dict() for one in self.measures],
            "prompts": [one.as_dict() for one in self.prompts],
        }


def drift(
    connection: Connection,
    run: str,
    *,
    until_ms: int,
    day_ms: int = DAY_MS,
    window: int = WINDOW,
    kinds: Sequence[str] | None = None,
    top: int = TOP,
) -> Drift:
    """Hold the day that ends before `until_ms` against the `window` days before it.

    A day lasts `day_ms`. Behaviours are the feedback of the kinds given, all where none is. Prompts are
    judged by the day after they were written, as far as it has come. Raises InputError for no time at all.
    """
    if day_ms < 1 or window < 1:
        raise InputError(f"drift: day_ms {day_ms} and window {window} must both be 1 or more")
    span = Span(run, until_ms - day_ms, until_ms, window, kinds)
    items = counts.pairs(connection, span)
    per_day = counts.per_unit_day(connection, span)
    return Drift(
        run,
        span.since,
        span.day,
        until_ms,
        window,
        (sum(pair.n * pair.items for pair in items), sum(pair.m * pair.items for pair in items)),
        counts.units(connection, span),
        (
            Measure("item shares, JS in bits", WARN / BITS, FAIL / BITS, divergence(items)),
            Measure("behaviours on new items", WARN, FAIL, unseen(items)),
            Measure(f"turnover of the top {top}", WARN, FAIL, turnover(items, top)),
            _psi("behaviours per unit", binned(per_day)),
            _psi("history length", binned(counts.history_lengths(connection, span))),
            _psi("kinds of feedback", counts.kinds(connection, span).values()),
            _psi("hour of day (UTC)", counts.hours(connection, span).values()),
            _psi("seconds of play", counts.play_tenths(connection, span)),
            *_attributes(connection, span),
        ),
        tuple(_prompts(connection, span)),
    )


def _psi(name: str, found: Iterable[Counts]) -> Measure:
    return Measure(f"{name}, PSI", WARN, FAIL, stability(found))


def _attributes(connection: Connection, span: Span) -> Iterator[Measure]:
    for attribute, values in sorted(counts.attributes(connection, span).items()):
        yield _psi(f"units by {attribute}", values.values())


def _prompts(connection: Connection, span: Span) -> Iterator[PromptQuality]:
    """Measure the prompts of each version whose day after ends in this span's day, or lies in part in it."""
    for arm, version, written in stored_versions(connection, span.until):
        end = written + span.length
        if end > span.day:
            yield prompt_quality(
                connection, span.run, arm, version, written, min(end, span.until), span.kinds
            )


def render(found: Drift) -> str:
    """Write it for people, in lines of at most 80 characters."""
    n, m = found.behaviours
    lines = [
        f"Drift of run {found.run}: {found.status}"[:WIDTH],
        f"{utc_text(found.day)} to {utc_text(found.until)}, against {found.window} days before",
        f"{n:,} behaviours of {found.units[0]:,} units; before {m:,} of {found.units[1]:,}",
        "",
        f"{'':34}{'value':>9}{'by chance':>11}{'at most':>9}  status",
        *(_measure_line(one) for one in found.measures),
        "",
        "by chance: expected where nothing has changed; at most: in 999 of 1,000 cases.",
        f"What goes beyond is judged: from {WARN:g} on warn, from {FAIL:g} on fail",
        f"({SOURCE}); for JS these by 8 ln 2.",
    ]
    if found.prompts:
        lines += ["", f"{'prompts of':34}{'units':>8}{'hit':>8}{'shown':>8}{'distinct':>10}{'score':>9}"]
        lines += [_prompts_line(one) for one in found.prompts]
        lines.append("hit: share of units that took an item they were prompted with, the day after.")
    return "\n".join(lines)


def _measure_line(one: Measure) -> str:
    if one.shift is None:
        return f"{_cut(one.name):34}{'-':>9}{'-':>11}{'-':>9}  no data"
    value, noise, limit = one.shift[:3]
    return f"{_cut(one.name):34}{value:9.4f}{noise:11.4f}{limit:9.4f}  {one.status}"


def _prompts_line(one: PromptQuality) -> str:
    shares = (f"{share:.1%}" if share is not None else "-" for share in (one.hit, one.shown, one.distinct))
    hit, shown, distinct = shares
    score = f"{one.score:.3g}" if one.score is not None else "-"
    name = _cut(f"{one.arm} {one.version}")
    return f"{name:34}{one.units:>8,}{hit:>8}{shown:>8}{distinct:>10}{score:>9}"


def _cut(text: str, width: int = 33) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
