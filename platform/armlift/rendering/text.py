"""The report as text for the terminal; it fits 80 columns."""

from itertools import groupby
from textwrap import fill

from rich.console import Console
from rich.text import Text

from armlift.check import Check
from armlift.comparisons import Comparison
from armlift.rendering.novelty_section import slope_of
from armlift.rendering.predicted_section import reading_of, statement_of
from armlift.rendering.reading import gain_of, shown, within
from armlift.rendering.words import (
    MODELLED,
    OUTCOMES,
    SYNTHETIC,
    VERDICTS,
    WITHIN,
    between,
    count,
    decided,
    further_reasons,
    kind_of,
    percent,
    plain,
    probability,
    signed,
    true_lift,
)
from armlift.report import Report
from armlift.truth import beside
from armlift.verdict import Verdict

_ROW = "{:<15}{:>7}{:>11}{:>9}{:>21}{:>8}{:>8}"
_TRUTH = "{:<15}{:>10}{:>22}{:>21}{:>11}"
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report: the verdict's sentence, resolution, checks, comparisons, and the verdict's rules."""
    out = console or Console(highlight=False)
    run = report.run
    out.print(Text(f"{run.experiment}, run {run.run}: {kind_of(run)}", style="bold"))
    if run.synthetic:
        out.print(Text(SYNTHETIC, "yellow"))
    if run.modelled:
        out.print(Text(fill(MODELLED, out.width), "yellow"))
    stored = f"; snapshot {report.snapshot}" if report.snapshot else ""
    out.print(Text(f"as of {report.as_of}; control {report.experiment.control}{stored}"))
    out.print(Text(f"\n{fill(report.sentence, out.width)}", style="bold"))
    for decision in report.decisions:
        out.print(Text(fill(f"Decided: {decided(decision)}", out.width)))
    _print_resolution(report, out)
    _print_checks(report, out)
    _print_comparisons(report, out)
    _print_predicted(report, out)
    dropped = [f"{reason} {number:,}" for reason, number in report.dropped.items() if number]
    out.print(Text(f"Left out or noted: {', '.join(dropped) or 'nothing'}"))
    _print_verdict(report.verdict, out)
    _print_truth(report, out)


def _print_resolution(report: Report, out: Console) -> None:
    resolution = report.resolution
    said = f"  smallest detectable lift {percent(resolution['mde'])}"
    compared = resolution["compared_requests"]
    told = compared or resolution["matched"] is not None
    if told:
        differing = percent(resolution["differing_requests"])
        said += f"; slates differ on {differing} of {count(compared)} compared requests"
    out.print(Text.assemble("\n", ("Resolution", "bold"), said))
    for arm, own in resolution["by_arm"].items() if told else ():
        differs = own["differing_requests"]
        parts = [] if own["matched"] is None else [f"{count(own['matched'])} matched impressions"]
        parts.append("control" if differs is None else f"differs on {percent(differs)}")
        if own.get("answered") is not None:
            parts.append(f"{percent(own['answered'])} of what it asked was answered")
        if own["mde"] is not None:
            parts.append(f"detects {percent(own['mde'])}")
        out.print(Text(f"  {arm}: {', '.join(parts)}"))


def _print_checks(report: Report, out: Console) -> None:
    out.print(Text("\nChecks", style="bold"))
    for check in report.checks:
        status = Text(f"  {check.status} ", style=_STYLES.get(check.status, "dim"))
        out.print(status, Text(f"{check.name}{_value(check)}: {check.meaning}"), sep="")


def _value(check: Check) -> str:
    return "" if check.value is None else f" = {plain(check.value)}"


def _print_comparisons(report: Report, out: Console) -> None:
    interval = f"{100 * (1 - report.experiment.analysis.alpha):g}% interval"
    gain = gain_of(report)
    out.print(Text(f"\n{gain.capitalize()} against the control", style="bold"))
    short = "pref." if report.run.interleaved else gain
    out.print(Text(_ROW.format("", "units", "mean", short, interval, "p", "adj. p"), style="dim"))
    for (metric, segment), group in groupby(shown(report), key=lambda one: (one.metric, one.segment)):
        rows = list(group)
        first = rows[0]
        out.print(Text(within(f"{metric} ({first.role})", segment), style="bold"))
        control = (f"  {first.control}", count(first.control_units), plain(first.control_mean))
        out.print(Text(_ROW.format(*control, "", "control", "", "").rstrip()))
        for one in rows:
            out.print(Text(_ROW.format(*_cells(one)).rstrip(), style="" if one.status == "ok" else "dim"))
            if one.always_low is not None and one.always_high is not None:
                always = f"{signed(one.always_low)} .. {signed(one.always_high)}"
                out.print(
                    Text(_ROW.format("  always valid", "", "", "", always, "", "").rstrip(), style="dim")
                )
    for changing in report.novelty:
        if changing.p_adjusted is not None and changing.p_adjusted < report.experiment.analysis.alpha:
            out.print(Text(fill(f"{changing.metric}, {changing.arm}: {slope_of(changing)}", out.width)))


def _print_predicted(report: Report, out: Console) -> None:
    """Print two lines a challenger: what the control's requests predict, and what was observed."""
    if not report.predicted:
        return
    title = f"Predicted against observed ({report.predicted[0].metric})"
    out.print(Text(title, style="bold"))
    for one in report.predicted:
        if one.lift is None:
            _print_below(f"{one.arm}:", statement_of(one), out)
            continue
        predicted = f"{signed(one.lift)} ({between(one.lift_low, one.lift_high)})"
        rows = f"{one.effective_rows:,.0f} effective rows"
        lines = [f"  {one.arm:<14} predicted {predicted}, {rows}"]
        observed = f"{signed(one.observed_lift)} ({between(one.observed_low, one.observed_high)})"
        lines.append(f"  {'':<14} observed  {observed}, {reading_of(one)}")
        for line in lines:
            out.print(Text(fill(line, out.width, subsequent_indent=" " * 27)))


