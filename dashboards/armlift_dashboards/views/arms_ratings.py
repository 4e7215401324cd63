"""Ratings of prompts: a person rates four lists without a name, and is then told where each came from."""

from collections.abc import Sequence
from time import time
from typing import NamedTuple

import streamlit as st

from armlift.errors import ArmliftError
from armlift.ratings import SCALE, of_arm, store
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag
from armlift.runs import Run
from armlift.store.database import DATABASE_ERRORS, open_database, reading, writing
from armlift_dashboards import parts
from armlift_dashboards.arm_slates import answer, last_prompts, request_of
from armlift_dashboards.arm_versions import Answering, answering, prompting
from armlift_dashboards.blind_lists import LETTERS, Known, Lists, known_items, make_lists
from armlift_dashboards.run_units import Unit, find_unit, met_items, sampled
from armlift_dashboards.sign_in import signed_in_name
from armlift_dashboards.source import Source
from armlift_dashboards.views.arms_choices import choose_run, model, of_run
from armlift_dashboards.views.arms_slates import met_table
from armlift_dashboards.views.arms_standings import SOURCES_ARE, show_standings

SEED = 0
"""By it units are drawn, and the order of their lists."""
DRAWN, TRIED, OTHERS = 400, 25, 20
"""Units drawn at most; of those not rated yet, how many are tried; whose prompts may be the shuffled list."""
RECENT = 12
STATE = "blind"


class Asked(NamedTuple):
    """What a person is asked: the lists of a unit, and once they are rated, the marks.

    `of` names arm, version, run and rater; `kinds` are the feedback by which the arm tells what a unit took.
    """

    of: tuple[str, str, str, str]
    unit: Unit
    kinds: Sequence[str]
    lists: Lists
    marks: Sequence[int] | None


def show(source: Source) -> None:
    """Show what there is to rate, and what the ratings say."""
    names = prompting(source.lab)
    if not names:
        parts.empty("No arm of this lab uses prompts.")
        return
    arm = st.selectbox("Arm with prompts", names, key="prompted", bind="query-params")
    run = choose_run(source)
    if run is not None:
        st.caption(of_run(run))
        _rate(source, arm, run)
    st.divider()
    with reading(source.known) as connection:
        found = of_arm(connection, arm)
    show_standings(found, arm)


def _name_of_rater() -> str:
    """Ask for a name, where nobody is signed in."""
    return st.text_input(
        "Your name", key="rater", bind="query-params", max_chars=200, placeholder="Kept with your ratings"
    )


def _rate(source: Source, arm: str, run: Run) -> None:
    rater = (signed_in_name() or _name_of_rater()).strip()
    with reading(source.known) as connection:
        of = answering(connection, source.lab, run, arm)
    if of is None or of.version is None:
        parts.empty(f"{arm} has no version whose prompts could be rated.", "armlift nightly")
    elif not rater:
        st.info(
            "Write your name, and you will be shown a unit and four lists to rate.", icon=":material/edit:"
        )
    else:
        try:
            asked = _asked(source, run, of, of.version, rater)
        except ArmliftError as error:
            parts.failed(str(error))
            return
        if asked is None:
            st.info("There is no further unit of this run for you to rate.", icon=":material/done_all:")
        elif asked.marks is None:
            _form(source, asked)
        else:
            _reveal(asked)


def _asked(source: Source, run: Run, of: Answering, version: str, rater: str) -> Asked | None:
    """Give what the person is asked now; what was shown stays as it is until the next unit is asked for."""
    key = (of.arm, version, run.run, rater)
    kept: Asked | None = st.session_state.get(STATE)
    if kept is None or kept.of != key:
        with st.spinner("Looking for a unit…"):
            kept = _next(source, run, of, version, rater)
        if kept is not None:
            st.session_state[STATE] = kept
    return kept


