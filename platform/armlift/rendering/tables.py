"""The tables of the HTML report: all numbers, what was left out, and where the numbers come from."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from armlift.comparisons import Comparison
from armlift.days import utc_text
from armlift.metric import Metric, time_of
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.reading import (
    STATUSES,
    always_of,
    gain_of,
    interval_name,
    interval_of,
    read,
    shown,
    traits,
    within,
)
from armlift.rendering.words import count, plain, signed
from armlift.report import Report
from armlift.stats.results import ASSUMPTIONS

ADJUSTMENTS = {"holm": "Holm", "benjamini_hochberg": "Benjamini-Hochberg"}
MODES = {
    "rerank": "each arm orders what the log showed in a session; the outcomes of its first k items count",
    "match": "each arm recalls k items by itself; the outcomes of those the log showed too count",
    "interleaved": "each slate is drafted of two arms'; what units do with an item counts for its arm",
    "dense": "each arm recalls k items once a day; what the log holds of unit and item counts",
    "simulate": "each arm recalls k items; a model fitted on the log answers, so the lift is the model's",
    "imported": "the experiment was run elsewhere; exposures and events were imported when it was over",
}
LEFT_OUT = {
    "duplicate": "rows equal to an earlier one in every column; dropped",
    "blank_user": "rows without a user; dropped",
    "blank_video": "rows without a video; dropped",
    "blank_time": "rows without a time; dropped, but for pair_without_time",
    "bad_time": "rows whose time cannot be; dropped",
    "blank_play": "rows without a watch time; dropped",
    "negative_play": "rows whose watch time is below 0; dropped",
    "bad_flag": "rows with a flag other than 0 and 1; dropped",
    "duration_missing": "rows whose video has no known length; kept",
    "pair_not_observed": "items shown to a unit that the log has no row of from the cut on; not counted",
    "pair_without_time": "rows without a time that answer as pairs of the matrix; kept, they came last",
    "pair_met": "items an arm showed a unit once more; the first time counts",
    "repeat_of_pair": "rows from the cut on of a unit and item with an earlier one; the first one counts",
    "item_unknown_to_model": "items shown that the model has no row of; they count, as one of the middle",
    "repeat_in_session": "impressions of an item shown before in the same session; the first one counts",
    "session_after_its_day": "sessions that a day was too short for; not held",
    "request_before_first_phase": "requests before the experiment's first phase; not asked",
    "request_holdout": "requests of units held out; not asked",
    "request_audience": "requests of units outside the audience; not asked",
    "request_layer": "requests of units outside the experiment's slice of its layer; not asked",
    "request_outside": "requests of units outside the traffic share; not asked",
    "unit_forced": "units with a forced arm; they count in no figure",
    "unit_several_arms": "units that met several arms; they count in no figure",
    "exposure_blank_unit": "exposures without a unit; dropped",
    "exposure_bad_unit": "exposures of a unit whose name is over 200 characters or holds a NUL; dropped",
    "exposure_blank_time": "exposures without a time; dropped",
    "exposure_bad_time": "exposures whose time is none that can be; dropped",
    "exposure_blank_arm": "exposures without an arm; dropped",
    "exposure_unknown_arm": "exposures to an arm that the experiment does not have; dropped",
    "exposure_before_first_phase": "exposures before the experiment's first phase; dropped",
    "exposure_bad_phase": "exposures in a phase that the experiment does not have; dropped",
    "exposure_bad_forced": "exposures of which `forced` is neither true nor false; dropped",
    "exposure_bad_version": "exposures to a version whose name is too long or holds a NUL; dropped",
    "exposure_bad_segment": "exposures whose value of a segment is too long",
    "event_blank_unit": "events without a unit; dropped",
    "event_bad_unit": "events of a unit whose name is over 200 characters or holds a NUL; dropped",
    "event_blank_time": "events without a time; dropped",
    "event_bad_time": "events whose time is none that can be; dropped",
    "event_blank_kind": "events without a kind; dropped",
    "event_unknown_kind": "events of a kind that the lab does not declare; dropped",
    "event_blank_value": "events without a value, of a kind whose values a metric asks for; dropped",
    "event_bad_value": "events whose value is not a number, or not finite; dropped",
    "event_expired": "events of days that retention has deleted from the database; dropped",
    "event_unit_not_exposed": "events of units that were never exposed; they count in no figure",
}
BY_NAME = {
    "unit_excluded_": "units that the rule {} leaves out",
    "unit_too_young_": "units first exposed too short a time ago; they do not count in {}",
    "unit_small_stratum_": "units of phases in which an arm has fewer than two; they do not count in {}",
}
"""Reasons that end with the name of a metric, or of a rule."""
ALWAYS = "Always-valid interval"
FIGURES = ("Units", "Control units", "Mean", "Control mean", "Lift", "p", "Adjusted p")
WORDS = {"Arm", "Reading", "Method", "Status"}


def comparisons(report: Report) -> Markup:
    """Write every comparison with all its numbers, a group of rows a metric, and what its words mean."""
    interval = interval_name(report)
    columns = (
        "Arm",
        *FIGURES[:4],
        gain_of(report).capitalize(),
        interval,
        ALWAYS,
        "Reading",
        *FIGURES[5:],
        "Method",
        "Status",
    )
    groups = [
        _group(report, report.metrics[name], list(rows))
        for (name, _), rows in groupby(shown(report), key=lambda one: (one.metric, one.segment))
    ]
    caption = f"Each arm against {report.experiment.control}; what is not known is a hyphen"
    if report.run.synthetic:
        caption = f"SYNTHETIC DATA. {caption}"
    table = scrolling(
        caption,
        heads(*columns, numbers=frozenset({*columns} - WORDS)),
        *groups,
        class_="comparisons",
    )
    return titled("All numbers", table, _glossary(report), name="numbers")


def _group(report: Report, metric: Metric, rows: Sequence[Comparison]) -> Markup:
    """Write a metric's rows below a row that names it."""
    first, alpha = rows[0], report.experiment.analysis.alpha
    notes = [first.role, traits(first, metric), metric.description.rstrip(".")]
    notes += [f"in {metric.unit}"] if metric.unit else []
    notes += [time_of(metric)]
    notes += [f"p adjusted by {ADJUSTMENTS.get(first.adjusted, first.adjusted)}"] if first.adjusted else []
    said = tag("span", "; ".join(note for note in notes if note))
    title = tag("div", f"{within(first.metric, first.segment)} ", said, class_="pinned")
    title = tag("th", title, scope="rowgroup", colspan=str(len(FIGURES) + 6))
    body = [tag("tr", title, class_="group")]
    for one in rows:
        reading = read(one, metric, alpha, early=report.early)
        cells = join(
            numbers(count(one.units), count(one.control_units), plain(one.mean), plain(one.control_mean)),
            numbers(signed(one.lift), interval_of(one), always_of(one)),
            tag("td", reading.words, class_=f"reading {reading.effect}"),
            numbers(plain(one.p_value), plain(one.p_adjusted)),
            tag("td", one.method or "-"),
            tag("td", tag("code", one.status)),
        )
        body.append(tag("tr", tag("th", one.arm, scope="row"), cells, class_=reading.effect))
    return tag("tbody", *body)


