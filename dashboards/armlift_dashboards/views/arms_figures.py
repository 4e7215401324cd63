"""Offline figures of an arm, night by night: each candidate beside the version that served."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import streamlit as st

from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag
from armlift.rendering.words import between, plain, signed
from armlift.store.database import reading
from armlift_dashboards import parts
from armlift_dashboards.arm_nights import ArmNight, Figure, figures_of, newest_run, nights
from armlift_dashboards.source import Source
from armlift_dashboards.views.arms_choices import choose_arm

BADGES = {
    "promoted": ("✓", "promoted", "ok"),
    "passed": ("✓", "passed", ""),
    "refused": ("✕", "refused", "fail"),
    "failed": ("!", "failed", "warn"),
    "running": ("…", "running", ""),
    "trained": ("○", "not judged", ""),
}
"""Symbol, words and class of what a night came to."""
SERIES = ("candidate", "version that served")


def show(source: Source) -> None:
    """Show the nights of the chosen arm."""
    chosen = choose_arm(source)
    if chosen is None:
        return
    arm, scope = chosen
    found: list[ArmNight] = []
    if scope is not None:
        with reading(source.known) as connection:
            found = nights(connection, arm, scope)
    if not found:
        parts.empty(f"No night has trained {arm} yet, so there are no figures.", "armlift nightly")
        return
    runs = sorted({one.run for one in found})
    run = newest_run(found)
    if len(runs) > 1:
        run = st.selectbox(
            "Nights of the run", runs, index=runs.index(run), key="nights", bind="query-params"
        )
    some = [one for one in found if one.run == run]
    figures = figures_of(some)
    if not figures:
        parts.section(*listed(some, None, arm), key="nights-table")
        return
    _figure(some, figures, arm)


def _figure(found: Sequence[ArmNight], figures: Sequence[Figure], arm: str) -> None:
    by_name = {figure.name: figure for figure in figures}
    figure = by_name[st.selectbox("Figure", list(by_name), key="figure", bind="query-params")]
    if figure.text:
        st.caption(figure.text)
    alt_text = (
        f"{figure.name} of {arm} by night, of the candidate and of the version that served, "
        "with marks where a night was refused or failed; the table below has the numbers"
    )
    st.altair_chart(chart(found, figure), alt=alt_text, key="figures")
    parts.section(*listed(found, figure, arm), key="nights-table")


def points(found: Sequence[ArmNight], figure: Figure) -> list[dict[str, Any]]:
    """Give the points of the chart: one a night and series that has the figure."""
    return [
        {"night": one.night, "series": series, "value": values[figure.name], "state": one.state}
        for one in found
        for series, values in zip(SERIES, (one.metrics, one.before), strict=True)
        if figure.name in values
    ]


def chart(found: Sequence[ArmNight], figure: Figure) -> alt.LayerChart | alt.FacetChart:
    """Draw a figure by night: lines told apart by shape and dashes, and a mark at what did not pass."""
    lines = alt.InlineData(values=points(found, figure))
    marked = [
        {"night": one.night, "state": one.state, "says": BADGES[one.state][0] + " " + one.state}
        for one in found
        if one.state in ("refused", "failed")
    ]
    order = [one.night for one in found]
    x = alt.X(
        "night:O", sort=order, title="Night (the lab's day)", axis=alt.Axis(labelAngle=0, labelOverlap=True)
    )
    legend = alt.Legend(title=None, orient="top", labelLimit=0)
    told = alt.Scale(domain=list(SERIES))
    base = alt.Chart(lines).encode(
        x=x,
        y=alt.Y("value:Q", title=figure.axis, scale=alt.Scale(zero=False, nice=True)),
        color=alt.Color("series:N", scale=told, legend=legend),
        tooltip=[
            alt.Tooltip("night:O", title="Night"),
            alt.Tooltip("series:N", title="Of"),
            alt.Tooltip("value:Q", title=figure.name, format=".4f"),
            alt.Tooltip("state:N", title="The night"),
        ],
    )
    dashes = alt.StrokeDash("series:N", scale=told, legend=None)
    shapes = alt.Shape("series:N", scale=told, legend=legend)
    marks = alt.Chart(alt.InlineData(values=marked)).encode(x=x)
    return alt.layer(
        base.mark_line().encode(strokeDash=dashes),
        base.mark_point(size=80, filled=True, opacity=1, strokeWidth=0).encode(shape=shapes),
        marks.mark_rule(strokeDash=[2, 3], color="#8a939c"),
        marks.mark_text(align="left", baseline="top", dx=4, color="#8a939c").encode(
            text="says:N", y=alt.value(2)
        ),
    )


def listed(found: Sequence[ArmNight], figure: Figure | None, arm: str) -> list[Markup]:
    """Write nights out, the newest first, with a figure of both versions."""
    name = "figure" if figure is None else figure.name
    columns = (
        "Night",
        "It was",
        "Candidate",
        name,
        "Served",
        f"its {name}",
        "Lift",
        "95 % interval",
        "Units",
    )
    right = frozenset({name, f"its {name}", "Lift", "95 % interval", "Units"})
    rows = (_row(one, figure) for one in reversed(found))
    table = scrolling(
        f"Nights of {arm}, the newest first; both versions are asked for the same units, which took "
        "something after what the candidate learned from",
        heads(*columns, "Why", numbers=right),
        tag("tbody", join(*rows)),
    )
    return [table]


def _row(one: ArmNight, figure: Figure | None) -> Markup:
    name = "" if figure is None else figure.name
    compared = one.compared.get(name, {})
    return tag(
        "tr",
        tag("th", one.night, scope="row"),
        tag("td", parts.badge(*BADGES[one.state])),
        tag("td", tag("code", one.candidate) if one.candidate else "-"),
        numbers(plain(one.metrics.get(name))),
        tag("td", tag("code", one.served) if one.served else "-"),
        numbers(
            plain(one.before.get(name)),
            signed(compared.get("lift")),
            between(compared.get("low"), compared.get("high")),
            f"{one.asked:,}",
        ),
        tag("td", one.why or "-", class_="wrap"),
    )
