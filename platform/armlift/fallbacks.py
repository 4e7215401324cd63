"""Fallbacks: the share of an arm's impressions that another arm had to answer, tested at every look.

A share is of the units that met the arm in the experiment, each a cluster of impressions. It is looked at
over the hour, the day and the week (of UTC, from 1970-01-01) that a look falls in: the hour finds a storm
soon, the longer ones find what is slow. Within each the lower end of an always-valid interval must lie above
what is allowed; the n-th hour, day or week has 6 / (pi n)^2 of its alpha, so that all have no more together.
"""

from collections.abc import Collection, Iterator
from math import pi, sqrt
from typing import NamedTuple

from sqlalchemy import Connection, case, func, literal, select, true

from armlift.days import DAY_MS, utc_day
from armlift.moments import aggregates_by
from armlift.started import RunningExperiment
from armlift.stats.aggregates import Aggregates
from armlift.stats.always_valid import critical_value
from armlift.stats.ratios import ratio
from armlift.store.tables import exposures, impressions

LENGTHS = (3_600_000, DAY_MS, 7 * DAY_MS)
TUNING = 500
"""Units at which the interval is tightest."""


class Share(NamedTuple):
    """An arm's share of fallbacks since a time (UTC milliseconds), with the lower end of its interval."""

    arm: str
    value: float
    low: float
    since: int
    units: int
    impressions: int


def excess(
    connection: Connection, one: RunningExperiment, as_of: int, *,
    since: int, allowed: float, alpha: float, minimum_units: int,
) -> list[Share]:  # fmt: skip
    """Give the arms whose share of fallbacks is surely above the allowed one, as of a time (UTC ms).

    Impressions before `since` do not count. Arms with fewer units than the minimum are not judged; the week
    is looked at only where some arm has fewer in a day.
    """
    arms = list(one.experiment.arms)
    found: dict[str, Share] = {}
    enough: set[str] = set()
    for length in LENGTHS:
        if len(enough) == len(arms) and length == LENGTHS[-1]:
            break
        enough = set()
        begin = as_of - as_of % length
        number = as_of // length - since // length + 1
        own_alpha = alpha / (len(LENGTHS) * len(arms)) * 6.0 / (pi * number) ** 2
        for arm, counts in _counts(connection, one, max(begin, since), as_of):
            if counts.n < minimum_units:
                continue
            enough.add(arm)
            share = share_of(arm, counts, max(begin, since), own_alpha)
            if share.low > allowed:
                found.setdefault(arm, share)
    return list(found.values())


def count(
    connection: Connection, run: str, experiment: str, arms: Collection[str], *, as_of_day: int, live: bool
) -> dict[str, tuple[int, int]]:
    """Count, by arm, impressions that were fallbacks, and all of them, up to a day (from 1970-01-01).

    Empty where there is no fallback. In a live run each is an exposure too, so that without any there is
    nothing to look for.
    """
    e, i = exposures.c, impressions.c
    if live:
        any_ = select(e.fallback).where(e.run == run, e.experiment == experiment, e.fallback).limit(1)
        if connection.execute(any_).first() is None:
            return {}
    number = func.sum(case((i.fallback, 1), else_=0))
    asked = select(i.arm, number, func.count()).where(i.run == run, i.arm.in_(list(arms)), i.day <= as_of_day)
    rows = connection.execute(asked.group_by(i.arm).order_by(i.arm)).all()
    found = {arm: (int(fallbacks), int(shown)) for arm, fallbacks, shown in rows}
    return found if any(fallbacks for fallbacks, _ in found.values()) else {}


def share_of(arm: str, counts: Aggregates, since: int, alpha: float) -> Share:
    """Give an arm's share from its aggregates over (fallbacks, shown) of units since a time (UTC ms)."""
    estimate = ratio(counts, "fallbacks", "shown")
    value = estimate.value or 0.0
    low = value - critical_value(counts.n, alpha, TUNING) * sqrt(max(0.0, estimate.variance))
    return Share(arm, value, low, since, counts.n, round(counts.n * counts.means.item(1)))


def _counts(
    connection: Connection, one: RunningExperiment, begin: int, end: int
) -> Iterator[tuple[str, Aggregates]]:
    """Give each arm's aggregates over (fallbacks, shown) of units, from requests between two times."""
    e, i = exposures.c, impressions.c
    met = (e.run == i.run, e.unit_id == i.unit_id, e.arm == i.arm, e.ts <= i.ts)
    exposed = select(e.unit_id).where(e.experiment == one.name, *met).exists()
    # An event's name begins with its request's time, so these are neighbours in the table.
    during = (i.request_day >= utc_day(begin), i.event_id >= f"{begin:012x}", i.ts <= end)
    units = (
        select(
            i.arm,
            func.sum(case((i.fallback, 1.0), else_=0.0)).label("fallbacks"),
            (func.count() * literal(1.0)).label("shown"),
        )
        .where(i.run == one.run, i.arm.in_(list(one.experiment.arms)), *during, exposed)
        .group_by(i.arm, i.unit_id)
        .subquery()
    )
    u = units.c
    columns = {"fallbacks": u.fallbacks, "shown": u.shown}
    for (arm,), counts in aggregates_by(connection, units, true(), [u.arm], columns).items():
        yield arm, counts