def _glossary(report: Report) -> Markup:
    """Explain the methods and statuses that occur."""
    methods = {one.method for one in report.comparisons}
    statuses = dict.fromkeys(one.status for one in report.comparisons)
    assumed = [(name, f"assumes: {text}") for name, text in ASSUMPTIONS.items() if name in methods]
    meant = [(name, STATUSES.get(name, "-")) for name in statuses]
    return _definitions((tag("code", name), text) for name, text in (*assumed, *meant))


def left_out(report: Report) -> Markup:
    """Write what was dropped or noted, with counts and reasons."""
    found = {reason: number for reason, number in report.dropped.items() if number}
    if not found:
        return titled("Left out or noted", tag("p", "Nothing."), name="left-out")
    rows = (
        tag(
            "tr",
            tag("th", tag("code", reason), scope="row"),
            numbers(count(number)),
            tag("td", _reason(reason), class_="wrap"),
        )
        for reason, number in found.items()
    )
    table = scrolling(
        "Rows, impressions, requests and units that were left out, and oddities of those kept",
        heads("Reason", "Count", "Meaning", numbers=frozenset({"Count"})),
        tag("tbody", *rows),
    )
    return titled("Left out or noted", table, name="left-out")


def _reason(reason: str) -> str:
    for start, meaning in BY_NAME.items():
        if reason.startswith(start):
            return meaning.format(reason.removeprefix(start))
    return LEFT_OUT.get(reason, "")


