"""A forest plot of lifts as SVG: a row a comparison, its interval as a bar and its lift as a point.

The SVG is styled by report.css and drawn for one width, which the page scales: `WIDE` has names, plot and
figures side by side, `NARROW` has the bar below them.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from armlift.markup import Markup, join, tag
from armlift.metric import Metric
from armlift.reading import ROLES, Reading, interval_of, name_of, read, sign_of, wanted
from armlift.report import Comparison, Report
from armlift.words import signed

AXIS_ROOM = 3.0
"""The axis reaches at most this many times the farthest end of a primary interval; beyond, bars are clipped."""
GUARDRAIL_ROOM = 10.0
"""The same where it must hold a guardrail's point or margin."""
NAME_LENGTH = 26
"""Characters of a name that fit beside the figures."""
ROLE_HEIGHT, METRIC_HEIGHT, AXIS_HEIGHT = 38.0, 28.0, 30.0


class Layout(NamedTuple):
    """Where things stand, in units of the SVG: x of the plot's ends, a row's height, y of text and bar in it."""

    name: str
    width: float
    left: float
    right: float
    row: float
    text: float
    bar: float
    ticks: int


WIDE = Layout("wide", width=960, left=230, right=700, row=28, text=19, bar=14, ticks=7)
NARROW = Layout("narrow", width=360, left=22, right=338, row=46, text=16, bar=31, ticks=4)


class Axis(NamedTuple):
    """The lifts at the plot's ends, and those that have a tick."""

    low: float
    high: float
    ticks: Sequence[float]

    def holds(self, lift: float) -> bool:
        """Tell whether a lift lies on the axis."""
        return self.low <= lift <= self.high

    def x(self, lift: float, layout: Layout) -> float:
        """Give the x of a lift; of one beyond the axis that of its end."""
        share = (min(max(lift, self.low), self.high) - self.low) / (self.high - self.low)
        return round(layout.left + share * (layout.right - layout.left), 1)


def forest_plot(report: Report, layout: Layout) -> Markup:
    """Draw every comparison of a report."""
    axis = make_axis(report, layout.ticks)
    plot = _Plot(report, layout, axis)
    control = report.experiment.control
    described = (
        f"{len(report.comparisons)} comparisons with {control}. Each row has a bar from the lower to the upper "
        "end of the lift's interval, a point at the lift, and the same figures as text."
    )
    return tag(
        "svg",
        tag("title", f"Lift of each arm against {control}", id=f"forest-{layout.name}-title"),
        tag("desc", described, id=f"forest-{layout.name}-desc"),
        plot.frame(),
        *plot.parts,
        class_=f"forest {layout.name}",
        viewBox=f"0 0 {layout.width:g} {plot.height:g}",
        role="group",
        aria_labelledby=f"forest-{layout.name}-title",
        aria_describedby=f"forest-{layout.name}-desc",
    )


def make_axis(report: Report, ticks: int) -> Axis:
    """Choose an axis for a report: it holds 0 and every primary interval, and clips what dwarfs them."""
    known = [
        (one, (one.lift_low, one.lift, one.lift_high))
        for one in report.comparisons
        if one.lift_low is not None and one.lift is not None and one.lift_high is not None
    ]
    ends = [end for _, numbers in known for end in numbers]
    if not any(ends):
        return Axis(-0.01, 0.01, [0.0])
    primary = [abs(end) for one, numbers in known for end in numbers if one.role == "primary"]
    near = max(primary, default=0.0) or max(map(abs, ends))
    guards = [(one.lift or 0.0, _bad_end(report.metrics[one.metric])) for one, _ in known if _guards(one)]
    deciding = max((1.25 * abs(number) for pair in guards for number in pair), default=0.0)
    limit = max(AXIS_ROOM * near, min(deciding, GUARDRAIL_ROOM * near))
    shown = [0.0, *ends, *(margin for _, margin in guards if abs(margin) <= limit)]
    low, high = max(min(shown), -limit), min(max(shown), limit)
    room = 0.04 * (high - low)
    low, high = (low - room if low > -limit else low), (high + room if high < limit else high)
    return Axis(low, high, tick_values(low, high, ticks))


def tick_values(low: float, high: float, most: int) -> list[float]:
    """Choose at most `most` + 1 round numbers from `low` to `high` (low < high), all multiples of one step."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def tick_label(lift: float) -> str:
    """Write a tick as a percentage with its sign, 0 without."""
    return f"{lift * 100:+.6g}%" if lift else "0%"


def _guards(one: Comparison) -> bool:
    return one.role == "guardrail"


def _bad_end(metric: Metric) -> float:
    """Give the lift at which a guardrail's margin ends."""
    return -sign_of(metric) * metric.margin


