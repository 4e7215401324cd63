"""The choices that tabs of the page Arms share: an arm, a scope, a run."""

import streamlit as st
from sqlalchemy import select

from armlift.arm import Arm
from armlift.lab import Lab
from armlift.runs import Run
from armlift.store.database import reading
from armlift.store.tables import models
from armlift_dashboards import arm_slates, parts
from armlift_dashboards.arm_versions import arm_names, scope_label, scopes
from armlift_dashboards.run_units import label_of, runs_of
from armlift_dashboards.source import Source

IN_MEMORY = 12
"""Models that are kept in memory, the ones asked for last."""


def choose_arm(source: Source) -> tuple[str, str | None] | None:
    """Let an arm be chosen, and where it has versions in several, a scope; no scope where it has none."""
    with reading(source.known) as connection:
        names = arm_names(connection, source.lab)
        fitted = {*connection.execute(select(models.c.arm).distinct()).scalars()}
    if not names:
        parts.empty("The lab has no arms yet.", "armlift init LAB")
        return None
    first = next((place for place, name in enumerate(names) if name in fitted), 0)
    left, right = st.columns(2)
    arm = left.selectbox("Arm", names, index=first, key="arm", bind="query-params")
    with reading(source.known) as connection:
        there = scopes(connection, arm)
        runs = runs_of(connection)
    if len(there) < 2:
        return arm, (there[0] if there else None)
    label = right.selectbox(
        "Serves in",
        there,
        format_func=lambda scope: scope_label(scope, runs),
        key="scope",
        bind="query-params",
    )
    return arm, label


def choose_run(source: Source) -> Run | None:
    """Let one of several runs be chosen, the newest first; None, and a line that says so, without any."""
    with reading(source.known) as connection:
        runs = runs_of(connection)
    if not runs:
        parts.empty("There is no run yet, so nobody has met an arm.", "armlift demo")
        return None
    if len(runs) == 1:
        return runs[0]
    by_label = {label_of(run): run for run in runs}
    label = st.selectbox("Run", list(by_label), key="run", bind="query-params")
    return by_label[label]


def of_run(run: Run) -> str:
    """Say of which run something is, in a line."""
    made = "; its users are simulated" if run.synthetic else ""
    return f"Of {label_of(run)}{made}."


def model(lab: Lab, arm: str, version: str) -> Arm:
    """Give a version of an arm, from memory once it was asked for; raises ArmliftError where it cannot."""
    return _loaded(lab.resolve(lab.settings.artefact_url), arm, version, lab)


@st.cache_resource(max_entries=IN_MEMORY, show_spinner="Loading the model…")
def _loaded(url: str, arm: str, version: str, _lab: Lab) -> Arm:
    return arm_slates.load(_lab, arm, version)
