"""Slates of a unit: what each arm of an experiment would show it now, side by side."""

from collections.abc import Sequence
from urllib.parse import urlencode

import streamlit as st

from armlift.arm import Behaviour, Prompt, Slate
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.words import plain
from armlift.runs import Run
from armlift.store.database import reading
from armlift_dashboards import parts
from armlift_dashboards.arm_slates import Column, answered, columns
from armlift_dashboards.run_units import Met, Unit, examples, find_unit, label_of, met_items
from armlift_dashboards.source import Source
from armlift_dashboards.views.arms_choices import choose_run, model, of_run
from armlift_dashboards.views.arms_versions import day_and_time, state

EXAMPLES = 5
RECENT = 25
"""Items of a history that are shown, the last ones."""


def show(source: Source) -> None:
    """Show slates of the unit that is asked for; without one, nothing is loaded."""
    run = choose_run(source)
    if run is None:
        return
    asked = st.text_input("Unit", key="unit", bind="query-params", max_chars=200, placeholder="A unit's id")
    with reading(source.known) as connection:
        some = examples(connection, run, EXAMPLES)
    parts.section(*introduced(run, some), key="examples")
    if not asked or not asked.strip():
        return
    with reading(source.known) as connection:
        unit = find_unit(connection, run, asked.strip(), source.lab.settings.history_limit)
    if not unit.known:
        # Whatever the address holds is text here, where Streamlit's messages would read it as Markdown.
        parts.section(tag("p", unknown(asked.strip(), run)), key="unknown")
        return
    with st.spinner("Asking the arms…"):
        found = columns(
            source.known, source.lab, run, unit, lambda arm, version: model(source.lab, arm, version)
        )
    zone = source.lab.calendar
    marks = {one.arm: day_and_time(zone, one.answering.data_until) for one in found
             if one.answering is not None and one.answering.data_until is not None}  # fmt: skip
    parts.section(
        met(unit, run), side_by_side(found, unit, marks, zone.timezone), history(unit), key="slates"
    )


def unknown(asked: str, run: Run) -> str:
    """Say that nothing is known of a unit."""
    return f"Nothing is known of the unit {asked} in {label_of(run)}: it met no arm there and did nothing."


def introduced(run: Run, some: Sequence[str]) -> list[Markup]:
    """Say of which run the units are, and link to a few of them."""
    if not some:
        return [tag("p", of_run(run), " Nobody has met an arm in it yet.", class_="facts")]
    links = (
        tag(
            "li",
            tag("a", unit, href=f"arms?{urlencode({'show': 'Slates', 'run': label_of(run), 'unit': unit})}"),
        )
        for unit in some
    )
    return [
        tag("p", of_run(run), " Some of its units:", class_="facts"),
        tag("ul", *links, class_="examples"),
    ]


def met(unit: Unit, run: Run) -> Markup:
    """Say what is known of a unit."""
    merged = f"The id {unit.asked} was merged into the unit {unit.unit}. " if unit.asked != unit.unit else ""
    did = f"{len(unit.history):,} behaviours are read" if unit.history else "It did nothing yet"
    if unit.arm is None or unit.ts is None:
        return tag("p", f"{merged}The unit has not met an arm of {run.experiment}. {did}.")
    return tag(
        "p", f"{merged}The unit met ", tag("strong", unit.arm), f" first, on {parts.moment(unit.ts)}. {did}."
    )


def side_by_side(found: Sequence[Column], unit: Unit, marks: dict[str, str], timezone: str) -> Markup:
    """Write the arms' slates beside one another; `marks` say until when each arm's data go."""
    parts_of = (_column(one, unit, marks.get(one.arm), timezone) for one in found)
    return titled("What each arm would show now", tag("div", *parts_of, class_="side-by-side"), name="slates")


def _column(one: Column, unit: Unit, until: str | None, timezone: str) -> Markup:
    mine = tag("span", " (the unit's arm)", class_="muted") if one.arm == unit.arm else ""
    heading = tag("h3", one.arm, mine)
    facts = "" if one.answering is None else _facts(one, until, timezone)
    if one.slate is None:
        return tag("section", heading, facts, tag("p", one.trouble or ""), aria_label=one.arm)
    prompts = _prompts(one.prompts, unit.history)
    return tag("section", heading, facts, slate_table(one.slate, one.arm), prompts, aria_label=one.arm)


def _facts(one: Column, until: str | None, timezone: str) -> Markup:
    assert one.answering is not None
    version = [tag("code", one.answering.version), " "] if one.answering.version else []
    data = [] if until is None else [f" data until {until} ({timezone})"]
    return tag("p", *version, state(one.answering.state), *data, class_="facts")


def slate_table(slate: Slate, arm: str) -> Markup:
    """Write a slate out: place, item, score, recall step."""
    if not slate.items:
        return tag("p", "It has nothing left to show.")
    rows = (
        tag(
            "tr",
            tag("td", str(place), class_="number"),
            tag("th", item, scope="row"),
            numbers(plain(score), str(step)),
        )
        for place, (item, score, step) in enumerate(
            zip(slate.items, slate.scores, slate.steps, strict=True), 1
        )
    )
    head = heads("Place", "Item", "Score", "Step", numbers=frozenset({"Place", "Score", "Step"}))
    fallback = " Another policy answered in its name." if slate.fallback else ""
    return scrolling(f"Slate of {arm}.{fallback}", head, tag("tbody", join(*rows)))


def _prompts(prompts: Sequence[Prompt], history: Sequence[Behaviour]) -> Markup:
    if not prompts:
        return Markup("")
    rows = (
        tag("li", "after ", tag("code", answered(one, history)), ": ", tag("code", one.item),
            f" ({'stored' if one.stored else 'generated now'})")
        for one in prompts
    )  # fmt: skip
    return join(tag("h4", "Prompts in view"), tag("ul", *rows, class_="prompts"))


def history(unit: Unit) -> Markup:
    """Write out what a unit did last, the newest last."""
    return titled("What the unit did", met_table(met_items(unit.history), RECENT), name="history")


def met_table(items: Sequence[Met], recent: int) -> Markup:
    """Write out the last items that a unit met, the newest last."""
    if not items:
        return tag("p", "Nothing that is stored.")
    rows = (
        tag(
            "tr",
            tag("td", parts.moment(one.ts)),
            tag("th", one.item, scope="row"),
            tag("td", ", ".join(one.did)),
        )
        for one in items[-recent:]
    )
    caption = f"The last {min(recent, len(items))} items of {len(items)}, the newest last"
    return scrolling(caption, heads("When", "Item", "What it did"), tag("tbody", join(*rows)))
