"""The versions of an arm: which serves, which did, which was refused and why."""

from collections.abc import Sequence

from armlift.days import Calendar
from armlift.lab import Lab
from armlift.rendering.markup import Markup, heads, join, scrolling, tag
from armlift.store.database import reading
from armlift_dashboards import parts
from armlift_dashboards.arm_versions import Version, scope_label, versions
from armlift_dashboards.run_units import runs_of
from armlift_dashboards.source import Source
from armlift_dashboards.views.arms_choices import choose_arm

SHOWN = 60
"""Versions in the table, those of the newest data."""
BADGES = {
    "promoted": ("✓", "promoted", "ok"),
    "candidate": ("○", "candidate", ""),
    "retired": ("–", "retired", ""),
    "refused": ("✕", "refused", "fail"),
    "defined": ("◇", "by its definition", ""),
}
"""Symbol, words and class of each state."""


def show(source: Source) -> None:
    """Show the versions of the chosen arm."""
    chosen = choose_arm(source)
    if chosen is None:
        return
    arm, scope = chosen
    if scope is None:
        missing(source.lab, arm)
        return
    with reading(source.known) as connection:
        found = versions(connection, arm, scope)
        runs = runs_of(connection)
    if not found:
        missing(source.lab, arm)
        return
    where = scope_label(scope, runs)
    parts.section(*listed(found, arm, where, source.lab.calendar), key="versions")


def missing(lab: Lab, arm: str) -> None:
    """Say why an arm has no versions."""
    if arm in lab.arm_names() and not lab.nightly.of_arm(arm).steps:
        parts.empty(f"{arm} is trained elsewhere: it answers by its definition, and has no versions.")
    else:
        parts.empty(f"{arm} has no versions yet: it was not trained.", "armlift nightly")


def listed(found: Sequence[Version], arm: str, where: str, calendar: Calendar) -> list[Markup]:
    """Write the versions of an arm: what serves in a sentence, then all of them."""
    serving = next((one for one in found if one.state == "promoted"), None)
    says = "No version serves" if serving is None else f"{serving.version} serves"
    head = heads(
        "Version", "State", f"Data until ({calendar.timezone})", "From", "Began to serve", "By", "Why"
    )
    rows = join(*(_row(one, calendar) for one in found[:SHOWN]))
    caption = f"Versions of {arm} for {where}, those of the newest data first"
    older = len(found) - SHOWN
    note = [tag("p", f"{older:,} older versions are not shown.", class_="muted")] if older > 0 else []
    return [
        tag("p", f"{says} {where}, of {len(found):,} version{'s' if len(found) > 1 else ''}."),
        scrolling(caption, head, tag("tbody", rows), class_="versions"),
        *note,
    ]


def _row(one: Version, calendar: Calendar) -> Markup:
    why = "; ".join(one.reasons) if one.state == "refused" else one.reason
    cells = (
        state(one.state),
        day_and_time(calendar, one.data_until),
        tag("code", one.parent) if one.parent else "nothing",
        "never" if one.promoted is None else parts.moment(one.promoted),
        one.by or "-",
    )
    return tag(
        "tr",
        tag("th", tag("code", one.version), scope="row"),
        *(tag("td", cell) for cell in cells),
        tag("td", why or "-", class_="wrap"),
    )


def state(name: str) -> Markup:
    """Write the state of a version."""
    return parts.badge(*BADGES[name])


def day_and_time(calendar: Calendar, ts: int) -> str:
    """Write a time (UTC milliseconds) in the lab's zone, to the minute."""
    return calendar.show(ts)[:16].replace("T", " ")
