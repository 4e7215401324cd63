"""Figures over time: cumulative lifts from a run's snapshots, and units by day and arm."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from armlift.answers import Answers
from armlift.rendering.forest_table import Scale
from armlift.rendering.reading import shown
from armlift.report import Report
from armlift_dashboards.stored import Taken

MOST_POINTS = 60
"""Snapshots a series is read from, spread evenly: more make no other picture."""


class Point(NamedTuple):
    """A lift (or difference) as of a time (UTC milliseconds), with both its intervals; unknown is None."""

    at: int
    metric: str
    arm: str
    units: int
    value: float | None
    low: float | None
    high: float | None
    always_low: float | None
    always_high: float | None


class Arrived(NamedTuple):
    """New units of an arm on a day (days since 1970-01-01 in the lab's zone)."""

    arm: str
    day: int
    units: int


def cumulative(
    taken: Sequence[Taken], read: Callable[[str], Report], scale: Scale, until: int
) -> list[Point]:
    """Read the primary metrics' lifts from snapshots (newest first) as of no later than `until`, by time."""
    times = [one for one in reversed(taken) if one.as_of <= until]
    step = max(1, -(-len(times) // MOST_POINTS))
    kept = times[::-step][::-1] if times else []
    return [
        Point(one.as_of, row.metric, row.arm, row.units, *scale.ends(row))
        for one in kept
        for row in shown(read(one.id))
        if row.role == "primary" and row.segment is None
    ]


def arrivals(answers: Mapping[str, Any]) -> list[Arrived]:
    """Read the units by arm and day of first exposure from what a snapshot keeps."""
    return [Arrived(arm, day, units) for (arm, day), units in Answers(answers).arrivals_by_arm().items()]
