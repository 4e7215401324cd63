"""Ingest, events and assignments as markup, for the page Traffic."""

from collections.abc import Mapping, Sequence

from armlift.check import Check
from armlift.dead_letters import printable
from armlift.ingest_status import Status
from armlift.ingesters import State
from armlift.rendering.html import BADGES, CHECKS
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.words import percent
from armlift_dashboards import parts
from armlift_dashboards.ingest_watch import Look
from armlift_dashboards.jobs_markup import duration
from armlift_dashboards.series import Arrived
from armlift_dashboards.traffic import Events, Split, day_text


def ingest(look: Look) -> Markup:
    """Write the status of ingest: what is behind, who stores events, what was not stored."""
    found = look.status
    return join(
        _cards(look),
        _partitions(found) if found.partitions else "",
        _ingesters(found.ingesters) if found.ingesters else "",
        _dead_letters(found) if found.dead else "",
    )


def _cards(look: Look) -> Markup:
    found = look.status
    alive = [one for one in found.ingesters if not one.gone]
    gone = len(found.ingesters) - len(alive)
    lately = sum(one.rates()["events_per_second"] for one in alive)
    known = not look.missing and look.trouble is None
    lag = (
        "the database has all that was published" if found.lag == 0 else "published, not in the database yet"
    )
    marks = (
        "reports are up to date with the database"
        if found.marks == 0
        else "days of units to be computed anew"
    )
    cards = [
        (
            "Lag",
            parts.counted(found.lag, "record") if known else "unknown",
            lag if known else "the stream tells it",
        ),
        (
            "Ingesters",
            f"{len(alive)} running" if alive else "none running",
            f"{lately:,.0f} events/s lately" if alive else "",
            f"{gone} gone without a word" if gone else "",
        ),
        ("Waiting for the rollup", parts.counted(found.marks, "mark"), marks),
        (
            "Dead letters",
            f"{found.dead:,}",
            "events that could not be stored" if found.dead else "all was stored",
        ),
    ]
    return tag("dl", *(_card(*card) for card in cards), class_="cards")


def _card(title: str, value: str, *lines: str) -> Markup:
    told = (tag("dd", line) for line in lines if line)
    return tag("div", tag("dt", title), tag("dd", value, class_="value"), *told)


def _partitions(found: Status) -> Markup:
    rows = (
        tag("tr", tag("th", str(one.partition), scope="row"), numbers(*(f"{n:,}" for n in one[1:])))
        for one in found.partitions
    )
    columns = ("Stored", "Published", "Lag")
    head = heads("Partition", *columns, numbers=frozenset(columns))
    table = scrolling("Records by partition; lag is what reports do not know yet", head, tag("tbody", *rows))
    return join(tag("h3", "Lag by partition"), table)


def _ingesters(found: Sequence[State]) -> Markup:
    columns = ("Events/s lately", "Events/s overall", "Events", "New", "Dead letters")
    head = heads("Process", "State", "Started", "Last sign", *columns, "Failures", numbers=frozenset(columns))
    body = tag("tbody", *map(_ingester, found))
    return join(
        tag("h3", "Ingesters"), scrolling("Who moves events from the stream into the database", head, body)
    )


def _ingester(one: State) -> Markup:
    rates, ever = one.rates(), one.figures
    failures = ", ".join(f"{count:,} {kind}" for kind, count in ever.failures.items() if count) or "none"
    error = f"; the last: {printable(ever.last_error)}" if ever.last_error else ""
    badge = parts.badge("✕", "gone", "fail") if one.gone else parts.badge("✓", "running", "ok")
    lately = "-" if one.gone else f"{rates['events_per_second']:,.0f}"
    return tag(
        "tr",
        tag("td", f"{one.host}:{one.pid}"),
        tag("td", badge),
        tag("td", f"{duration(one.age)} ago"),
        tag("td", f"{duration(one.silent)} ago"),
        numbers(lately, f"{rates['mean_events_per_second']:,.0f}"),
        numbers(f"{ever.events:,}", f"{ever.new:,}", f"{ever.bad:,}"),
        tag("td", f"{failures}{error}", class_="wrap"),
    )