def origin(report: Report) -> Markup:
    """Write what made the numbers: the run, its arms, its log, and the SQL."""
    return titled(
        "Where these numbers come from",
        _definitions([*_run_facts(report), *_log_facts(report.run.log)]),
        _arms(report),
        _files(report.run.log),
        tag("h3", "Aggregates"),
        tag("p", "Every number above is computed from the result of this query: each unit's totals."),
        tag("details", tag("summary", "SQL"), tag("pre", tag("code", report.sql))),
        name="origin",
    )


def _run_facts(report: Report) -> list[tuple[str, str]]:
    run = report.run
    return [
        ("Run", run.run),
        ("Experiment", run.experiment),
        ("Mode", f"{run.mode}: {MODES[run.mode]}" if run.mode in MODES else run.mode),
        ("Units", "paired: every unit meets every arm" if run.paired else "split: every unit meets one arm"),
        *([("k (items in a slate)", str(run.k)), ("Seed", str(run.seed))] if run.k else []),
        ("As of", report.as_of),
        ("Snapshot", report.snapshot or "not stored"),
        ("Alpha", f"{report.experiment.analysis.alpha:g}, two-sided"),
        ("Synthetic", "yes" if run.synthetic else "no"),
    ]


def _log_facts(log: Mapping[str, object]) -> list[tuple[str, str]]:
    """Tell what is known of the log; times are milliseconds there."""
    facts = [("Log format", str(log["format"]))] if "format" in log else []
    facts += [("Log rows", count(int(str(log["rows"]))))] if "rows" in log else []
    times = (("First row", "first_ts"), ("Last row", "last_ts"), ("Replayed from", "cut"))
    return facts + [(name, utc_text(int(str(log[key])))) for name, key in times if key in log]


def _arms(report: Report) -> Markup:
    control = report.experiment.control
    rows = (
        tag(
            "tr",
            tag("th", arm, scope="row"),
            tag("td", "control" if arm == control else "challenger"),
            numbers(f"{report.experiment.arms[arm]:g}"),
            tag("td", tag("code", version)),
        )
        for arm, version in report.run.arms.items()
    )
    head = heads("Arm", "Role", "Weight", "Version", numbers=frozenset({"Weight"}))
    return join(tag("h3", "Arms"), scrolling("Versions of the arms", head, tag("tbody", *rows)))


def _files(log: Mapping[str, object]) -> Markup:
    files = log.get("files")
    if not isinstance(files, Sequence) or not files:
        return Markup("")
    return join(
        tag("h3", "Log files"),
        tag("ul", *(tag("li", tag("code", str(file))) for file in files), class_="files"),
        tag("p", "sha256 of their content, one after the other: ", tag("code", str(log.get("sha256", "-")))),
    )


def _definitions(entries: Iterable[tuple[str, str]]) -> Markup:
    parts = (join(tag("dt", name), tag("dd", text)) for name, text in entries)
    return tag("dl", *parts, class_="notes")
