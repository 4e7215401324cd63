"""A forest table: every comparison with its numbers, and both its intervals drawn on one bar.

The thick bar is the interval of a fixed end, the thin one holds at every look. Lifts share an axis; absolute
differences have one a metric, for their units differ.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from armlift.comparisons import Comparison
from armlift.metric import Metric
from armlift.rendering.forest_axis import Axis, make_axis, tick_label, tick_values
from armlift.rendering.forest_plot import point
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag
from armlift.rendering.reading import Effect, margin_end, read, shown, sign_of, traits, within
from armlift.rendering.words import between, count, plain, probability, signed
from armlift.report import Report

WIDTH, HEIGHT, TICKS = 260.0, 30.0, 4
"""Of a bar's drawing, in its own units."""


class Ends(NamedTuple):
    """What is drawn of a comparison: its point, its interval, and the one that holds at every look."""

    point: float | None
    low: float | None
    high: float | None
    always_low: float | None
    always_high: float | None


class Scale(NamedTuple):
    """A way to tell a comparison: its name, what it draws, how a number and an interval of it are written."""

    name: str
    ends: Callable[[Comparison], Ends]
    write: Callable[[float | None], str]
    interval: Callable[[float | None, float | None], str]


def _relative(one: Comparison) -> Ends:
    return Ends(one.lift, one.lift_low, one.lift_high, one.always_low, one.always_high)


def _absolute(one: Comparison) -> Ends:
    always = (one.always_difference_low, one.always_difference_high)
    return Ends(one.difference, one.difference_low, one.difference_high, *always)


def signed_plain(value: float | None) -> str:
    """Write a difference with its sign and four significant digits."""
    return "-" if value is None else f"{'+' if value > 0 else ''}{plain(value)}"


