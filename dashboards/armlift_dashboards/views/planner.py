"""The page Planner."""

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st
from sqlalchemy import Engine
from streamlit.delta_generator import DeltaGenerator

from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.planning import LIFT, POWER, Baseline
from armlift.rendering.markup import titled
from armlift.snapshots import Snapshot, find
from armlift.store.database import reading
from armlift_dashboards import draft_form, parts, plan_sections
from armlift_dashboards.plans import (
    Answer,
    Asked,
    Choice,
    choices,
    experiment_of,
    from_numbers,
    from_snapshot,
)
from armlift_dashboards.source import Source

STORED, TYPED = "A stored run", "Numbers typed in"
RATE, MEAN = "A share of units", "A mean per unit"
LOOK_AHEAD = 365


class Based(NamedTuple):
    """What is planned from: an experiment, and its snapshot or numbers."""

    experiment: Experiment
    metric: str
    snapshot: Snapshot | None = None
    baseline: Baseline | None = None


def show(source: Source) -> None:
    """Show the page."""
    st.write("How many units an experiment needs, how many days that takes, and a draft of it to download.")
    found = _choices(source)
    options = [STORED, TYPED]
    kind = st.radio(
        "Plan from", options, index=0 if found else 1, horizontal=True, key="from", bind="query-params"
    )
    based = _stored(source, found) if kind == STORED else _typed(source)
    if based is None:
        return
    asked = _asked(based)
    answer = _answer(based, asked)
    _tell(answer, asked)
    draft_form.show(source, answer, asked, based.experiment)


def _choices(source: Source) -> list[Choice]:
    with reading(source.known) as connection:
        return choices(connection)


@st.cache_data(max_entries=20, show_spinner=False)
def _read(identity: str, where: str, _engine: Engine) -> Snapshot | None:
    with reading(_engine) as connection:
        return find(connection, identity)


@st.cache_data(max_entries=200, show_spinner="Planning ...")
def _planned(identity: str, metric: str, asked: Asked, _snapshot: Snapshot) -> Answer:
    return from_snapshot(_snapshot, metric, asked)


def _stored(source: Source, found: Sequence[Choice]) -> Based | None:
    if not found:
        parts.empty("No report was stored yet, and a plan is made of one.", "armlift report EXPERIMENT")
        return None
    by_name = {one.experiment: one for one in found}
    left, right = st.columns(2)
    name = left.selectbox("Experiment", list(by_name), key="experiment", bind="query-params")
    choice = by_name[str(name)]
    snapshot = _read(choice.snapshot, str(source.known.url), source.known)
    if snapshot is None:
        raise InputError(f"snapshot {choice.snapshot} is gone, load the page again")
    experiment = experiment_of(snapshot)
    metric = right.selectbox("Metric", list(experiment.metrics.roles), key="metric", bind="query-params")
    link = f"results?experiment={experiment.name}&run={snapshot.run}"
    st.markdown(
        f"From the stored report of [run {snapshot.run}]({link}) as of {parts.moment(snapshot.as_of)}."
    )
    return Based(experiment, str(metric), snapshot=snapshot)


def _typed(source: Source) -> Based | None:
    names = source.lab.experiment_names()
    if not names:
        parts.empty("The lab has no experiment whose arms can be planned for.", "armlift init LAB")
        return None
    left, right = st.columns(2)
    name = left.selectbox("Arms and weights of", names, key="weights", bind="query-params")
    kind = right.radio("The metric is", [RATE, MEAN], horizontal=True, key="kind", bind="query-params")
    experiment = source.lab.experiment(str(name))
    first, second, third = st.columns(3)
    if kind == RATE:
        rate = first.number_input(
            "Units that do it (%)", 0.001, 99.999, 10.0, 1.0, format="%g", key="rate", bind="query-params"
        )
        baseline = Baseline.of_rate(rate / 100)
    else:
        mean = first.number_input(
            "Mean of a unit", 1e-6, 1e12, 1.0, 0.1, format="%g", key="mean", bind="query-params"
        )
        deviation = second.number_input(
            "Standard deviation of units", 1e-6, 1e12, 1.0, 0.1, format="%g", key="sd", bind="query-params"
        )
        baseline = Baseline(mean, deviation)
    per_day = (second if kind == RATE else third).number_input(
        "New units a day", 1, 10**9, 1000, 100, key="units-per-day", bind="query-params"
    )
    baseline = baseline._replace(units_per_day=float(per_day))
    return Based(experiment, experiment.metrics.primary[0], baseline=baseline)


def _asked(based: Based) -> Asked:
    analysis = based.experiment.analysis
    columns = st.columns(5)
    lift = _percent(columns[0], "Lift to find (%)", (0.01, 900.0), analysis.smallest_lift or LIFT, "lift")
    power = _percent(columns[1], "Power (%)", (50.0, 99.9), POWER, "power")
    confidence = _percent(columns[2], "Confidence (%)", (50.1, 99.99), 1 - analysis.alpha, "confidence")
    share = columns[3].number_input(
        "Traffic (% of units)", 0.1, 100.0, None, 1.0, format="%g", key="traffic", bind="query-params",
        placeholder="as in the run" if based.snapshot else "100",
    )  # fmt: skip
    days = columns[4].number_input(
        "Days to look ahead", 1, LOOK_AHEAD, 14, 1, key="days", bind="query-params"
    )
    return Asked(lift, power, round(1 - confidence, 12), days, None if share is None else share / 100)


def _percent(
    column: DeltaGenerator, label: str, ends: tuple[float, float], fraction: float, key: str
) -> float:
    """Ask for a percentage between two ends, and give it as a fraction."""
    value = column.number_input(
        label, *ends, round(100 * fraction, 10), 0.5, format="%g", key=key, bind="query-params"
    )
    return round(value / 100, 12)


def _answer(based: Based, asked: Asked) -> Answer:
    if based.snapshot is not None:
        return _planned(based.snapshot.id, based.metric, asked, based.snapshot)
    assert based.baseline is not None
    return from_numbers(based.experiment, based.baseline, asked)


def _tell(answer: Answer, asked: Asked) -> None:
    parts.section(
        titled(
            "What it takes",
            plan_sections.summary(answer, asked),
            plan_sections.table(answer, asked),
            plan_sections.notes(answer),
            name="takes",
        ),
        key="plan",
    )
    lift = answer.needs[0].lift
    by_day = plan_sections.days_chart(answer.by_day, lift)
    if by_day is not None:
        st.subheader("Smallest lift by days", anchor=False)
        told = f"The smallest lift found in {answer.metric} falls as days pass; the lift to find is marked."
        st.altair_chart(by_day, alt=told, key="by-day")
        with st.expander("The numbers by day"):
            parts.section(plan_sections.days_table(answer.by_day), key="days-table")
    by_lift = plan_sections.lifts_chart(answer.by_lift)
    if by_lift is not None:
        st.subheader("Units by lift", anchor=False)
        told = f"The units needed fall steeply as the lift to find in {answer.metric} grows."
        st.altair_chart(by_lift, alt=told, key="by-lift")
        with st.expander("The numbers by lift"):
            parts.section(plan_sections.lifts_table(answer.by_lift), key="lifts-table")
