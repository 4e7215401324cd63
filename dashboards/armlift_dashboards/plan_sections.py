"""Sections of the page Planner: a plan in a sentence, in tables and in charts."""

from collections.abc import Mapping, Sequence

import altair as alt

from armlift.forecasts import Wait
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.reading import STATUSES
from armlift.rendering.words import count, plain
from armlift_dashboards.plans import Answer, Asked, DayPoint, LiftPoint, Need

_GREY = "#737e89"
"""Is seen on light and on dark pages."""
_LEGEND = alt.Legend(orient="top", title="Arm")


def lift_text(lift: float | None) -> str:
    """Write a lift without a sign, as a percentage of three digits."""
    return "-" if lift is None else f"{100 * lift:.3g}%"


def days_text(wait: Wait | None) -> str:
    """Write the days that an experiment lasts, or why they are not known."""
    if wait is None:
        return "-"
    if wait.status == "no_data":
        return "not known: fewer than three complete days"
    if wait.status == "never":
        return "never: arrivals level off before"
    return "more than a year" if wait.days is None else count(wait.days)


def range_text(wait: Wait | None) -> str:
    """Write the range that holds 80 % of the forecast."""
    if wait is None or wait.low is None:
        return "-"
    if wait.high is None:
        return f"{wait.low:,} or more"
    return count(wait.low) if wait.low == wait.high else f"{wait.low:,} to {wait.high:,}"


def summary(answer: Answer, asked: Asked) -> Markup:
    """Say in plain words what the plan takes, and why where it cannot be planned."""
    need = max(answer.needs, key=lambda one: one.units or 0)
    if answer.units is None:
        need = next(one for one in answer.needs if one.units is None)
        why = STATUSES.get(need.status, need.status) if need.status != "ok" else "the lift is out of reach"
        return tag("p", f"{answer.metric} cannot be planned for {need.arm}: {why}.", class_="lead")
    parts = ", ".join(f"{count(n)} of {arm}" for arm, n in (need.by_arm or {}).items())
    text = (
        f"To find a lift of {lift_text(need.lift)} in {answer.metric} with {100 * asked.power:.4g}% power "
        f"at {100 * (1 - asked.alpha):.5g}% confidence takes {count(need.units or 0)} units in all: {parts}."
    )
    return join(tag("p", text, class_="lead"), tag("p", _lasting(need, answer)))


def _lasting(need: Need, answer: Answer) -> str:
    if need.lasts is None:
        return "How long that takes is not known without units a day."
    with_traffic = f"with {100 * answer.share:.3g}% of units taking part"
    if need.lasts.days is None:
        return f"When they are there {with_traffic}: {days_text(need.lasts)}."
    day = "day" if need.lasts.days == 1 else "days"
    between = ""
    if need.lasts.low != need.lasts.high:
        between = f" (80% range {range_text(need.lasts)})"
    return f"That takes {count(need.lasts.days)} {day}{between} {with_traffic}."


def table(answer: Answer, asked: Asked) -> Markup:
    """Write what each challenger takes as a table."""
    later = f"Smallest lift after {asked.days} {'day' if asked.days == 1 else 'days'}"
    names = ("Arm", "Lift", "Units in all", "Of this arm", f"Of {answer.control}", "Days", "80% range", later)
    rows = (_row(one, answer.control) for one in answer.needs)
    mean = "" if answer.control_mean is None else f", {answer.control}'s mean is {plain(answer.control_mean)}"
    caption = f"What {answer.metric} takes ({answer.role}{mean}); days count from the first one"
    head = heads(*names, numbers=frozenset(names[1:5] + names[7:]))
    return scrolling(caption, head, tag("tbody", *rows))


def _row(one: Need, control: str) -> Markup:
    by_arm: Mapping[str, int] = one.by_arm or {}
    units = [one.units, by_arm.get(one.arm), by_arm.get(control, by_arm.get(one.arm))]
    told = ["-" if n is None else count(n) for n in units]
    why = "" if one.status == "ok" else f" ({one.status.replace('_', ' ')})"
    return tag(
        "tr",
        tag("th", one.arm + why, scope="row"),
        numbers(lift_text(one.lift), *told),
        tag("td", days_text(one.lasts)),
        tag("td", range_text(one.lasts)),
        numbers(lift_text(one.detects)),
    )


def notes(answer: Answer) -> Markup:
    """Say what the plan rests on."""
    said = []
    if answer.margin:
        said.append("A guardrail is planned for its margin, which an arm without effect must keep.")
    if answer.arrivals:
        days, units = len(answer.arrivals), sum(answer.arrivals)
        said.append(f"The run had {count(units)} new units in {count(days)} complete days.")
    said.append(
        "Several comparisons share the error, so each is planned with its part of it. The forecast takes for "
        "granted that traffic, audience and the arms' shares stay as they were."
    )
    return tag("p", " ".join(said), class_="muted")


