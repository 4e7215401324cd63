"""What matters of a lab's jobs now, as a strip of cards: the last night, what is due next, alerts."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from armlift.rendering.markup import Markup, join, tag
from armlift_dashboards import parts
from armlift_dashboards.jobs import night_of
from armlift_dashboards.jobs_markup import KINDS, Link, status, took
from armlift_pipelines.job_runs import SUCCEEDED
from armlift_pipelines.night import Result

OVERDUE = 600_000
"""Milliseconds after which a job that was due is taken for one that nobody does."""
ALERT_DAYS = 7
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def strip(
    night: Result | None, nexts: Mapping[str, int], alerts: Mapping[str, int], gone: AbstractSet[str],
    now: int, link: Link,
) -> Markup:  # fmt: skip
    """Write the strip; `nexts` has when each job is due, `alerts` counts those of the last days by kind."""
    cards = [_night(night, gone, now, link), _next(nexts, now), _alerts(alerts)]
    return tag("dl", *cards, class_="cards")


def _card(title: str, value: str, *lines: str) -> Markup:
    told = (tag("dd", line) for line in lines if line)
    return tag("div", tag("dt", title), tag("dd", value, class_="value"), *told)


def _night(night: Result | None, gone: AbstractSet[str], now: int, link: Link) -> Markup:
    if night is None:
        return _card("Last night", "none yet", join(tag("code", "armlift nightly"), " does one"))
    run = night.run
    of, day = night_of(run)
    return _card(
        "Last night",
        tag("a", day, href=link(run.id)),
        join(status(run, gone), f" {'for' if run.seconds is None else 'in'} {took(run, gone, now)}"),
        f"run {of}, begun {parts.moment(run.started)}",
        outcome(night),
    )


def outcome(night: Result) -> str:
    """Say in a line what a night came to so far."""
    done = sum(one.status == SUCCEEDED for one in night.steps)
    promoted = [one.arm for one in night.steps if one.step == "promote" and one.outputs.get("promoted")]
    said = [f"{done} of {len(night.steps)} steps done"]
    if promoted:
        said.append(f"{len(promoted):,} new version{' serves' if len(promoted) == 1 else 's serve'}")
    if night.refused:
        said.append(f"refused: {', '.join(one.arm for one in night.refused)}")
    if night.failed:
        said.append(f"failed: {', '.join(f'{one.step} {one.arm}'.strip() for one in night.failed)}")
    return "; ".join(said)


def _next(nexts: Mapping[str, int], now: int) -> Markup:
    if not nexts:
        return _card(
            "Next", "not planned", join(tag("code", "armlift schedule"), " does jobs when they are due")
        )
    first = min(nexts.values())
    late = first < now - OVERDUE
    return _card(
        "Next",
        f"overdue, {parts.ago(first, now)}" if late else until(first, now),
        *(f"{job}: {parts.moment(at)}" for job, at in nexts.items()),
        join("no scheduler is running; ", tag("code", "armlift schedule"), " starts one") if late else "",
    )


def until(ts: int, now: int) -> str:
    """Say in how long a time comes; both are UTC milliseconds."""
    seconds = max(0, ts - now) // 1000
    for size, unit in _UNITS:
        if seconds >= size:
            return f"in {parts.counted(seconds // size, unit)}"
    return "now"


def _alerts(alerts: Mapping[str, int]) -> Markup:
    kinds: Iterator[str] = (
        f"{count:,} × {KINDS.get(kind, ('', kind, ''))[1]}" for kind, count in alerts.items()
    )
    total = sum(alerts.values())
    return _card(
        f"Alerts of the last {ALERT_DAYS} days", f"{total:,}", ", ".join(kinds) or "nothing to know of"
    )
