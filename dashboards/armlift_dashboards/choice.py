"""What of the results is chosen: which run, as of when, and seen how; all of it stands in the address."""

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from armlift.perspective import Perspective, baselines_of, phases_of
from armlift.rendering.forest_table import SCALES, Scale
from armlift.rendering.words import kind_of
from armlift.report import Report
from armlift.runs import Run
from armlift_dashboards.parts import moment
from armlift_dashboards.stored import Taken

CONFIDENCES = ("80", "90", "95", "99")
ALL = "all units"


class Choice(NamedTuple):
    """How results are looked at."""

    perspective: Perspective
    scale: Scale
    segment: str | None


def choose_run(runs: Sequence[Run], left: DeltaGenerator, right: DeltaGenerator) -> Run:
    """Let an experiment and one of its runs be chosen; runs come newest first, and there is at least one."""
    names = list(dict.fromkeys(run.experiment for run in runs))
    chosen = left.selectbox(
        "Experiment", names, index=None, placeholder=names[0], key="experiment", bind="query-params"
    )
    own = {run.run: run for run in runs if run.experiment == (chosen or names[0])}
    newest = next(iter(own.values()))
    run = right.selectbox(
        "Run", list(own), index=None, key="run", bind="query-params", placeholder=_run_label(newest),
        format_func=lambda one: _run_label(own[one]),
    )  # fmt: skip
    return own.get(run or "", newest)


def _run_label(run: Run) -> str:
    return f"{run.run}: {kind_of(run)}{', synthetic' if run.synthetic else ''}"


def choose_time(taken: Sequence[Taken], column: DeltaGenerator) -> Taken:
    """Let one of a run's snapshots be chosen, by its time; they come newest first."""
    by_id = {one.id: one for one in taken}
    chosen = column.selectbox(
        "As of", list(by_id), index=None, key="as_of", bind="query-params",
        placeholder=f"newest: {moment(taken[0].as_of)}", format_func=lambda one: moment(by_id[one].as_of),
        help="Numbers are cumulative: of all that units did from their first exposure up to this time.",
    )  # fmt: skip
    return by_id.get(chosen or "", taken[0])


def choose_view(report: Report) -> Choice:
    """Let baseline, scale, confidence, phase and segment be chosen; the verdict stays that of the plan."""
    plan = f"{100 * (1 - report.experiment.analysis.alpha):g}"
    first, second, third, fourth, fifth = st.columns(5)
    with first:
        known = baselines_of(report)
        control = st.selectbox(
            "Baseline", known, key="baseline", bind="query-params", disabled=len(known) < 2
        )
    with second:
        scale = st.selectbox("Lift", list(SCALES), key="scale", bind="query-params")
    with third:
        levels = [plan, *(one for one in CONFIDENCES if one != plan)]
        level = st.selectbox("Confidence (%)", levels, key="confidence", bind="query-params")
    with fourth:
        phases = [str(one) for one in phases_of(report)]
        phase = st.selectbox(
            "Phase of first exposure", ["all", *phases], key="phase", bind="query-params",
            disabled=len(phases) < 2, format_func=lambda one: _phase_label(report, one),
        )  # fmt: skip
    with fifth:
        segments = list(dict.fromkeys(one.segment for one in report.comparisons if one.segment is not None))
        segment = st.selectbox(
            "Segment", [ALL, *segments], key="segment", bind="query-params", disabled=not segments
        )
    perspective = Perspective(
        control if control != report.experiment.control else None,
        1.0 - float(level) / 100.0 if level != plan else None,
        int(phase) if phase in phases else None,
    )
    return Choice(perspective, SCALES[scale], segment if segment in segments else None)


def _phase_label(report: Report, phase: str) -> str:
    if phase == "all":
        return "all phases"
    one = report.experiment.phases[int(phase)]
    return f"{phase}: {one.traffic:.0%} of traffic"
