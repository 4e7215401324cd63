"""Jobs, nights and alerts as markup, for the page Pipelines."""

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from armlift.dead_letters import printable
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift_dashboards import parts
from armlift_dashboards.jobs import Listing, Looks, Opened, Spent, night_of, parts_of, shifted
from armlift_pipelines.alerts import Row
from armlift_pipelines.channels import FAILED as UNTOLD
from armlift_pipelines.history import came_to
from armlift_pipelines.job_runs import RUNNING, JobRun
from armlift_pipelines.logs import Tail
from armlift_pipelines.night import JOB as NIGHTLY
from armlift_pipelines.scheduler import MONITOR

Link = Callable[[str], str]
"""Gives the address of the page with a run opened."""

STATUS = {
    "succeeded": ("✓", "ok"),
    "failed": ("✕", "fail"),
    "running": ("▸", "warn"),
    "skipped": ("–", ""),
}
DRIFT = {
    "ok": ("✓", "no drift", "ok"),
    "warn": ("!", "some drift", "warn"),
    "fail": ("✕", "large drift", "fail"),
    "no_data": ("?", "no data", ""),
}
KINDS = {
    "failure": ("✕", "failure", "fail"),
    "guardrail": ("✕", "guardrail", "fail"),
    "error_rate": ("✕", "error rate", "fail"),
    "srm": ("✕", "split is off", "fail"),
    "refused": ("!", "model refused", "warn"),
    "stale_model": ("!", "model too old", "warn"),
    "dead_letters": ("!", "dead letters", "warn"),
}
_EXCERPT = 160


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 120:
        return f"{seconds:,.1f} s"
    minutes = int(seconds // 60)
    return (
        f"{minutes} min {int(seconds % 60)} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    )


def took(run: JobRun, gone: AbstractSet[str], now: int) -> str:
    """Write how long a run took, or has been going at a time (UTC milliseconds)."""
    if run.seconds is not None:
        return duration(run.seconds)
    return "unknown" if run.id in gone else f"{duration(max(0, now - run.started) / 1000)} so far"


def status(run: JobRun, gone: AbstractSet[str]) -> Markup:
    """Write what became of a run, or that its process is gone though it is marked as running."""
    if run.id in gone:
        return parts.badge("✕", "its process is gone", "fail")
    symbol, kind = STATUS.get(run.status, ("?", ""))
    return parts.badge(symbol, run.status, kind)


def what(run: JobRun) -> str:
    """Say what a run was done for."""
    if run.step:
        return " ".join(filter(None, [run.step, run.arm]))
    if run.job == NIGHTLY:
        of, day = night_of(run)
        return f"night {day}, run {of}"
    return f"{run.job} {run.subject}"


def one_line(text: str) -> str:
    """Write a text in one line that no terminal or page obeys, cut short."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"


def runs_table(found: Listing, gone: AbstractSet[str], now: int, link: Link) -> Markup:
    """Write runs as a table, a line each; the monitor's in one where they are not listed."""
    rows = [_run(one, gone, now, link) for one in found.runs]
    if found.looks is not None:
        rows.append(_looks(found.looks, gone, now))
    head = heads("Started", "Took", "Status", "What", "Error", numbers=frozenset({"Took"}))
    return scrolling("Runs of jobs, the newest first", head, tag("tbody", *rows))


def _run(run: JobRun, gone: AbstractSet[str], now: int, link: Link) -> Markup:
    return tag(
        "tr",
        tag("td", parts.moment(run.started)),
        numbers(took(run, gone, now)),
        tag("td", status(run, gone)),
        tag("td", tag("a", what(run), href=link(run.id))),
        tag("td", one_line(run.error or ""), class_="wrap"),
    )


def _looks(looks: Looks, gone: AbstractSet[str], now: int) -> Markup:
    count = parts.counted(looks.looks, "look")
    said = f"monitor: {count} in the last 24 hours, {looks.failed:,} failed; this is the newest"
    return tag(
        "tr",
        tag("td", parts.moment(looks.newest.started)),
        numbers(took(looks.newest, gone, now)),
        tag("td", status(looks.newest, gone)),
        tag("td", tag("a", said, href=f"pipelines?job={MONITOR}")),
        tag("td", one_line(looks.newest.error or ""), class_="wrap"),
        class_="folded",
    )


def opened_run(found: Opened, gone: AbstractSet[str], now: int, link: Link, closed: str) -> Markup:
    """Write one run with what is known of it but its log; `closed` is the address of the page without it."""
    run = found.run
    facts = [
        ("Status", status(run, gone)),
        ("Started", parts.moment(run.started)),
        ("Ended", "-" if run.ended is None else parts.moment(run.ended)),
        ("Took", took(run, gone, now)),
        ("Attempt", str(run.attempt)),
        ("By", run.owner.rpartition(":")[0]),
        ("Came to", came_to(run)),
        ("Hash of its inputs", tag("code", run.inputs_hash)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("Id", tag("code", run.id)),
    ]
    if found.night is not None:
        facts.insert(0, ("Step of", tag("a", what(found.night), href=link(found.night.id))))
    written = (join(tag("dt", name), tag("dd", value)) for name, value in facts if value)
    return titled(
        f"{what(run)[:1].upper()}{what(run)[1:]}",
        tag("p", tag("a", "Close", href=closed), class_="facts"),
        tag("dl", *written, class_="notes"),
        join(tag("h3", "Error"), tag("pre", run.error, class_="log")) if run.error else "",
        _steps(found.steps, gone, now, link) if found.steps else "",
        _plain_data("Inputs", run.inputs),
        _plain_data("Outputs", run.outputs),
        name="opened",
    )


def _steps(steps: Sequence[JobRun], gone: AbstractSet[str], now: int, link: Link) -> Markup:
    rows = (
        tag(
            "tr",
            tag("td", tag("a", one.step, href=link(one.id))),
            tag("td", one.arm or "-"),
            tag("td", {"": "-", "*": "every experiment"}.get(one.scope, one.scope)),
            numbers(str(one.attempt)),
            tag("td", status(one, gone)),
            numbers(took(one, gone, now)),
            tag("td", one_line(one.error or came_to(one)), class_="wrap"),
        )
        for one in steps
    )
    head = heads(
        "Step", "Arm", "Scope", "Attempt", "Status", "Took", "What it came to",
        numbers=frozenset({"Attempt", "Took"}),
    )  # fmt: skip
    return scrolling("Its steps, in the order they began", head, tag("tbody", *rows))


def _plain_data(title: str, data: Mapping[str, Any]) -> Markup:
    if not data:
        return Markup()
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return tag("details", tag("summary", title), tag("pre", text, class_="log"))


def log(found: Tail, path: str) -> Markup:
    """Write the end of a log."""
    lines = len(found.lines)
    said = f"The last {lines:,} lines of {path}" if found.cut else f"{path}: {parts.counted(lines, 'line')}"
    body = "\n".join(found.lines)
    return join(
        tag("h3", "Log"),
        tag("p", f"{said}." if lines else f"{path}: nothing was written.", class_="facts"),
        tag("pre", body, class_="log", tabindex="0", role="region", aria_label="Log") if lines else "",
    )


def spent_table(found: Sequence[Spent]) -> Markup:
    """Write the seconds of nights by part, the newest night first."""
    kinds = parts_of(found)
    by_night: dict[str, dict[str, float]] = {}
    for one in found:
        by_night.setdefault(one.night, {})[one.part] = one.seconds
    rows = (
        tag(
            "tr",
            tag("th", night, scope="row"),
            numbers(*(f"{own[kind]:,.1f}" if kind in own else "-" for kind in kinds)),
            numbers(f"{sum(own.values()):,.1f}"),
        )
        for night, own in reversed(by_night.items())
    )
    columns = [*kinds, "all"]
    head = heads("Night", *columns, numbers=frozenset(columns))
    return scrolling("Seconds of work, all attempts together", head, tag("tbody", *rows))


def drift(found: Mapping[str, Any], words: Sequence[str]) -> Markup:
    """Write the drift of a night: what differs in words, then all measures."""
    n, m = found["behaviours"]
    units = found["units"][0]
    said = (
        f"{n:,} behaviours of {units:,} units on the last day, held against {m:,} of the "
        f"{found['window']} days before."
    )
    rows = (
        tag(
            "tr",
            tag("td", one.name),
            *(numbers("-" if x is None else f"{x:.4f}") for x in (one.value, one.noise, one.limit)),
            tag("td", parts.badge(*DRIFT[one.status])),
        )
        for one in shifted(found)
    )
    columns = ("Found", "By chance", "Seldom more than")
    head = heads("Measure", *columns, "Status", numbers=frozenset(columns))
    table = scrolling("What is held against the days before", head, tag("tbody", *rows))
    return titled(
        "Drift of the last night",
        tag("p", parts.badge(*DRIFT[found["status"]]), f" {said}"),
        tag("ul", *(tag("li", one) for one in words), class_="plain") if words else "",
        tag("details", tag("summary", "All measures"), table),
        name="drift",
    )


def alerts_table(rows: Sequence[Row]) -> Markup:
    """Write alerts as a table, the newest first."""
    body = (
        tag(
            "tr",
            tag("td", parts.moment(one.latest[0])),
            tag("td", parts.badge(*KINDS.get(one.kind, ("!", one.kind, "warn")))),
            tag("td", one.subject),
            tag("td", printable(" ".join(one.latest[1].split())), class_="wrap"),
            numbers(f"{one.repeated + 1:,}"),
            tag("td", told(one.deliveries), class_="reading"),
        )
        for one in rows
    )
    head = heads("Last seen", "Kind", "Of", "What", "Times seen", "Told", numbers=frozenset({"Times seen"}))
    return scrolling("The newest alerts", head, tag("tbody", *body))


def told(deliveries: Mapping[str, str]) -> str:
    """Say who was told of an alert: the channels that took it, and those that did not."""
    if not deliveries:
        return "nobody: no channel is set up for it"
    return ", ".join(
        f"{name}: {'not sent' if outcome.startswith(UNTOLD) else 'sent'}"
        for name, outcome in deliveries.items()
    )


def is_going(runs: Sequence[JobRun]) -> bool:
    """Tell whether any of some runs is marked as running."""
    return any(one.status == RUNNING for one in runs)
