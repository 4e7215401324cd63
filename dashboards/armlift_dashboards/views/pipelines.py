"""The page Pipelines: what nights and other jobs did, when they are due next, and what was alerted."""

from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlencode

import streamlit as st
from sqlalchemy import Engine

from armlift.days import DAY_MS, utc_now
from armlift.errors import ArmliftError
from armlift.rendering.markup import tag, titled
from armlift.store.database import DATABASE_ERRORS, reading
from armlift_dashboards import jobs, jobs_markup, night_strip, parts
from armlift_dashboards.bars import Part, Titles, stacked
from armlift_dashboards.source import FRESH, Source
from armlift_pipelines import alerts, logs
from armlift_pipelines.night import Result
from armlift_pipelines.timetable import planned

ALL = "all"
STATUSES = (ALL, "running", "succeeded", "failed", "skipped")
LIMITS = (20, 50, 100, 500)
ALERTS = 20
RUNNING_EVERY = 5.0
"""Seconds after which what is running is looked at again."""


def show(source: Source) -> None:
    """Show the page."""
    engine = source.known
    night = jobs.last_night(engine)
    run = st.query_params.get("run")
    going = night is not None and jobs_markup.is_going([night.run, *night.steps])
    again = RUNNING_EVERY if going else None
    _refreshed(partial(_strip, engine), again)
    if run:
        _refreshed(partial(_opened, source, run), again)
    parts.section(titled("Runs", name="runs"), key="pipelines-heading")
    _refreshed(partial(_runs, engine, _choice(engine)), again)
    if night is not None:
        _durations(engine)
        _drift(night)
    _alerts(engine)


def _refreshed(show_part: Callable[[], None], every: float | None) -> None:
    """Show a part of the page again every so many seconds; what goes wrong takes its place."""

    def part() -> None:
        try:
            show_part()
        except ArmliftError as error:
            parts.failed(str(error))
        except DATABASE_ERRORS as error:
            parts.failed(f"The database does not answer: {parts.reason(error)}")

    st.fragment(part, run_every=every)()


def _choice(engine: Engine) -> jobs.Choice:
    columns = st.columns(3)
    with columns[0]:
        known = (ALL, *jobs.record_of(engine).jobs())
        job = st.selectbox("Job", known, key="job", bind="query-params")
    with columns[1]:
        status = st.selectbox("Status", STATUSES, key="status", bind="query-params")
    with columns[2]:
        limit = st.selectbox("Show at most", LIMITS, key="limit", bind="query-params")
    return jobs.Choice(None if job == ALL else job, None if status == ALL else status, limit)


def _address(query: Mapping[str, str], run: str) -> str:
    """Give the address of the page with a run opened, or none, and the choices as they are."""
    kept = {name: value for name, value in query.items() if name != "run"} | ({"run": run} if run else {})
    return f"pipelines?{urlencode(kept)}" if kept else "pipelines"


def _link() -> Callable[[str], str]:
    return partial(_address, st.query_params.to_dict())


def _strip(engine: Engine) -> None:
    now = utc_now()
    with reading(engine) as connection:
        nexts = planned(connection)
        told = alerts.counted(connection, now - night_strip.ALERT_DAYS * DAY_MS)
    gone = jobs.record_of(engine).gone()
    parts.section(
        night_strip.strip(jobs.last_night(engine), nexts, told, gone, now, _link()), key="pipelines-now"
    )


def _runs(engine: Engine, choice: jobs.Choice) -> None:
    now = utc_now()
    found = jobs.listing(engine, choice, now)
    if not found.runs and found.looks is None:
        if choice == jobs.Choice(limit=choice.limit):
            parts.empty(
                "No job was done yet. A night retrains, proves and promotes the arms.", "armlift nightly"
            )
        else:
            parts.empty("No run is like that. Choose another job or status.")
        return
    gone = jobs.record_of(engine).gone()
    parts.section(jobs_markup.runs_table(found, gone, now, _link()), key="pipelines-runs")


def _opened(source: Source, identity: str) -> None:
    found = jobs.opened(source.known, identity)
    gone = jobs.record_of(source.known).gone()
    link = _link()
    parts.section(jobs_markup.opened_run(found, gone, utc_now(), link, link("")), key="pipelines-opened")
    if found.run.log is None:
        return
    if not parts.may_see_details():
        parts.forbidden("What steps wrote is shown to owners only.")
        return
    tail = logs.tail(source.lab.folder, found.run.log)
    if tail is None:
        kept = source.lab.nightly.retention.logs
        parts.empty(f"The log {found.run.log} is gone: nights delete logs after {kept}.")
        return
    parts.section(jobs_markup.log(tail, found.run.log), key="pipelines-log")


@st.cache_data(ttl=FRESH, show_spinner=False)
def _spent(_engine: Engine, database: str, run: str) -> list[jobs.Spent]:
    return jobs.spent(_engine, run)


def _durations(engine: Engine) -> None:
    found = jobs.nights_of(engine)
    parts.section(titled("Time of nights", name="time"), key="pipelines-time")
    run = found[0]
    if len(found) > 1:
        run = st.selectbox("Nights of run", found, key="nights", bind="query-params")
    spent = _spent(engine, str(engine.url), run)
    if not spent:
        parts.empty(f"No night of run {run} has done a step yet.")
        return
    bars = [Part(one.night, one.part, one.seconds, one.part) for one in spent]
    chart = stacked(
        bars, jobs.parts_of(spent), Titles("Night", "Seconds of work", "Part of the night"), lying=True
    )
    nights = len({one.night for one in spent})
    st.altair_chart(
        chart, alt=f"Seconds of work of the last {nights} nights of run {run}, by part", key="pipelines-chart"
    )
    with st.expander("The numbers"):
        parts.section(jobs_markup.spent_table(spent), key="pipelines-spent")


def _drift(night: Result) -> None:
    found = jobs.drift_of(night)
    if found is not None:
        parts.section(jobs_markup.drift(found, jobs.in_words(found)), key="pipelines-drift")


def _alerts(engine: Engine) -> None:
    with reading(engine) as connection:
        rows = alerts.newest(connection, ALERTS)
    parts.section(
        titled(
            "Alerts",
            jobs_markup.alerts_table(rows) if rows else tag("p", "Nothing was alerted yet.", class_="facts"),
            name="alerts",
        ),
        key="pipelines-alerts",
    )
