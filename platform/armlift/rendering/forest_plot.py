"""A forest plot of lifts as SVG: a row a comparison, its interval as a bar and its lift as a point.

The SVG is styled by report.css and drawn for one width, which the page scales: `WIDE` has names, plot and
figures side by side, `NARROW` has the bar below them.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from armlift.comparisons import Comparison
from armlift.metric import Metric
from armlift.rendering.forest_axis import make_axis, tick_label
from armlift.rendering.markup import Markup, join, tag
from armlift.rendering.reading import (
    ROLES,
    Effect,
    Reading,
    deciding,
    gain_of,
    interval_name,
    interval_of,
    margin_end,
    read,
    traits,
    within,
)
from armlift.rendering.words import signed
from armlift.report import Report

EDGE, ROLE_HEIGHT, AXIS_HEIGHT, STAMP_HEIGHT = 16.0, 38.0, 30.0, 28.0


class Layout(NamedTuple):
    """Where things stand, in the SVG's units.

    `left` and `right` are x of the axis' ends; `letters` fit into an arm's name. A metric's title is `metric`
    high and has its note at `note_x` and `note_y`; a comparison is `row` high and has its text at `text` and
    its bar at `bar`.
    """

    name: str
    width: float
    left: float
    right: float
    ticks: int
    letters: int
    metric: float
    note_x: float
    note_y: float
    row: float
    text: float
    bar: float

    @property
    def stacked(self) -> bool:
        """Tell whether the bars stand below the text."""
        return self.bar > self.text


WIDE = Layout("wide", 960, 230, 700, 7, 24, metric=28, note_x=944, note_y=19, row=28, text=19, bar=14)
NARROW = Layout("narrow", 360, 26, 334, 4, 17, metric=44, note_x=16, note_y=37, row=46, text=16, bar=31)


def figure(report: Report) -> Markup:
    """Write a report's plot for wide and narrow screens, of which the page shows one, with a legend."""
    samples = (
        ("better", join(_bar(2, 32, 8), point(17, 8, "better")), "better beyond chance"),
        ("worse", join(_bar(2, 32, 8), point(17, 8, "worse")), "worse beyond chance"),
        ("open", join(_bar(2, 32, 8), point(17, 8, "open")), "may be 0"),
        ("open", join(_bar(2, 24, 8), _arrow(24, 8, 1)), "interval goes on beyond the axis"),
        ("", tag("line", class_="margin", x1=17, x2=17, y1=0, y2=16), "margin of a guardrail"),
    )
    legend = (
        tag("li", tag("svg", drawn, class_=effect or None, viewBox="0 0 34 16", aria_hidden="true"), text)
        for effect, drawn, text in samples
    )
    name, alpha = interval_name(report), report.experiment.analysis.alpha
    early = (
        f"Points are lifts, bars always-valid {name}s, which hold at every look: the end was not fixed "
        f"beforehand, or is not reached. Beyond chance: they leave out 0, and the p-value is below {alpha:g}."
    )
    caption = (
        early
        if report.early
        else (
            f"Points are {gain_of(report)}s, bars their {name}s. Beyond chance: the p-value is below "
            f"{alpha:g}. Both are adjusted for several comparisons, but of guardrails."
        )
    )
    return tag(
        "figure",
        tag("figcaption", tag("p", caption), tag("ul", *legend, class_="legend")),
        forest_plot(report, WIDE),
        forest_plot(report, NARROW),
    )


def forest_plot(report: Report, layout: Layout) -> Markup:
    """Draw every comparison of a report."""
    plot = _Plot(report, layout)
    control, gain = report.experiment.control, gain_of(report)
    described = (
        f"{len(report.comparisons)} comparisons with {control}. Each row has a bar from the lower to the "
        f"upper end of the {gain}'s interval, a point at the {gain}, and the same figures as text."
    )
    return tag(
        "svg",
        tag("title", f"{gain.capitalize()} of each arm against {control}", id=f"forest-{layout.name}-title"),
        tag("desc", described, id=f"forest-{layout.name}-desc"),
        plot.frame(),
        *plot.parts,
        class_=f"forest {layout.name}",
        viewBox=f"0 0 {layout.width:g} {plot.height:g}",
        role="group",
        aria_labelledby=f"forest-{layout.name}-title",
        aria_describedby=f"forest-{layout.name}-desc",
    )


