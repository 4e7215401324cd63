"""Ratings of prompts: people compare what a model says to a unit with other lists, told nothing of either."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import isnan, sqrt
from typing import Literal, NamedTuple, get_args

import numpy as np
from sqlalchemy import Connection, select

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.agreement import Agreement, agreement
from armlift.stats.estimates import half_width
from armlift.stats.paired import paired_ratios
from armlift.stats.ratios import ratio
from armlift.stats.results import Effect, Interval, Rules
from armlift.store.sink import insert_or
from armlift.store.tables import prompt_ratings

Source = Literal["model", "popular", "random", "shuffled"]
SOURCES: tuple[Source, ...] = get_args(Source)
"""Where a list comes from: the model; the most popular items; a draw of the catalogue; another unit."""
MODEL: Source = "model"
SCALE = (1, 2, 3, 4, 5)
"""The ratings, the worst first."""
LEAST_UNITS = 5
"""Units below which nothing is estimated from ratings."""
_MOST_NAME = 200


class Rating(NamedTuple):
    """What a rater thinks of one list, whose items were shown to continue a unit's history in a run.

    `position` is where it stood among the lists of the unit, from 0; `at` is in UTC milliseconds.
    """

    arm: str
    version: str
    run: str
    unit_id: str
    rater: str
    source: Source
    rating: int
    position: int
    items: Sequence[str]
    at: int


class Standing(NamedTuple):
    """How the lists of a source are rated: the mean with its interval, and the model's mean less it.

    The interval is of units as clusters: several people may rate the lists of one unit. Below `LEAST_UNITS`
    units the status is `too_few`, and there is no number. `behind` is None for the model itself; it compares
    within units.
    """

    source: Source
    ratings: int
    mean: Interval
    behind: Effect | None


class Summary(NamedTuple):
    """What ratings say together; `rated` counts the times that somebody rated a unit's lists."""

    rated: int
    units: int
    raters: int
    standings: Sequence[Standing]
    agreement: Agreement


def store(connection: Connection, ratings: Sequence[Rating]) -> None:
    """Store ratings, in place of those of the same rater, unit and version.

    Raises InputError for a rating off the scale, an unknown source, an empty list, and a rater without a name
    or with one of over 200 characters.
    """
    for one in ratings:
        _check(one)
    keys = [column.name for column in prompt_ratings.primary_key]
    changed = [column.name for column in prompt_ratings.c if column.name not in keys]
    statement = insert_or(connection, prompt_ratings)
    new = {name: statement.excluded[name] for name in changed}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=new),
        [{**one._asdict(), "items": list(one.items)} for one in ratings],
    )


def _check(one: Rating) -> None:
    if one.rating not in SCALE:
        raise InputError(f"rating {one.rating!r}: must be one of {', '.join(map(str, SCALE))}")
    if one.source not in SOURCES:
        raise InputError(f"source {one.source!r}: must be one of {', '.join(SOURCES)}")
    if not one.items:
        raise InputError(f"items of the source {one.source}: are none, must be at least one")
    if not one.rater.strip() or len(one.rater) > _MOST_NAME or "\0" in one.rater:
        raise InputError(f"rater {one.rater!r}: must have 1 to {_MOST_NAME} characters, and no NUL")


def of_arm(connection: Connection, arm: str) -> list[Rating]:
    """Read all ratings of an arm's prompts, the oldest first."""
    r = prompt_ratings.c
    query = select(*(r[name] for name in Rating._fields)).where(r.arm == arm)
    rows = connection.execute(query.order_by(r.at, r.run, r.unit_id, r.rater, r.position))
    return [Rating(*row) for row in rows]


def summarise(ratings: Iterable[Rating], rules: Rules | None = None) -> Summary:
    """Say what ratings come to; `rules` give the error of intervals, and how few units are too few."""
    rules, found = rules or Rules(min_units=LEAST_UNITS), list(ratings)
    totals = _totals(found)
    return Summary(
        len({(one.version, one.run, one.unit_id, one.rater) for one in found}),
        totals.n,
        len({one.rater for one in found}),
        [_standing(source, found, totals, rules) for source in SOURCES],
        _agreement(found, rules),
    )


def _totals(ratings: Sequence[Rating]) -> Aggregates:
    """Aggregate over units the sum and the count of the ratings of each source."""
    units: dict[tuple[str, str], int] = {}
    for one in ratings:
        units.setdefault((one.run, one.unit_id), len(units))
    values = np.zeros((len(units), 2 * len(SOURCES)))
    for one in ratings:
        row, column = units[one.run, one.unit_id], 2 * SOURCES.index(one.source)
        values[row, column : column + 2] += one.rating, 1.0
    names = tuple(name for source in SOURCES for name in _columns(source))
    return Aggregates.of(names, values)


def _columns(source: Source) -> tuple[str, str]:
    return f"{source} sum", f"{source} count"


def _standing(source: Source, ratings: Sequence[Rating], totals: Aggregates, rules: Rules) -> Standing:
    count = sum(one.source == source for one in ratings)
    behind = None
    if source != MODEL:
        behind = paired_ratios(totals, _columns(MODEL), _columns(source), rules)
    return Standing(source, count, _mean(totals, source, rules), behind)


def _mean(totals: Aggregates, source: Source, rules: Rules) -> Interval:
    """Give the mean rating of a source: a ratio of totals, its t interval kept on the scale."""
    estimate = ratio(totals, *_columns(source))
    if estimate.value is None:
        return Interval("ratio", "no_data", totals.n, None, None, None, rules.alpha)
    if estimate.n < max(2, rules.min_units):
        return Interval("ratio", "too_few", totals.n, None, None, None, rules.alpha)
    if isnan(estimate.variance) or estimate.variance <= 0.0:
        return Interval("ratio", "zero_variance", totals.n, estimate.value, None, None, rules.alpha)
    half = half_width(sqrt(estimate.variance), totals.n - 1, rules.alpha)
    low, high = max(SCALE[0], estimate.value - half), min(SCALE[-1], estimate.value + half)
    return Interval("ratio", "ok", totals.n, estimate.value, low, high, rules.alpha)


def _agreement(ratings: Sequence[Rating], rules: Rules) -> Agreement:
    """Measure how far raters agree who rated the very same list for the same unit of a run."""
    counts: dict[tuple[str, str, Source, tuple[str, ...]], Counter[int]] = defaultdict(Counter)
    for one in ratings:
        counts[one.run, one.unit_id, one.source, tuple(one.items)][one.rating] += 1
    units = {key: number for number, key in enumerate(dict.fromkeys(key[:2] for key in counts))}
    table = np.array([[found[value] for value in SCALE] for found in counts.values()], dtype=np.float64)
    clusters = np.array([units[key[:2]] for key in counts], dtype=np.float64)
    return agreement(table.reshape(-1, len(SCALE)), clusters, rules)
