"""A plot of what a study found as SVG: a row a setting, its interval as a bar and its value as a point.

Where settings have a base their differences to it are drawn, else their values. Styled by report.css.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from armlift.evaluation import Interval
from armlift.findings import Row, apart
from armlift.rendering.forest_axis import tick_values
from armlift.rendering.forest_plot import fitted, point
from armlift.rendering.markup import Markup, tag
from armlift.rendering.reading import Effect

WIDTH, LEFT, RIGHT = 960.0, 260.0, 690.0
ROW, HEAD, FOOT = 28.0, 36.0, 32.0
_TICKS = 7
_LETTERS = 28
Scale = Callable[[float], float]


class Bar(NamedTuple):
    """One row: what it is called, its interval (None: nothing is known), the figures, and how it reads."""

    name: str
    interval: Interval | None
    text: str
    effect: Effect


def bars_of(rows: Sequence[Row], metric: str, *, lower_is_better: bool = False) -> tuple[str, list[Bar]]:
    """Choose what is drawn of a metric: differences if there are bases, else values; with its title."""
    if any(metric in row.differences for row in rows):
        bars = [_difference(row, metric, lower_is_better) for row in rows]
        return f"{metric}, difference to the base", bars
    bars = []
    for row in rows:
        found = row.values.get(metric) or row.figures.get(metric)
        text = row.reason or "no data" if found is None else _written(found, "")
        bars.append(Bar(row.setting, found, text, "open"))
    return metric, bars


def _difference(row: Row, metric: str, lower_is_better: bool) -> Bar:
    found = row.differences.get(metric)
    if row.status == "no_data":
        return Bar(row.setting, None, "no data", "unknown")
    if found is None:
        value = row.values.get(metric)
        return Bar(row.setting, None, "no data" if value is None else f"base, {value.value:.4f}", "open")
    effect: Effect = "open"
    if apart(found):
        effect = "better" if (found.value > 0) != lower_is_better else "worse"
    return Bar(row.setting, found, _written(found, "+"), effect)


def _written(found: Interval, sign: str) -> str:
    digits = ".4f" if abs(found.value) < 1 else ".4g"
    return f"{found.value:{sign}{digits}} ({found.low:{sign}{digits}} to {found.high:{sign}{digits}})"


def interval_plot(title: str, bars: Sequence[Bar], *, name: str) -> Markup:
    """Draw bars on one axis, which holds 0; `name` tells this plot from others on a page."""
    known = [bar.interval for bar in bars if bar.interval is not None]
    low = min([0.0, *(interval.low for interval in known)])
    high = max([0.0, *(interval.high for interval in known)])
    room = 0.04 * (high - low) or 1.0
    low, high = low - room if low < 0 else low, high + room

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (RIGHT - LEFT), 1)

    height = HEAD + ROW * len(bars) + FOOT
    parts = []
    for tick in tick_values(low, high, _TICKS):
        kind = "grid" if tick else "zero"
        parts.append(tag("line", class_=kind, x1=x(tick), x2=x(tick), y1=HEAD - 6, y2=height - FOOT + 6))
        parts.append(tag("text", f"{tick:.6g}", class_=f"tick {kind}-label", x=x(tick), y=height - 8))
    for number, bar in enumerate(bars):
        parts.append(_row(bar, HEAD + ROW * number, x))
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("text", title, class_="metric", x=16, y=20),
        *parts,
        class_="forest",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="group",
        aria_labelledby=f"{name}-title",
    )


def _row(bar: Bar, top: float, x: Scale) -> Markup:
    y = top + ROW / 2
    parts = [
        tag("title", f"{bar.name}: {bar.text}"),
        tag("rect", class_="hover", x=8, y=top, width=WIDTH - 16, height=ROW),
        tag("text", fitted(bar.name, _LETTERS), class_="arm", x=28, y=top + 19),
        tag("text", bar.text, class_="figures", x=WIDTH - 16, y=top + 19),
    ]
    if bar.interval is not None:
        value, low, high = bar.interval
        parts.append(tag("line", class_="bar", x1=x(low), x2=x(high), y1=y, y2=y))
        parts.append(point(x(value), y, bar.effect))
    spoken = f"{bar.name}: {bar.text}"
    return tag("g", *parts, class_=f"row {bar.effect}", role="img", aria_label=spoken)