def fitted(name: str, letters: int) -> str:
    """Shorten a name in its middle to so many letters, for two names may begin alike."""
    if len(name) <= letters:
        return name
    half = (letters - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


class _Plot:
    """The rows from top to bottom; `height` grows with them."""

    def __init__(self, report: Report, layout: Layout) -> None:
        self._report = report
        self._layout = layout
        self._axis = make_axis(report, layout.ticks)
        self.parts: list[Markup] = []
        self._top = STAMP_HEIGHT if report.run.synthetic else 0.0
        self.height = self._top + AXIS_HEIGHT
        for (role, segment), of_role in groupby(deciding(report), key=lambda one: (one.role, one.segment)):
            self._blank(ROLE_HEIGHT)
            title = fitted(within(ROLES.get(role, role), segment), 2 * layout.letters)
            self.parts.append(_text("role", title, EDGE, self.height + 26))
            self.height += ROLE_HEIGHT
            for name, of_metric in groupby(of_role, key=lambda one: one.metric):
                self._metric(report.metrics[name], list(of_metric))
        self._end = self.height + 6
        self.height += AXIS_HEIGHT

    def frame(self) -> Markup:
        """Draw what stands behind the rows: gridlines, the line at 0, and the ticks' labels at both ends."""
        top, bottom, width = self._top + AXIS_HEIGHT - 6, self._end, self._layout.width
        parts = []
        if self._report.run.synthetic:
            parts.append(tag("rect", class_="stamp-back", width=width, height=STAMP_HEIGHT - 6))
            parts.append(_text("stamp", "SYNTHETIC DATA", width / 2, 16))
        for lift in self._axis.ticks:
            x, kind = self._x(lift), "grid" if lift else "zero"
            parts.append(_upright(kind, x, top, bottom))
            parts += [_text(f"tick {kind}-label", tick_label(lift), x, y) for y in (top - 8, bottom + 17)]
        return tag("g", *parts, aria_hidden="true")

    def _blank(self, height: float) -> None:
        """Hide the lines behind text, where it stands in the plot: one at a minus would make it a plus."""
        if self._layout.stacked:
            size = {"y": self.height, "width": self._layout.width, "height": height}
            self.parts.append(tag("rect", class_="blank", **size))

    def _x(self, lift: float) -> float:
        left, right = self._layout.left, self._layout.right
        return round(left + self._axis.share(lift) * (right - left), 1)

    def _metric(self, metric: Metric, rows: Sequence[Comparison]) -> None:
        """Draw a metric's title and rows; a guardrail's margin runs through its rows."""
        first, layout = rows[0], self._layout
        self._blank(layout.metric)
        guards = first.role == "guardrail" and any(one.lift_low is not None for one in rows)
        held = self._axis.holds(margin_end(metric))
        note = traits(first, metric) + (", off the axis" if guards and not held else "")
        self.parts.append(_text("metric", fitted(first.metric, 2 * layout.letters), EDGE, self.height + 19))
        self.parts.append(_text("note", note, layout.note_x, self.height + layout.note_y))
        self.height += layout.metric
        if guards and held:
            end = self.height + len(rows) * layout.row
            self.parts.append(_upright("margin", self._x(margin_end(metric)), self.height, end))
        for one in rows:
            self._comparison(one, self._read(one, metric))

    def _read(self, one: Comparison, metric: Metric) -> Reading:
        return read(one, metric, self._report.experiment.analysis.alpha, early=self._report.early)

    def _comparison(self, one: Comparison, reading: Reading) -> None:
        """Draw one row: the arm's name, the bar or the status, and the figures."""
        layout, top = self._layout, self.height
        known = one.lift_low is not None and one.lift_high is not None
        figures = f"{signed(one.lift)} ({interval_of(one)})" if known else signed(one.lift)
        gain = f"{gain_of(self._report)} {figures}"
        spoken = f"{within(one.metric, one.segment)}, {one.arm}: {gain}, {reading.words}"
        y = top + layout.bar
        self._blank(layout.text + 4)
        parts = [
            tag("title", spoken),
            tag("rect", class_="hover", x=8, y=top, width=layout.width - 16, height=layout.row),
            _text("arm", fitted(one.arm, layout.letters), EDGE + 12, top + layout.text),
            _text("figures", figures, layout.width - EDGE, top + layout.text),
            *(self._interval(one, reading.effect, y) if known else [self._status(reading.words, y)]),
        ]
        self.parts.append(tag("g", *parts, class_=f"row {reading.effect}", role="img", aria_label=spoken))
        self.height += layout.row

    def _status(self, words: str, y: float) -> Markup:
        """Write why there is no bar, on the side of the line at 0 that has more room."""
        x = self._x(0.0)
        if self._axis.share(0.0) > 0.5:
            return _text("status left", words, x - 8, y + 5)
        return _text("status", words, x + 8, y + 5)

    def _interval(self, one: Comparison, effect: Effect, y: float) -> list[Markup]:
        """Draw bar and point; an arrow stands where the interval goes on beyond the axis."""
        axis, layout = self._axis, self._layout
        low, lift, high = (float(end or 0.0) for end in (one.lift_low, one.lift, one.lift_high))
        parts = [_bar(self._x(low), self._x(high), y)]
        parts += [_upright("cap", self._x(end), y - 4, y + 4) for end in (low, high) if axis.holds(end)]
        if low < axis.low:
            parts.append(_arrow(layout.left, y, -1))
        if high > axis.high:
            parts.append(_arrow(layout.right, y, 1))
        if axis.holds(lift):
            parts.append(point(self._x(lift), y, effect))
        return parts


def point(x: float, y: float, effect: Effect) -> Markup:
    """Draw a point: a diamond where the arm is worse, else a circle (hollow by its class where open)."""
    if effect == "worse":
        return tag("path", class_="point", d=f"M{x:g} {y - 7:g}l7 7l-7 7l-7 -7z")
    return tag("circle", class_="point", cx=x, cy=y, r=5.5)


def _text(kind: str, text: str, x: float, y: float) -> Markup:
    return tag("text", text, class_=kind, x=x, y=y)


def _upright(kind: str, x: float, top: float, bottom: float) -> Markup:
    return tag("line", class_=kind, x1=x, x2=x, y1=top, y2=bottom)


def _bar(start: float, end: float, y: float) -> Markup:
    return tag("line", class_="bar", x1=start, x2=end, y1=y, y2=y)


def _arrow(x: float, y: float, way: int) -> Markup:
    """Draw an arrow that goes on from x to the left (way -1) or right (1)."""
    return tag("path", class_="clipped", d=f"M{x + 9 * way:g} {y:g}l{-10 * way} -6v12z")