def days_table(points: Sequence[DayPoint]) -> Markup:
    """Write the smallest lift by days as a table."""
    arms = list(dict.fromkeys(one.arm for one in points))
    found = {(one.days, one.arm): one.lift for one in points}
    days = dict.fromkeys(one.days for one in points)
    rows = (
        tag(
            "tr",
            tag("th", str(day), scope="row", class_="number"),
            numbers(*(lift_text(found.get((day, arm))) for arm in arms)),
        )
        for day in days
    )
    head = heads("Days", *arms, numbers=frozenset(("Days", *arms)))
    return titled(
        "Smallest lift by days",
        scrolling("Smallest lift found, by days from the first one", head, tag("tbody", *rows)),
        name="by-day",
    )


def lifts_table(points: Sequence[LiftPoint]) -> Markup:
    """Write the units needed by lift as a table."""
    arms = list(dict.fromkeys(one.arm for one in points))
    found = {(one.lift, one.arm): one for one in points}
    names = [f"{arm}, {what}" for arm in arms for what in ("units", "days")]
    rows = (
        tag(
            "tr",
            tag("th", lift_text(lift), scope="row", class_="number"),
            numbers(*(text for arm in arms for text in _cells(found[lift, arm]))),
        )
        for lift in dict.fromkeys(one.lift for one in points)
    )
    head = heads("Lift", *names, numbers=frozenset(("Lift", *names)))
    return titled(
        "Units by lift",
        scrolling("Units of all arms needed, and days that takes, by lift", head, tag("tbody", *rows)),
        name="by-lift",
    )


def _cells(point: LiftPoint) -> tuple[str, str]:
    return (
        "-" if point.units is None else count(point.units),
        "-" if point.days is None else count(point.days),
    )


def days_chart(points: Sequence[DayPoint], lift: float) -> alt.LayerChart | alt.FacetChart | None:
    """Draw the smallest lift by days, with the lift asked for as a rule; None where nothing is known."""
    values = [
        {"arm": one.arm, "days": one.days, "lift": 100 * one.lift} for one in points if one.lift is not None
    ]
    if not values:
        return None
    lines = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(point=True)
        .encode(
            x=alt.X("days:Q", title="Days from the first one", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("lift:Q", title="Smallest lift found (%)", scale=alt.Scale(zero=True)),
            color=alt.Color("arm:N", legend=_LEGEND),
            strokeDash=alt.StrokeDash("arm:N", legend=_LEGEND),
            shape=alt.Shape("arm:N", legend=_LEGEND),
            tooltip=[
                alt.Tooltip("arm:N", title="Arm"),
                alt.Tooltip("days:Q", title="Days"),
                alt.Tooltip("lift:Q", title="Smallest lift (%)", format=".3g"),
            ],
        )
    )
    asked = alt.InlineData(values=[{"lift": 100 * lift, "label": f"lift to find: {lift_text(lift)}"}])
    rule = alt.Chart(asked).mark_rule(strokeDash=[6, 4], color=_GREY).encode(y="lift:Q")
    label = (
        alt.Chart(asked)
        .mark_text(align="right", baseline="bottom", dy=-4, fontSize=13, fontWeight="bold", color=_GREY)
        .encode(y="lift:Q", x=alt.value("width"), text="label:N")
    )
    return alt.layer(lines, rule, label).properties(height=320)


def lifts_chart(points: Sequence[LiftPoint]) -> alt.Chart | None:
    """Draw the units needed by lift; None where nothing is known."""
    values = [
        {"arm": one.arm, "lift": 100 * one.lift, "units": one.units}
        for one in points
        if one.units is not None
    ]
    if not values:
        return None
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(point=True)
        .encode(
            x=alt.X("lift:Q", title="Lift to find (%)"),
            y=alt.Y("units:Q", title="Units of all arms needed (log scale)", scale=alt.Scale(type="log")),
            color=alt.Color("arm:N", legend=_LEGEND),
            strokeDash=alt.StrokeDash("arm:N", legend=_LEGEND),
            shape=alt.Shape("arm:N", legend=_LEGEND),
            tooltip=[
                alt.Tooltip("arm:N", title="Arm"),
                alt.Tooltip("lift:Q", title="Lift (%)"),
                alt.Tooltip("units:Q", title="Units", format=","),
            ],
        )
        .properties(height=320)
    )
    return chart