def _dead_letters(found: Status) -> Markup:
    rows = [
        tag("tr", tag("td", printable(reason), class_="wrap"), numbers(f"{count:,}"))
        for reason, count in found.reasons.items()
    ]
    if rest := found.dead - sum(found.reasons.values()):
        rows.append(tag("tr", tag("td", "other reasons", class_="wrap"), numbers(f"{rest:,}")))
    head = heads("Reason", "Dead letters", numbers=frozenset({"Dead letters"}))
    table = scrolling("Why events could not be stored", head, tag("tbody", *rows))
    again = tag(
        "p", tag("code", "armlift dead-letters list"), " shows where they are, ",
        tag("code", "armlift dead-letters replay"), " reads them again once the cause is gone.",
        class_="facts",
    )  # fmt: skip
    return join(tag("h3", "Dead letters"), table, again)


def events_table(found: Sequence[Events], names: Mapping[str, str]) -> Markup:
    """Write events by day and run, the newest day first."""
    rows = (
        tag(
            "tr",
            tag("td", day_text(one.day)),
            tag("td", names.get(one.run, one.run)),
            numbers(f"{one.events:,}", f"{one.per_hour:,.0f}"),
            numbers("-" if one.late is None else f"{one.late:,} ({percent(one.late / max(1, one.events))})"),
        )
        for one in found
    )
    columns = ("Events", "Events per hour", "Late")
    head = heads("Day", "Run", *columns, numbers=frozenset(columns))
    caption = (
        "Events as they arrived, repeats included; hours of the day that have passed; late: of live runs"
    )
    return scrolling(caption, head, tag("tbody", *rows))


def split(found: Split, interval: str) -> Markup:
    """Write the units of each arm beside what its weight promises, and what the checks of the split say."""
    rows = (
        tag(
            "tr",
            tag("th", one.arm, scope="row"),
            numbers(f"{one.units:,}", percent(one.units / found.units if found.units else None)),
            numbers(f"{one.expected:,.0f}", percent(one.expected / found.units if found.units else None)),
        )
        for one in found.arms
    )
    columns = ("Units", "Share", "Planned units", "Planned share")
    table = scrolling(
        f"{parts.counted(found.units, 'unit')}, {interval}",
        heads("Arm", *columns, numbers=frozenset(columns)),
        tag("tbody", *rows),
    )
    return join(table, tag("ul", *map(_check, found.checks), class_="checks"))


def _check(check: Check) -> Markup:
    symbol, said = BADGES[check.status]
    value = "" if check.value is None else f" (p = {check.value:.2g})"
    text = tag("p", tag("strong", f"{CHECKS[check.name]}{value}"), f": {check.meaning}")
    return tag("li", parts.badge(symbol, said, check.status), text)


def days_table(days: Sequence[Arrived], arms: Sequence[str]) -> Markup:
    """Write the units of each day of first exposure by arm, the newest day first."""
    by_day: dict[int, dict[str, int]] = {}
    for one in days:
        by_day.setdefault(one.day, {})[one.arm] = one.units
    rows = (
        tag(
            "tr",
            tag("th", day_text(day), scope="row"),
            numbers(*(f"{own.get(arm, 0):,}" for arm in arms), f"{sum(own.values()):,}"),
        )
        for day, own in sorted(by_day.items(), reverse=True)
    )
    columns = [*arms, "all"]
    head = heads("Day", *columns, numbers=frozenset(columns))
    return scrolling("Units by day of first exposure", head, tag("tbody", *rows))


def heading(title: str, text: str, name: str) -> Markup:
    """Write the heading of a part of the page, and what it shows."""
    return titled(title, tag("p", text, class_="facts"), name=name)
