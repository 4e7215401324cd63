"""Bar charts of pages: bars stacked of parts that are told by their labels as well as by their colours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt


class Part(NamedTuple):
    """A part of a bar: where the bar stands, what the part is of, its size, and what is written into it."""

    place: str
    of: str
    size: float
    label: str


class Titles(NamedTuple):
    """What the axes and the legend are called, with units."""

    place: str
    size: str
    of: str


def stacked(
    parts: Sequence[Part], kinds: Sequence[str], titles: Titles, *, lying: bool = False
) -> alt.LayerChart:
    """Stack parts to bars, those of one bar in the order of `kinds`; `lying` bars grow to the right.

    Bars stand in the order in which they come. A part's label is written where it has room.
    """
    places = list(dict.fromkeys(part.place for part in parts))
    longest = max(sum(p.size for p in parts if p.place == place) for place in places) or 1.0
    rows = [{**part._asdict(), "order": kinds.index(part.of)} for part in parts]
    room = f"datum.size / {longest!r} * {'width' if lying else 'height'}"
    needed = "7 * length(datum.label) + 8" if lying else "16"
    at, along = ("y", "x") if lying else ("x", "y")
    axis: Any = {"x": alt.X, "y": alt.Y}
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        alt.Order("order:Q"),
        tooltip=[
            alt.Tooltip("place:N", title=titles.place),
            alt.Tooltip("of:N", title=titles.of),
            alt.Tooltip("size:Q", title=titles.size, format=",.1~f"),
        ],
        **{at: axis[at]("place:N", title=titles.place, sort=places)},
    )
    legend = alt.Legend(
        orient="top", columns=3 if lying else 2, labelLimit=260, symbolType="square", symbolStrokeWidth=0
    )
    colour = alt.Color("of:N", title=titles.of, scale=alt.Scale(domain=list(kinds)), legend=legend)
    size = axis[along]("size:Q", title=titles.size, stack="zero")
    bars = base.mark_bar(stroke="#8a949e", strokeWidth=0.5).encode(colour, **{along: size})
    ink = alt.condition(alt.datum["order"] == 0, alt.value("white"), alt.value("#14181c"))
    middle = axis[along]("size:Q", title=titles.size, stack="zero", bandPosition=0.5)
    words = (
        base.transform_calculate(shown=f"{room} > {needed} ? datum.label : ''")
        .mark_text(fontSize=11, fontWeight=600)
        .encode(text="shown:N", color=ink, **{along: middle})
    )
    chart = alt.LayerChart(layer=[bars, words])
    return chart.properties(height=34 * len(places) + 150 if lying else 320)
