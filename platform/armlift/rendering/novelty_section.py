"""The section of the HTML report on days since exposure: whether an effect wears off."""

from armlift.novelty import Novelty
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.words import between, count, plain, signed
from armlift.report import Report

_COLUMNS = ("Day", "Units", "Lift", "Interval")


def novelty_section(report: Report) -> Markup:
    """Write, for each primary metric and arm, the lift by days since first exposure; nothing without any."""
    if not report.novelty:
        return Markup("")
    return titled(
        "Days since first exposure",
        tag("p", "Day 0 is that of a unit's first exposure. Units exposed lately have no later days."),
        *(_one(one) for one in report.novelty),
        name="novelty",
    )


def _one(one: Novelty) -> Markup:
    return join(tag("h3", f"{one.metric}, {one.arm}"), tag("p", slope_of(one)), days_table(one))


def days_table(one: Novelty) -> Markup:
    """Write the lifts of single days since first exposure."""
    rows = [
        tag(
            "tr",
            tag("th", str(day.day), scope="row"),
            numbers(count(day.units), signed(day.lift), between(day.lift_low, day.lift_high)),
        )
        for day in one.days
    ]
    return scrolling(
        f"{one.metric} of {one.arm}", heads(*_COLUMNS, numbers=frozenset(_COLUMNS[1:])), tag("tbody", *rows)
    )


def slope_of(one: Novelty) -> str:
    """Say how an effect changes with the days since first exposure."""
    if one.slope is None or one.p_adjusted is None:
        return "Too little is known of later days to tell whether the effect changes."
    change = f"{plain(one.slope)} a day over the first {one.over_days} days"
    interval = f"between {plain(one.slope_low)} and {plain(one.slope_high)}"
    return f"The difference changes by {change} ({interval}, adjusted p {plain(one.p_adjusted)})."
