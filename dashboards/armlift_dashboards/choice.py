"""What of the results is chosen: which run, as of when, and seen how; all of it stands in the address."""

from collections.abc import Mapping, Sequence
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
ALL_UNITS, ALL_PHASES = "all units", "all phases"


class Choice(NamedTuple):
    """How results are looked at."""

    perspective: Perspective
    scale: Scale
    segment: str | None


def linked(
    column: DeltaGenerator,
    label: str,
    options: Mapping[str, str],
    name: str,
    *,
    newest: str,
    help: str | None = None,
) -> str | None:
    """Let one of some options (value to label) be chosen; the address keeps its value as `name`.

    None, shown as `newest`, is what nobody chose.
    """
    asked = st.query_params.get(name)
    values = list(options)
    index = None if asked is None or asked not in options else values.index(asked)
    # A widget of its own for each value in the address, so that going back in the browser goes back here.
    chosen = column.selectbox(
        label, values, index=index, placeholder=newest, format_func=lambda value: options[value],
        key=f"{name}={asked}", help=help,
    )  # fmt: skip
    if chosen is None:
        st.query_params.pop(name, None)
    elif chosen != asked:
        st.query_params[name] = chosen
    return chosen


def choose_run(runs: Sequence[Run], left: DeltaGenerator, right: DeltaGenerator) -> Run:
    """Let an experiment and one of its runs be chosen; runs come newest first, and there is at least one."""
    names = list(dict.fromkeys(run.experiment for run in runs))
    asked = st.query_params.get("run")
    names.sort(key=lambda name: not any((run.run, run.experiment) == (asked, name) for run in runs))
    name = linked(left, "Experiment", {one: one for one in names}, "experiment", newest=names[0])
    own = {run.run: run for run in runs if run.experiment == (name or names[0])}
    newest = next(iter(own.values()))
    labels = {run: _run_label(one) for run, one in own.items()}
    chosen = linked(right, "Run", labels, "run", newest=f"newest: {_run_label(newest)}")
    return own.get(chosen or "", newest)


def _run_label(run: Run) -> str:
    return f"{run.run}: {kind_of(run)}{', synthetic' if run.synthetic else ''}"


def choose_time(taken: Sequence[Taken], column: DeltaGenerator) -> Taken:
    """Let one of a run's snapshots be chosen, by its time; they come newest first."""
    by_id = {one.id: one for one in taken}
    chosen = linked(
        column, "As of", {one.id: moment(one.as_of) for one in taken}, "as_of",
        newest=f"newest: {moment(taken[0].as_of)}",
        help="Numbers are cumulative: of all that units did from their first exposure up to this time.",
    )  # fmt: skip
    return by_id.get(chosen or "", taken[0])


def choose_view(report: Report) -> Choice:
    """Let baseline, scale, confidence, phase and segment be chosen, where there is a choice.

    The verdict stays that of the plan.
    """
    plan = f"{100 * (1 - report.experiment.analysis.alpha):g}"
    baselines, phases = baselines_of(report), [str(one) for one in phases_of(report)]
    segments = list(dict.fromkeys(one.segment for one in report.comparisons if one.segment is not None))
    levels = [plan, *(one for one in CONFIDENCES if one != plan)]
    asked = {
        "baseline": ("Baseline", baselines, None),
        "scale": ("Lift", list(SCALES), None),
        "confidence": ("Confidence (%)", levels, None),
        "phase": ("Phase of first exposure", [ALL_PHASES, *phases], _phases_told(report)),
        "segment": ("Segment", [ALL_UNITS, *segments], None),
    }
    open_ones = {name: one for name, one in asked.items() if len(one[1]) > (2 if name == "phase" else 1)}
    chosen = {name: options[0] for name, (_, options, _) in asked.items()}
    for column, (name, (label, options, told)) in zip(
        st.columns(len(open_ones)), open_ones.items(), strict=True
    ):
        chosen[name] = column.selectbox(label, options, key=name, bind="query-params", help=told)
    level, phase = chosen["confidence"], chosen["phase"]
    perspective = Perspective(
        chosen["baseline"] if chosen["baseline"] != report.experiment.control else None,
        1.0 - float(level) / 100.0 if level != plan else None,
        int(phase) if phase in phases else None,
    )
    segment = chosen["segment"]
    return Choice(perspective, SCALES[chosen["scale"]], segment if segment in segments else None)


def _phases_told(report: Report) -> str:
    told = (
        f"{number}: {phase.traffic:.0%} of traffic" for number, phase in enumerate(report.experiment.phases)
    )
    return f"Traffic by phase: {'; '.join(told)}"