def _print_verdict(verdict: Verdict, out: Console) -> None:
    out.print(Text(f"\nVerdict: {VERDICTS[verdict.status]}", style="bold"))
    for reason in further_reasons(verdict):
        _print_below("-", reason, out)
    if verdict.why_not_ship:
        out.print(Text("Why not ship", style="bold"))
    for condition in verdict.why_not_ship:
        _print_below("-", condition, out)
    out.print(Text("Rules, in the order they are asked", style="bold"))
    for ruling in verdict.trace:
        said = f"{ruling.rule.replace('_', ' ')}: {ruling.sentence}"
        _print_below(f"{OUTCOMES[ruling.outcome]:<9}", said, out)


def _print_truth(report: Report, out: Console) -> None:
    """Print the true lifts beside the estimates; nothing where they are not known."""
    pairs = beside(report.truth, report.comparisons)
    if not pairs:
        return
    out.print(Text("\nThe truth: the same users, all of them under one arm after another", style="bold"))
    out.print(Text(_TRUTH.format("", "estimated", "interval", "true lift", ""), style="dim"))
    for metric, group in groupby(pairs, key=lambda one: one.truth.metric):
        out.print(Text(metric, style="bold"))
        for truth, one, inside in group:
            interval = between(one.lift_low, one.lift_high) if inside is not None else one.status
            cells = (f"  {truth.arm}", signed(one.lift), interval, true_lift(truth), WITHIN[inside])
            out.print(Text(_TRUTH.format(*cells).rstrip(), style="yellow" if inside is False else ""))


def _print_below(mark: str, text: str, out: Console) -> None:
    """Print a text behind its mark; what does not fit the line goes on below where the text begins."""
    first = f"  {mark} "
    out.print(Text(fill(text, out.width, initial_indent=first, subsequent_indent=" " * len(first))))


def _cells(one: Comparison) -> list[str]:
    """Give a row's cells; where there is no interval to show, the status stands in its place."""
    known = one.lift_low is not None and one.lift_high is not None
    return [
        f"  {one.arm}",
        count(one.units),
        plain(one.mean),
        signed(one.lift),
        f"{signed(one.lift_low)} .. {signed(one.lift_high)}" if known else one.status,
        probability(one.p_value),
        probability(one.p_adjusted),
    ]
