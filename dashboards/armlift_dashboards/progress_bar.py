"""The power bar: how many units there are of those the plan asks for, and how long it takes."""

from armlift.rendering.markup import Markup, join, tag
from armlift.rendering.words import count, percent
from armlift.report import Report


def power_bar(report: Report) -> Markup:
    """Write how far a run has come: against its plan where there is one, else what it can detect."""
    progress, mde = report.progress, report.resolution["mde"]
    first = report.experiment.metrics.primary[0]
    detects = f"Units so far detect a lift of {first} of {percent(mde)} or more (80 % power)."
    if mde is None:
        detects = f"What lift of {first} these units detect is not known."
    if progress.units_needed is None:
        told = (
            f"{count(progress.units)} units. The plan names neither planned_units nor smallest_lift, so "
            "there is no end to count down to."
        )
        return tag("div", tag("p", told), tag("p", detects, class_="small"))
    share = min(1.0, progress.units / progress.units_needed) if progress.units_needed else 1.0
    bar = tag(
        "svg",
        tag("rect", class_="bar-back", width=100, height=6, rx=3),
        tag("rect", class_="bar-front", width=round(100 * share, 2), height=6, rx=3),
        viewBox="0 0 100 6",
        preserveAspectRatio="none",
        class_="power-bar",
        role="img",
        aria_label=f"{share:.0%} of the units needed are there",
    )
    words = f"{count(progress.units)} of {count(progress.units_needed)} units ({share:.0%}){_left(report)}."
    return join(tag("p", words), bar, tag("p", detects, class_="small"))


def _left(report: Report) -> str:
    left = report.progress.days_left
    if report.progress.units >= (report.progress.units_needed or 0):
        return ", all that the plan asks for"
    if left is not None:
        return f", about {left} day{'s' if left != 1 else ''} left at the rate so far"
    return (
        ", and no more will come" if not report.run.live else ", and it is not known how long the rest takes"
    )
