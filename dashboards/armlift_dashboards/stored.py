"""What is stored of experiments: their runs and snapshots, read once and kept by the snapshot's id."""

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st
from sqlalchemy import Engine, select

from armlift.report import Report
from armlift.reproduction import stored_report
from armlift.runs import Run
from armlift.snapshots import named
from armlift.store.database import reading
from armlift.store.tables import snapshots
from armlift_dashboards.run_units import runs_of
from armlift_dashboards.source import FRESH


class Taken(NamedTuple):
    """A snapshot that was taken: its id, of which run, as of when and made when (UTC milliseconds)."""

    id: str
    run: str
    experiment: str
    as_of: int
    created: int


@st.cache_data(ttl=FRESH, show_spinner=False)
def all_runs(_engine: Engine, url: str) -> list[Run]:
    """Read the runs of a database (`url` names it), the newest first."""
    with reading(_engine) as connection:
        return runs_of(connection)


@st.cache_data(ttl=FRESH, show_spinner=False)
def all_snapshots(_engine: Engine, url: str) -> list[Taken]:
    """List the snapshots of a database (`url` names it): by run, as of the newest day first, made last."""
    columns = [snapshots.c[name] for name in Taken._fields]
    order = (snapshots.c.as_of.desc(), snapshots.c.created.desc())
    with reading(_engine) as connection:
        return [Taken(*row) for row in connection.execute(select(*columns).order_by(*order))]


def newest_of_each_time(taken: Sequence[Taken], run: str, experiment: str) -> list[Taken]:
    """Give a run's snapshots, the newest first; of those as of the same time the one made last."""
    found: dict[int, Taken] = {}
    for one in taken:
        if (one.run, one.experiment) == (run, experiment):
            found.setdefault(one.as_of, one)
    return list(found.values())


@st.cache_data(max_entries=256, show_spinner=False)
def report_of(_engine: Engine, snapshot: str) -> Report:
    """Read the report of a snapshot, which never changes."""
    with reading(_engine) as connection:
        return stored_report(named(connection, snapshot))


def address(engine: Engine) -> str:
    """Name a database in caches; the password stays hidden."""
    return engine.url.render_as_string(hide_password=True)