def _between_plain(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{signed_plain(low)} to {signed_plain(high)}"


RELATIVE = Scale("lift", _relative, signed, between)
ABSOLUTE = Scale("difference", _absolute, signed_plain, _between_plain)
SCALES = {"relative": RELATIVE, "absolute": ABSOLUTE}


def forest_table(report: Report, comparisons: Sequence[Comparison], scale: Scale, caption: str) -> Markup:
    """Write comparisons of a report, a group of rows a metric and segment."""
    gain = scale.name.capitalize()
    names = ("Arm", gain, "", "Reading", "Mean", "Control", "Always valid", "p", "Adjusted p")
    relative = make_axis(report, TICKS)
    groups = []
    for (name, _), found in groupby(comparisons, key=lambda one: (one.metric, one.segment)):
        rows, metric = list(found), report.metrics[name]
        axis = relative if scale is RELATIVE else _axis_of(rows, metric)
        groups.append(_group(report, metric, rows, scale, axis))
    return scrolling(
        caption,
        heads(*names, numbers=frozenset({*names} - {"Arm", "Reading", ""})),
        *groups,
        class_="forest-table comparisons",
    )


def all_units(report: Report, *roles: str) -> list[Comparison]:
    """Give a report's comparisons of all units, those of some roles."""
    return [one for one in shown(report) if one.segment is None and one.role in roles]


def _group(report: Report, metric: Metric, rows: Sequence[Comparison], scale: Scale, axis: Axis) -> Markup:
    first = rows[0]
    told = [first.role, traits(first, metric), metric.description.rstrip(".")]
    told += [f"in {metric.unit}"] if metric.unit else []
    title = tag(
        "div",
        f"{within(first.metric, first.segment)} ",
        tag("span", "; ".join(one for one in told if one)),
        class_="pinned",
    )
    head = tag("tr", tag("th", title, scope="rowgroup", colspan="9"), class_="group")
    drawn = tag("td", _ticks(axis, scale), class_="drawn")
    ticks = tag(
        "tr", tag("td", colspan="2"), drawn, tag("td", colspan="6"), class_="ticks", aria_hidden="true"
    )
    margin = _margin(first, metric, scale)
    body = [_row(report, metric, one, scale, axis, margin) for one in rows]
    return tag("tbody", head, *body, ticks)


def _row(
    report: Report, metric: Metric, one: Comparison, scale: Scale, axis: Axis, margin: float | None
) -> Markup:
    reading = read(one, metric, report.experiment.analysis.alpha, early=report.early)
    ends = scale.ends(one)
    low, high, always_low, always_high = ends[1:]
    cells = join(
        tag("td", tag("strong", scale.write(ends.point)), _small(scale.interval(low, high)), class_="number"),
        tag("td", _drawn(ends, axis, reading.effect, margin), class_="drawn"),
        tag("td", reading.words, class_=f"reading {reading.effect}"),
        _side(plain(one.mean), one.numerator, one.denominator, one.units),
        _side(plain(one.control_mean), one.control_numerator, one.control_denominator, one.control_units),
        numbers(
            scale.interval(always_low, always_high), probability(one.p_value), probability(one.p_adjusted)
        ),
    )
    name = f"{one.metric}/{one.arm}" + ("" if one.segment is None else f"/{one.segment}")
    return tag("tr", tag("th", one.arm, scope="row"), cells, class_=reading.effect, data_comparison=name)


def _side(mean: str, numerator: float | None, denominator: float | None, units: int) -> Markup:
    """Write an arm's mean, what it was divided from, and the units."""
    known = numerator is not None and denominator is not None
    raw = [_small(f"{_whole(numerator or 0.0)} / {_whole(denominator or 0.0)}")] if known else []
    return tag("td", mean, *raw, _small(f"{count(units)} units"), class_="number")


def _whole(value: float) -> str:
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-6 else f"{value:,.1f}"


def _small(text: str) -> Markup:
    return tag("span", text, class_="small")


def _margin(one: Comparison, metric: Metric, scale: Scale) -> float | None:
    """Give where a guardrail's margin ends on the scale; None for other metrics."""
    if one.role != "guardrail":
        return None
    if scale is RELATIVE:
        return margin_end(metric)
    return None if one.control_mean is None else -sign_of(metric) * metric.margin * one.control_mean


def _axis_of(rows: Sequence[Comparison], metric: Metric) -> Axis:
    """Choose an axis for a metric's differences: it holds 0 and all their intervals."""
    ends = [end for one in rows for end in _absolute(one)[:3] if end is not None]
    margins = [_margin(one, metric, ABSOLUTE) for one in rows]
    shown_ends = [0.0, *ends, *(one for one in margins if one is not None)]
    low, high = min(shown_ends), max(shown_ends)
    if low == high:
        return Axis(-1.0, 1.0, [0.0])
    room = 0.08 * (high - low)
    return Axis(low - room, high + room, tick_values(low - room, high + room, TICKS))


def _x(axis: Axis, value: float) -> float:
    return round(8 + axis.share(value) * (WIDTH - 16), 1)


def _drawn(ends: Ends, axis: Axis, effect: Effect, margin: float | None) -> Markup:
    """Draw the line at 0, the margin, both intervals and the point; numbers beside it say the same."""
    middle = HEIGHT / 2
    parts = [_line("zero", _x(axis, 0.0), _x(axis, 0.0), 0, HEIGHT)]
    if margin is not None and axis.holds(margin):
        parts.append(_line("margin", _x(axis, margin), _x(axis, margin), 0, HEIGHT))
    for kind, low, high in (("always", ends.always_low, ends.always_high), ("bar", ends.low, ends.high)):
        if low is not None and high is not None:
            parts.append(_line(kind, _x(axis, low), _x(axis, high), middle, middle))
            parts += [
                _line("cap", _x(axis, end), _x(axis, end), middle - 5, middle + 5)
                for end in (low, high)
                if kind == "bar" and axis.holds(end)
            ]
    if ends.point is not None and axis.holds(ends.point):
        parts.append(point(_x(axis, ends.point), middle, effect))
    return tag(
        "svg", *parts, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", class_=f"bar-of {effect}", aria_hidden="true"
    )


def _ticks(axis: Axis, scale: Scale) -> Markup:
    write = tick_label if scale is RELATIVE else signed_plain
    parts = [
        tag("text", write(value), class_="tick", x=min(max(_x(axis, value), 18), WIDTH - 18), y=12)
        for value in axis.ticks
    ]
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH:g} 16", class_="ticks-of", aria_hidden="true")


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    return tag("line", class_=kind, x1=x1, x2=x2, y1=y1, y2=y2)
