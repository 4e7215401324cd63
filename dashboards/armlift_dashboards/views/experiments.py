"""The page Experiments: every experiment of the lab, how it stands, and the lift it tells."""

from functools import partial
from urllib.parse import urlencode

import streamlit as st

from armlift.days import utc_now
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag
from armlift.rendering.words import between, count, signed
from armlift_dashboards import parts
from armlift_dashboards.overview import Overview, overviews
from armlift_dashboards.source import Source
from armlift_dashboards.stored import address, all_runs, all_snapshots, report_of

COLUMNS = ("Experiment", "Status", "Arms", "Traffic", "Days", "Units", "Primary lift", "As of")


def show(source: Source) -> None:
    """Show every experiment."""
    now = utc_now()
    engine, url = source.known, address(source.known)
    read = partial(report_of, engine)
    found = overviews(source.lab, engine, all_runs(engine, url), all_snapshots(engine, url), read, now)
    if not found:
        parts.empty("There is no experiment yet.", "armlift init LAB")
        return
    for one in found:
        if one.stale:
            parts.stale(
                f"{one.name} is live and has no report of the last two days; `armlift schedule` makes "
                "one every night."
            )
    table = scrolling(
        "Experiments: those that run first, drafts last",
        heads(*COLUMNS, numbers=frozenset({"Traffic", "Days", "Units"})),
        tag("tbody", *(_row(one, now) for one in found)),
        class_="experiments",
    )
    st.caption(
        "Primary lift: of the best arm in the first primary metric, against the control, with its interval. "
        "Times are yours, days the lab's."
    )
    parts.section(table, _meanings(), key="experiments")


def _row(one: Overview, now: int) -> Markup:
    cells = join(
        tag("td", parts.badge(*one.badge)),
        tag("td", _arms(one), class_="wrap"),
        numbers(f"{one.traffic:.0%}", "-" if one.days is None else str(one.days)),
        numbers("-" if one.units is None else count(one.units)),
        tag("td", _lift(one)),
        tag("td", "-" if one.at is None else tag("span", parts.moment(one.at), title=parts.ago(one.at, now))),
    )
    return tag("tr", tag("th", _name(one), scope="row"), cells)


def _name(one: Overview) -> Markup:
    marks = [parts.badge("◇", "synthetic", "stamp")] if one.synthetic else []
    if one.run is None:
        return join(tag("strong", one.name), *marks)
    link = tag("a", one.name, href=f"results?{urlencode({'experiment': one.name, 'run': one.run})}")
    return join(tag("strong", link), " ", tag("span", one.mode or "", class_="small"), *marks)


def _arms(one: Overview) -> str:
    others = [name for name in one.arms if name != one.control]
    return f"{', '.join(others) or 'none'} against {one.control}"


def _lift(one: Overview) -> Markup:
    lead = one.leads
    if lead is None:
        return tag("span", "-")
    if lead.lift is None:
        return tag("span", f"{lead.metric}: {lead.status.replace('_', ' ')}")
    return join(
        tag("strong", signed(lead.lift)),
        f" {lead.metric} of {lead.arm}",
        tag("span", between(lead.lift_low, lead.lift_high), class_="small"),
    )


def _meanings() -> Markup:
    texts = (
        ("healthy", "checks hold; the verdict is open, or there is no plan to count days by"),
        ("unhealthy", "a trust check failed: read no lift before it is mended"),
        ("no data", "nobody has met an arm, or there is no report yet"),
        (
            "N days left",
            "until the planned units are there, or those that the smallest lift of interest takes",
        ),
        ("ready to ship", "an arm is better beyond chance, and its guardrails hold"),
        ("stopped", "ended for good; shipped: somebody decided so on a snapshot"),
    )
    entries = (join(tag("dt", name), tag("dd", text)) for name, text in texts)
    return tag("details", tag("summary", "What the words mean"), tag("dl", *entries, class_="notes"))