def fitted(name: str) -> str:
    """Shorten a name in its middle so that it fits into its column."""
    if len(name) <= NAME_LENGTH:
        return name
    half = (NAME_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


class _Plot:
    """The rows from top to bottom; `height` grows with them."""

    def __init__(self, report: Report, layout: Layout, axis: Axis) -> None:
        self._report = report
        self._layout = layout
        self._axis = axis
        self.parts: list[Markup] = []
        self.height = AXIS_HEIGHT
        for role, of_role in groupby(report.comparisons, key=lambda one: one.role):
            self._role(role)
            for name, of_metric in groupby(of_role, key=lambda one: one.metric):
                self._metric(report.metrics[name], list(of_metric))
        self._end = self.height + 6
        self.height += AXIS_HEIGHT

    def frame(self) -> Markup:
        """Draw what stands behind the rows: gridlines, the line at 0, and the ticks' labels at both ends."""
        top, bottom = AXIS_HEIGHT - 6, self._end
        parts = []
        for lift in self._axis.ticks:
            x = self._axis.x(lift, self._layout)
            kind = "grid" if lift else "zero"
            parts.append(tag("line", class_=kind, x1=x, x2=x, y1=top, y2=bottom))
            for y in (top - 8, bottom + 17):
                parts.append(tag("text", tick_label(lift), class_=f"tick {kind}-label", x=x, y=y))
        if self._report.run.synthetic:
            parts.append(tag("text", "SYNTHETIC", class_="stamp", x=self._layout.width - 16, y=top - 8))
        return tag("g", *parts, class_="frame", aria_hidden="true")

    def _role(self, role: str) -> None:
        y = self.height + 26
        title = ROLES.get(role, role)
        self.parts.append(tag("text", title, class_="role", x=self._layout.left if False else 16, y=y))
        self.height += ROLE_HEIGHT

    def _metric(self, metric: Metric, rows: Sequence[Comparison]) -> None:
        note, y = wanted(metric), self.height + 19
        guardrail = _guards(rows[0])
        if guardrail:
            off = "" if self._axis.holds(_bad_end(metric)) else ", off the axis"
            note += f", margin {signed(_bad_end(metric))}{off}"
        self.parts.append(tag("text", fitted(rows[0].metric), class_="metric", x=16, y=y))
        self.parts.append(tag("text", note, class_="note", x=self._layout.width - 16, y=y))
        self.height += METRIC_HEIGHT
        if guardrail and self._axis.holds(_bad_end(metric)):
            x, end = self._axis.x(_bad_end(metric), self._layout), self.height + len(rows) * self._layout.row
            self.parts.append(tag("line", class_="margin", x1=x, x2=x, y1=self.height, y2=end))
        for one in rows:
            self._comparison(one, read(one, metric, self._report.experiment.analysis.alpha))

    def _comparison(self, one: Comparison, reading: Reading) -> None:
        """Draw one row: the arm's name, the bar or the status, and the figures."""
        layout, name = self._layout, name_of(one)
        known = one.lift_low is not None and one.lift_high is not None
        figures = f"{signed(one.lift)} ({interval_of(one)})" if known else signed(one.lift)
        spoken = f"{one.metric}, {name}: lift {figures}, {reading.words}"
        y = self.height
        parts = [
            tag("title", spoken),
            tag("rect", class_="hover", x=8, y=y, width=layout.width - 16, height=layout.row),
            tag("text", fitted(name), class_="arm", x=28, y=y + layout.text),
            *(self._interval(one, y + layout.bar) if known else [self._status(reading, y + layout.bar)]),
            tag("text", figures, class_="figures", x=layout.width - 16, y=y + layout.text),
        ]
        self.parts.append(
            tag("g", *parts, class_=f"row {reading.effect}", role="img", aria_label=spoken),
        )
        self.height += layout.row

    def _status(self, reading: Reading, y: float) -> Markup:
        """Write why there is no bar, on the side of the line at 0 that has more room."""
        x = self._axis.x(0.0, self._layout)
        right = x <= (self._layout.left + self._layout.right) / 2
        place = {"x": x + 8 if right else x - 8, "y": y + 5}
        return tag("text", reading.words, class_="status" if right else "status left", **place)

    def _interval(self, one: Comparison, y: float) -> list[Markup]:
        """Draw bar and point; an arrow stands where the interval goes on beyond the axis."""
        axis, layout = self._axis, self._layout
        low, lift, high = (float(end or 0.0) for end in (one.lift_low, one.lift, one.lift_high))
        start, end = axis.x(low, layout), axis.x(high, layout)
        parts = [tag("line", class_="bar", x1=start, x2=end, y1=y, y2=y)]
        for beyond, x, way in ((low < axis.low, layout.left, -1), (high > axis.high, layout.right, 1)):
            if beyond:
                parts.append(tag("path", class_="clipped", d=f"M{x + 9 * way:g} {y:g}l{-10 * way} -6v12z"))
        for inside, x in ((axis.holds(low), start), (axis.holds(high), end)):
            if inside:
                parts.append(tag("line", class_="cap", x1=x, x2=x, y1=y - 4, y2=y + 4))
        if axis.holds(lift):
            parts.append(tag("g", _point(axis.x(lift, layout), y), class_="point"))
        return parts


def _point(x: float, y: float) -> Markup:
    """Draw all three shapes of a point; the row's class shows the one of its effect."""
    return join(
        tag("circle", cx=x, cy=y, r=5),
        tag("path", d=f"M{x:g} {y - 6.5:g}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"),
    )
