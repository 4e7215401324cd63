"""The page Traffic: whether events come in, how many, and which units meet which arm."""

from collections.abc import Sequence
from functools import partial

import streamlit as st
from sqlalchemy import Engine

from armlift.days import utc_now
from armlift.errors import ArmliftError
from armlift.ingest_status import Status
from armlift.lab import Lab
from armlift.runs import LIVE
from armlift.store.database import DATABASE_ERRORS, reading
from armlift_dashboards import parts, traffic, traffic_markup
from armlift_dashboards.bars import Part, Titles, stacked
from armlift_dashboards.ingest_watch import IngestWatch
from armlift_dashboards.source import FRESH, Source
from armlift_dashboards.traffic import Events, RunOf, Split

EVERY = 5.0
"""Seconds after which ingest is looked at again."""


def show(source: Source) -> None:
    """Show the page."""
    live = st.toggle("Look again every 5 seconds", value=True, key="live", bind="query-params")
    watch = _watch(source.lab, source.known, str(source.lab.folder), source.lab.settings.model_dump_json())
    st.fragment(partial(_ingest, watch), run_every=EVERY if live else None)()
    _events(source)
    _assignments(source)


@st.cache_resource(show_spinner=False, max_entries=8, on_release=IngestWatch.close)
def _watch(_lab: Lab, _engine: Engine, folder: str, settings: str) -> IngestWatch:
    """Watch a lab's stream once for all who look, anew where its settings change."""
    return IngestWatch(_lab, _engine)


def _ingest(watch: IngestWatch) -> None:
    try:
        look = watch.look()
    except ArmliftError as error:
        parts.failed(str(error))
        return
    except DATABASE_ERRORS as error:
        parts.failed(f"The database does not answer: {parts.reason(error)}")
        return
    if look.trouble is not None:
        parts.failed(f"The stream cannot be reached: {look.trouble}")
    if look.missing:
        parts.empty("There is no stream yet: it is made when the first event is published.")
    parts.section(traffic_markup.ingest(look), key="traffic-ingest")
    _nobody(look.status, missing=look.missing)


def _nobody(status: Status, *, missing: bool) -> None:
    """Say how an ingester is started, where there is none and something waits for one, or may."""
    if missing or any(not one.gone for one in status.ingesters):
        return
    text = "Replays and simulations bring their own; live events need one."
    if status.lag:
        parts.stale(f"No ingester is running; not stored yet: {parts.counted(status.lag, 'record')}. {text}")
        st.code("armlift ingest", language="shell")
    else:
        parts.empty(f"No ingester is running. {text}", "armlift ingest")


@st.cache_data(ttl=FRESH, show_spinner=False)
def _counted(_source: Source, folder: str, database: str) -> tuple[list[Events], dict[str, str]]:
    with reading(_source.known) as connection:
        now = utc_now()
        return traffic.events(connection, _source.lab.calendar, now), traffic.labels(connection)


def _events(source: Source) -> None:
    zone = source.lab.calendar.timezone
    said = f"Days are the lab's ({zone}). Of live runs, late events came longer after they happened than "
    said += "the setting lateness allows; they count all the same."
    parts.section(traffic_markup.heading("Events by day", said, "events"), key="traffic-events")
    found, names = _counted(source, str(source.lab.folder), str(source.known.url))
    if not found:
        parts.empty("Nothing was ingested yet. The demo makes a lab with simulated users.", "armlift demo")
        return
    bars, kinds = _event_parts(found, names)
    chart = stacked(bars, kinds, Titles("Day", "Events", "Run"))
    total, days = sum(one.events for one in found), len({one.day for one in found})
    st.altair_chart(chart, alt=f"{total:,} events of {days} days, by run", key="traffic-events-chart")
    with st.expander("The numbers"):
        parts.section(traffic_markup.events_table(found, names), key="traffic-events-table")


def _event_parts(found: Sequence[Events], names: dict[str, str]) -> tuple[list[Part], list[str]]:
    """Stack events by day, the earliest first; a letter names each run in its bars. Gives the runs too."""
    apart = traffic.grouped(found)
    runs = [*apart, traffic.OTHERS]
    labels = {run: f"{_letter(number)}: {names.get(run, run)}" for number, run in enumerate(runs)}
    sums: dict[tuple[int, str], int] = {}
    for one in found:
        place = one.day, one.run if one.run in apart else traffic.OTHERS
        sums[place] = sums.get(place, 0) + one.events
    bars = [
        Part(traffic.day_text(day), labels[run], sums[day, run], labels[run].partition(":")[0])
        for day, run in sorted(sums)
    ]
    return bars, [labels[run] for run in runs if any(run == other for _, other in sums)]


def _letter(number: int) -> str:
    """Give what names a part in its bars: A, B, ... Z, then numbers."""
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _assignments(source: Source) -> None:
    said = "Which arm units met first, as of the newest report of a run, beside what its weights promise."
    parts.section(traffic_markup.heading("Assignments", said, "assignments"), key="traffic-assignments")
    with reading(source.known) as connection:
        known = traffic.experiments(connection)
    if not known:
        parts.empty("No experiment has a run yet.", "armlift experiment start NAME --reason TEXT")
        return
    left, right = st.columns(2)
    with left:
        experiment = st.selectbox("Experiment", known, key="experiment", bind="query-params")
    with reading(source.known) as connection:
        runs = {one.run: one for one in traffic.runs_of(connection, experiment)}
    with right:
        run = st.selectbox("Run", list(runs), key="run", bind="query-params")
    if run in runs:
        _assigned(source, experiment, runs[run])


@st.cache_data(max_entries=64, show_spinner=False)
def _split(_engine: Engine, database: str, snapshot: str) -> Split | None:
    with reading(_engine) as connection:
        return traffic.split_of(connection, snapshot)


def _assigned(source: Source, experiment: str, run: RunOf) -> None:
    found = _split(source.known, str(source.known.url), run.snapshot) if run.snapshot else None
    if found is None:
        when = "Nights make one, or" if run.mode == LIVE else "It is made by"
        parts.empty(
            f"Run {run.run} has no report yet, so its units are not counted. {when} this command:",
            f"armlift report {experiment} --run {run.run}",
        )
        return
    if run.paired:
        parts.empty("Every unit of this run meets every arm: there is no split to look at.")
        return
    parts.section(traffic_markup.split(found, f"as of {parts.moment(found.as_of)}"), key="traffic-split")
    if found.days:
        _days(found)
    elif found.units:
        parts.stale("This report was made by an older version, which did not keep days by arm.")


def _days(found: Split) -> None:
    arms = [one.arm for one in found.arms]
    labels = {arm: f"{_letter(number)}: {arm}" for number, arm in enumerate(arms)}
    bars = [
        Part(traffic.day_text(one.day), labels[one.arm], one.units, labels[one.arm].partition(":")[0])
        for one in sorted(found.days, key=lambda one: one.day)
    ]
    chart = stacked(bars, list(labels.values()), Titles("Day of first exposure", "Units", "Arm"))
    days = len({one.day for one in found.days})
    st.altair_chart(chart, alt=f"Units by arm on each of {days} days", key="traffic-days-chart")
    with st.expander("The numbers by day"):
        parts.section(traffic_markup.days_table(found.days, arms), key="traffic-days")