def _next(source: Source, run: Run, of: Answering, version: str, rater: str) -> Asked | None:
    """Find the first of the drawn units that the person has not rated; all raters meet them in one order."""
    lab, engine = source.lab, source.known
    arm, known = model(lab, of.arm, version), _known(str(lab.folder), of.arm, version, source)
    people: dict[str, Unit] = {}

    def person(unit: str) -> Unit:
        if unit not in people:
            with reading(engine) as connection:
                people[unit] = find_unit(connection, run, unit, lab.settings.history_limit)
        return people[unit]

    def say(unit: str) -> Sequence[str]:
        return last_prompts(answer(engine, arm, of, request_of(run, person(unit))))

    with reading(engine) as connection:
        key = (version, run.run, rater)
        done = {one.unit_id for one in of_arm(connection, of.arm) if (one.version, one.run, one.rater) == key}
        units = sampled(connection, run, SEED, DRAWN)
        for _, unit in zip(range(TRIED), (one for one in units if one not in done), strict=False):
            others = sampled(connection, run, SEED + 1 + sum(unit.encode()), OTHERS)
            lists = make_lists(
                known, unit, person(unit).history, say, others, rater=rater, seed=SEED
            )  # fmt: skip
            if lists is not None:
                return Asked((of.arm, *key), person(unit), arm.config.history_kinds, lists, None)
    return None


@st.cache_resource(max_entries=4, show_spinner=False)
def _known(folder: str, arm: str, version: str, _source: Source) -> Known:
    return known_items(_source.lab, arm, version)


def _form(source: Source, asked: Asked) -> None:
    unit = asked.unit.unit
    parts.section(
        tag("h3", "What this unit took last"),
        met_table(met_items(asked.unit.history, asked.kinds), RECENT),
        tag("h3", "How well would each list continue it?"),
        tag("p", "1: not at all. 5: very well. Where a list comes from is told after you have saved."),
        key="rated-unit",
    )
    with st.form("rating"):
        marks = []
        for letter, column, (_, items) in zip(
            LETTERS, st.columns(len(LETTERS)), asked.lists.lists, strict=True
        ):
            with column:
                parts.section(tag("h4", f"List {letter}"), listed(items), key=f"list-{letter}")
                mark = st.radio(
                    f"Rating of list {letter}",
                    SCALE,
                    index=None,
                    horizontal=True,
                    key=f"mark-{letter}-{unit}",
                )
                marks.append(mark)
        saved = st.form_submit_button("Save and see where they come from", type="primary")
    if saved:
        given = [mark for mark in marks if mark is not None]
        if len(given) < len(marks):
            st.warning("Rate all four lists, then save.", icon=":material/edit:")
        elif _save(source, asked, given):
            st.session_state[STATE] = asked._replace(marks=given)
            st.rerun()


def listed(items: Sequence[str]) -> Markup:
    """Write the items of a list."""
    return tag("ol", *(tag("li", tag("code", item)) for item in items), class_="blind")


def _save(source: Source, asked: Asked, marks: Sequence[int]) -> bool:
    """Store the ratings, by a connection of their own that may write; tells whether that could be done."""
    arm, version, run, rater = asked.of
    made = asked.lists.rated(marks, arm=arm, version=version, run=run, rater=rater, at=round(time() * 1000))
    try:
        engine = open_database(source.lab)
        try:
            with writing(engine) as connection:
                store(connection, made)
        finally:
            engine.dispose()
    except (ArmliftError, *DATABASE_ERRORS) as error:
        parts.failed(f"The ratings could not be saved: {' '.join(str(error).split())}")
        return False
    return True


def _reveal(asked: Asked) -> None:
    assert asked.marks is not None
    parts.section(*revealed(asked.lists, asked.marks), key="revealed")
    st.button("Next unit", on_click=_forget, type="primary")


def _forget() -> None:
    st.session_state.pop(STATE, None)


def revealed(lists: Lists, marks: Sequence[int]) -> list[Markup]:
    """Say where each list came from, and how it was rated."""
    rows = (
        tag(
            "tr",
            tag("th", f"List {letter}", scope="row"),
            numbers(str(mark)),
            tag("td", tag("strong", source), f": {SOURCES_ARE[source]}"),
            tag("td", ", ".join(items)),
        )
        for letter, mark, (source, items) in zip(LETTERS, marks, lists.lists, strict=True)
    )
    head = heads("List", "Your rating", "It comes from", "Items", numbers=frozenset({"Your rating"}))
    return [
        tag("p", "Saved. ", tag("strong", f"These were the lists of unit {lists.unit}:")),
        scrolling("Where the lists came from", head, tag("tbody", join(*rows))),
    ]
