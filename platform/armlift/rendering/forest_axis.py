"""The axis of a forest plot: which lifts it shows, and its ticks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from armlift.comparisons import Comparison
from armlift.rendering.reading import deciding, margin_end
from armlift.report import Report

AXIS_ROOM = 3.0
"""The axis reaches at most this many times the farthest end of a primary interval; bars are clipped there."""
GUARDRAIL_ROOM = 10.0
"""The same where it must hold a guardrail's point or margin."""


class Axis(NamedTuple):
    """The lifts at the plot's ends, and those that have a tick."""

    low: float
    high: float
    ticks: Sequence[float]

    def holds(self, lift: float) -> bool:
        """Tell whether a lift lies on the axis."""
        return self.low <= lift <= self.high

    def share(self, lift: float) -> float:
        """Say how far along the axis a lift stands, 0 at the low end and 1 at the high one; 0 or 1 beyond."""
        return (min(max(lift, self.low), self.high) - self.low) / (self.high - self.low)


def make_axis(report: Report, ticks: int) -> Axis:
    """Choose an axis: it holds 0 and the primary intervals over all units, and clips what dwarfs them."""
    known = [one for one in deciding(report) if one.lift_low is not None and one.lift_high is not None]
    ends = [end for one in known for end in _numbers(one)]
    if not any(ends):
        return Axis(-0.01, 0.01, [0.0])
    guards = [one for one in known if one.role == "guardrail" and one.segment is None]
    margins = [margin_end(report.metrics[one.metric]) for one in guards]
    primary = [one for one in known if one.role == "primary" and one.segment is None]
    near = max((abs(end) for one in primary for end in _numbers(one)), default=0.0)
    near = near or max(map(abs, ends))
    guarding = max(map(abs, [*margins, *(one.lift or 0.0 for one in guards)]), default=0.0)
    limit = max(AXIS_ROOM * near, min(1.25 * guarding, GUARDRAIL_ROOM * near))
    shown = [0.0, *ends, *(margin for margin in margins if abs(margin) <= limit)]
    low, high = max(min(shown), -limit), min(max(shown), limit)
    room = 0.04 * (high - low)
    low, high = max(low - room, -limit), min(high + room, limit)
    return Axis(low, high, tick_values(low, high, ticks))


def _numbers(one: Comparison) -> list[float]:
    return [number for number in (one.lift_low, one.lift, one.lift_high) if number is not None]


def tick_values(low: float, high: float, most: int) -> list[float]:
    """Choose at most `most` + 1 multiples of a round step from `low` to `high` (low < high)."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def tick_label(lift: float) -> str:
    """Write a tick as a percentage with its sign, 0 without."""
    return f"{lift * 100:+.6g}%" if lift else "0%"
