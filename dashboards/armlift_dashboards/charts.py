"""Charts: colours and shapes that colour-blind people tell apart, units on every axis."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import altair as alt
import pandas as pd

from armlift.days import Calendar
from armlift.novelty import Novelty
from armlift_dashboards.series import Arrived, Point

Layers = alt.LayerChart | alt.FacetChart
HEIGHT = 300
PERCENT = "+.1%"
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4]]
"""Lines of arms differ in dashes as well as in colour."""


def _by_arm(field: str = "arm") -> dict[str, Any]:
    return {
        "color": alt.Color(f"{field}:N", title="Arm"),
        "strokeDash": alt.StrokeDash(f"{field}:N", title="Arm", scale=alt.Scale(range=DASHES)),
    }


def cumulative_chart(points: Sequence[Point], *, relative: bool, calendar: Calendar, metric: str) -> Layers:
    """Draw lifts as of each day with both intervals: the darker band is fixed, the lighter always valid."""
    rows = pd.DataFrame([one._asdict() for one in points if one.metric == metric and one.value is not None])
    rows["at"] = rows["at"].map(lambda at: calendar.show(at)[:10])
    title = f"Lift of {metric} (%)" if relative else f"Difference in {metric}"
    axis = alt.Axis(format=PERCENT) if relative else alt.Axis()
    base = alt.Chart(rows).encode(
        x=alt.X(
            "at:T", title=f"As of the end of (days of {calendar.timezone})", axis=_days(rows["at"].nunique())
        )
    )
    y = alt.Y("value:Q", title=title, axis=axis)
    bands = [
        base.mark_area(opacity=opacity).encode(y=alt.Y(f"{low}:Q", title=title, axis=axis), y2=f"{high}:Q",
                                               color=alt.Color("arm:N", title="Arm"))
        for low, high, opacity in (("always_low", "always_high", 0.12), ("low", "high", 0.25))
    ]  # fmt: skip
    told = [alt.Tooltip("arm:N"), alt.Tooltip("at:T", format="%d %b %Y"), alt.Tooltip("units:Q", format=",")]
    told += [
        alt.Tooltip(f"{name}:Q", format=PERCENT if relative else ".4g") for name in ("value", "low", "high")
    ]
    lines = base.mark_line(point=True).encode(y=y, tooltip=told, **_by_arm())
    return alt.layer(_zero(), *bands, lines).properties(height=HEIGHT)


def novelty_chart(found: Sequence[Novelty]) -> Layers:
    """Draw arms' lifts in one metric by days since first exposure, each with its interval."""
    rows = pd.DataFrame(
        [
            {"arm": one.arm, "day": day.day, "lift": day.lift, "low": day.lift_low, "high": day.lift_high}
            for one in found
            for day in one.days
            if day.lift is not None
        ]
    )
    axis, title = alt.Axis(format=PERCENT), f"Lift of {found[0].metric} on that day (%)"
    days = alt.X("day:O", title="Days since first exposure", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(rows).encode(x=days, xOffset="arm:N", color=alt.Color("arm:N", title="Arm"))
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=title, axis=axis), y2="high:Q")
    told = [alt.Tooltip("arm:N"), alt.Tooltip("day:O"), alt.Tooltip("lift:Q", format=PERCENT)]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("lift:Q", title=title, axis=axis), shape=alt.Shape("arm:N", title="Arm"), tooltip=told
    )
    return alt.layer(_zero(), bars, points).properties(height=HEIGHT)


def exposures_chart(arrived: Sequence[Arrived], zone: str) -> alt.Chart:
    """Draw new units a day by arm."""
    rows = pd.DataFrame([{"arm": one.arm, "day": day_text(one.day), "units": one.units} for one in arrived])
    axis = _days(rows["day"].nunique())
    chart: alt.Chart = alt.Chart(rows).mark_line(point=True)
    chart = chart.encode(
        x=alt.X("day:T", title=f"Day of first exposure ({zone})", axis=axis),
        y=alt.Y("units:Q", title="New units (a day)"),
        tooltip=["arm:N", alt.Tooltip("day:T", format="%d %b %Y"), alt.Tooltip("units:Q", format=",")],
        **_by_arm(),
    )
    return chart.properties(height=HEIGHT)


def day_text(day: int) -> str:
    """Write a day, counted from 1970-01-01."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def _days(count: int) -> alt.Axis:
    """Give an axis of days with at most some eight ticks."""
    step = max(1, -(-count // 8))
    return alt.Axis(format="%d %b", tickCount=alt.TimeIntervalStep(interval="day", step=step))


def _zero() -> alt.Chart:
    chart: alt.Chart = alt.Chart(pd.DataFrame([{"zero": 0.0}]))
    rule: alt.Chart = chart.mark_rule(strokeDash=[4, 3], opacity=0.7)
    drawn: alt.Chart = rule.encode(y="zero:Q")
    return drawn
