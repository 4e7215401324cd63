"""The page Results: what a run says, the verdict first, then everything it rests on."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from armlift.comparisons import Comparison
from armlift.days import utc_now
from armlift.errors import InputError
from armlift.perspective import Seen, see
from armlift.rendering.forest_table import Scale, all_units, forest_table
from armlift.rendering.formulas import ALWAYS_VALID, FORMULAS
from armlift.rendering.html import banner, bias, note, render, resolution
from armlift.rendering.markup import Markup, join, tag, titled
from armlift.rendering.predicted_section import predicted_section
from armlift.rendering.reading import gain_of, interval_name, shown
from armlift.rendering.tables import left_out, origin
from armlift.rendering.truth_section import truth_section
from armlift.rendering.verdict_section import verdict_section
from armlift.report import Report
from armlift.trust import BIASING
from armlift_dashboards import exports, over_time, parts
from armlift_dashboards.choice import Choice, choose_run, choose_time, choose_view
from armlift_dashboards.overview import is_stale
from armlift_dashboards.progress_bar import power_bar
from armlift_dashboards.source import Source
from armlift_dashboards.stored import Taken, address, all_runs, all_snapshots, newest_of_each_time, report_of
from armlift_dashboards.trust_strip import trust_strip


def show(source: Source) -> None:
    """Show the results of a run that is chosen."""
    engine, url = source.known, address(source.known)
    runs = all_runs(engine, url)
    if not runs:
        parts.empty("Nothing has run yet, so there are no results.", "armlift demo")
        return
    left, middle, right = st.columns([2, 3, 2])
    run = choose_run(runs, left, middle)
    taken = newest_of_each_time(all_snapshots(engine, url), run.run, run.experiment)
    if not taken:
        parts.empty(
            f"Run {run.run} of {run.experiment} has no report yet.",
            f"armlift report {run.experiment} --run {run.run}",
        )
        return
    at = choose_time(taken, right)
    if is_stale(run, taken[0], utc_now()):
        parts.stale(
            f"This run is live, and its newest report is of {parts.moment(taken[0].as_of)}. One is made "
            f"every night by `armlift schedule`, and now by `armlift report {run.experiment}`."
        )
    report = report_of(engine, at.id)
    choice = choose_view(report)
    try:
        seen = see(report, choice.perspective)
    except InputError as error:
        parts.failed(str(error))
        return
    _verdict(report)
    _lifts(seen, choice)
    read = partial(_seen, partial(report_of, engine), choice)
    over_time.show(seen.report, taken, at.as_of, read, choice.scale, source.lab.calendar)
    _rest(seen, choice)
    _downloads(seen.report, choice.scale, at)


def _seen(read: "partial[Report]", choice: Choice, snapshot: str) -> Report:
    return see(read(snapshot), choice.perspective).report


def _verdict(report: Report) -> None:
    """Show what to do, what it rests on, and how far the run has come."""
    stamps = [banner()] if report.run.synthetic else []
    stamps += [note()] if report.run.modelled else []
    parts.section(
        *stamps,
        verdict_section(report),
        *(bias(check) for check in report.checks if check.name in BIASING),
        titled("Can it be trusted?", trust_strip(report.checks), name="trust"),
        titled("How far is it?", power_bar(report), name="power"),
        resolution(report),
        key="verdict",
    )


def _lifts(seen: Seen, choice: Choice) -> None:
    """Show every comparison: of all units, or of the segment that is chosen."""
    report, gain = seen.report, gain_of(seen.report)
    against = report.experiment.control
    if choice.perspective != (None, None, None):
        st.caption("You look at this otherwise than the plan says; the verdict above stays that of the plan.")
    if seen.left_out:
        st.caption(
            f"Not kept for this view: {', '.join(seen.left_out)}. Quantiles are kept of all units, at the "
            "plan's confidence."
        )
    sections = []
    for title, roles, name in (
        (f"{gain.capitalize()} against {against}", ("primary", "secondary"), "lift"),
        ("Guardrails", ("guardrail",), "guardrails"),
    ):
        rows = _rows(report, choice, *roles)
        if rows:
            caption = f"{title}{'' if choice.segment is None else ', ' + choice.segment}"
            table = forest_table(report, rows, choice.scale, caption)
            sections.append(titled(title, _legend(report, roles), table, name=name))
    parts.section(*sections, key="lifts")


def _rows(report: Report, choice: Choice, *roles: str) -> list[Comparison]:
    if choice.segment is None:
        return all_units(report, *roles)
    return [one for one in shown(report) if one.segment == choice.segment and one.role in roles]


def _legend(report: Report, roles: tuple[str, ...]) -> Markup:
    text = (
        f"Thick: the {interval_name(report)} of a fixed end. Thin: the one that holds at every look"
        f"{', which decides here' if report.early else ''}. "
    )
    if "guardrail" in roles:
        text += "Dashed: the margin, which the interval must not pass on its bad side."
    else:
        text += "Below each mean: what it was divided from, before any adjustment."
    return tag("p", text, class_="small")


def _rest(seen: Seen, choice: Choice) -> None:
    """Show segments, what was predicted, the truth of a simulation, and where the numbers come from."""
    report = seen.report
    segments = [one for one in shown(report) if one.segment is not None]
    found = []
    if segments and choice.segment is None:
        primary = [one for one in segments if one.role == "primary"]
        text = (
            "P-values and intervals of all segments, metrics and arms are adjusted by Benjamini and Hochberg."
        )
        table = forest_table(report, primary, choice.scale, "Primary metrics by segment")
        found.append(titled("Segments", tag("p", text, class_="small"), table, name="segments"))
    found += [
        predicted_section(report),
        truth_section(report),
        left_out(report),
        origin(report),
        _formulas(report),
    ]
    parts.section(*found, key="origin")


def _formulas(report: Report) -> Markup:
    methods = dict.fromkeys(one.method for one in report.comparisons if one.method in FORMULAS)
    entries = [join(tag("dt", tag("code", name)), tag("dd", FORMULAS[name])) for name in methods]
    entries.append(join(tag("dt", tag("code", "always valid")), tag("dd", ALWAYS_VALID)))
    meant = "m and n are an arm's mean and units, those with ₀ the control's, s² a variance between units."
    return titled(
        "Formulas", tag("p", meant, class_="small"), tag("dl", *entries, class_="notes"), name="formulas"
    )


def _downloads(report: Report, scale: Scale, at: Taken) -> None:
    """Offer the report to be taken along."""
    st.subheader("Take it with you", anchor=False)
    offers: tuple[tuple[str, str, str, Callable[[], str | bytes]], ...] = (
        ("HTML report", "html", "text/html", lambda: render(report)),
        ("All numbers (CSV)", "csv", "text/csv", lambda: exports.as_csv(report)),
        ("All of it (JSON)", "json", "application/json", lambda: exports.as_json(report)),
        ("Picture (PNG)", "png", "image/png", lambda: exports.as_png(report, scale)),
    )
    for column, (label, ending, kind, make) in zip(st.columns(len(offers)), offers, strict=True):
        with column:
            st.download_button(
                label, make, exports.file_name(report, ending), kind, key=f"take-{ending}", on_click="ignore"
            )
    st.caption(f"Snapshot {at.id}; `armlift report --snapshot {at.id} --verify` makes it again, bit for bit.")
