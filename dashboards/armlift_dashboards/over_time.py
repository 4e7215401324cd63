"""Results over time: cumulative lifts, lifts by days since exposure, and new units by day."""

from collections.abc import Callable, Sequence

import streamlit as st

from armlift.days import Calendar
from armlift.rendering.forest_table import RELATIVE, Scale
from armlift.rendering.markup import Markup, heads, numbers, scrolling, tag
from armlift.rendering.novelty_section import days_table, slope_of
from armlift.rendering.words import count
from armlift.report import Report
from armlift_dashboards import charts, parts
from armlift_dashboards.series import Arrived, Point, arrivals, cumulative
from armlift_dashboards.stored import Taken


def show(
    report: Report, taken: Sequence[Taken], until: int, read: Callable[[str], Report], scale: Scale,
    calendar: Calendar,
) -> None:  # fmt: skip
    """Show a run's figures over time, each chart with its numbers below."""
    _cumulative(report, cumulative(taken, read, scale, until), scale, calendar)
    _novelty(report)
    _exposures(arrivals(report.answers), calendar)


def _cumulative(report: Report, points: Sequence[Point], scale: Scale, calendar: Calendar) -> None:
    st.subheader(f"Cumulative {scale.name}", anchor=False)
    if len({one.at for one in points}) < 2:
        run = report.run
        parts.empty(
            "There is one report of this run, so there is nothing to draw over time.",
            f"armlift report {run.experiment} --run {run.run} --daily",
        )
        return
    for metric in dict.fromkeys(one.metric for one in points):
        known = [one for one in points if one.metric == metric and one.value is not None]
        if not known:
            continue
        relative = scale is RELATIVE
        chart = charts.cumulative_chart(known, relative=relative, calendar=calendar, metric=metric)
        last = "; ".join(
            f"{one.arm} {scale.write(one.value)} ({scale.interval(one.low, one.high)})"
            for one in known
            if one.at == known[-1].at
        )
        alt = f"{scale.name} of {metric} as of each day, with both intervals. At the end: {last}."
        st.altair_chart(chart, key=f"cumulative-{metric}", alt=alt)
        with st.expander(f"The numbers of {metric}"):
            parts.section(_points(known, scale, calendar, metric), key=f"cumulative-numbers-{metric}")


def _points(points: Sequence[Point], scale: Scale, calendar: Calendar, metric: str) -> Markup:
    names = ("Arm", "Units", scale.name.capitalize(), "Interval", "Always valid")
    rows = [
        tag(
            "tr",
            tag("th", calendar.show(one.at)[:10], scope="row"),
            tag("td", one.arm),
            numbers(count(one.units), scale.write(one.value), scale.interval(one.low, one.high)),
            numbers(scale.interval(one.always_low, one.always_high)),
        )
        for one in points
    ]
    return scrolling(
        f"{metric} as of each day", heads("As of", *names, numbers=frozenset(names[1:])), tag("tbody", *rows)
    )


def _novelty(report: Report) -> None:
    if not report.novelty:
        return
    st.subheader("Lift by days since first exposure", anchor=False)
    st.caption(
        "Day 0 is that of a unit's first exposure. Each day is of that day alone, against the plan's control."
    )
    for metric in dict.fromkeys(one.metric for one in report.novelty):
        found = [one for one in report.novelty if one.metric == metric]
        if max(sum(day.lift is not None for day in one.days) for one in found) < 2:
            continue
        said = " ".join(f"{one.arm}: {slope_of(one)}" for one in found)
        st.altair_chart(
            charts.novelty_chart(found), key=f"novelty-{metric}",
            alt=f"Lift of {metric} by days since first exposure. {said}",
        )  # fmt: skip
        st.caption(said)
        with st.expander(f"The numbers of {metric} by days since first exposure"):
            parts.section(*map(days_table, found), key=f"novelty-numbers-{metric}")


def _exposures(arrived: Sequence[Arrived], calendar: Calendar) -> None:
    st.subheader("Exposures over time", anchor=False)
    if not arrived:
        parts.empty("No unit has met an arm.")
        return
    totals = {
        arm: sum(one.units for one in arrived if one.arm == arm) for arm in {one.arm for one in arrived}
    }
    told = ", ".join(f"{arm} {count(units)}" for arm, units in sorted(totals.items()))
    st.altair_chart(
        charts.exposures_chart(arrived, calendar.timezone), key="exposures",
        alt=f"New units a day by arm. In all: {told}.",
    )  # fmt: skip
    with st.expander("The numbers of exposures"):
        rows = [
            tag(
                "tr",
                tag("th", charts.day_text(one.day), scope="row"),
                tag("td", one.arm),
                numbers(count(one.units)),
            )
            for one in sorted(arrived, key=lambda one: (one.day, one.arm))
        ]
        table = scrolling(
            "New units a day", heads("Day", "Arm", "Units", numbers=frozenset({"Units"})), tag("tbody", *rows)
        )
        parts.section(table, key="exposures-numbers")
