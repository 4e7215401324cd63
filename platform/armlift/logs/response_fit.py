"""The response model fitted from a log: one pass over its rows, then a few over them in memory."""

from collections.abc import Mapping

import numpy as np

from armlift.days import Calendar, utc_text
from armlift.errors import InputError
from armlift.hashing import uniforms
from armlift.logs.activity import activity_of
from armlift.logs.crossed_effects import Crossed, Grouping, fit_crossed
from armlift.logs.play_times import play_times
from armlift.logs.reader import Log
from armlift.logs.response_model import (
    ACTIONS,
    Levels,
    LongViews,
    Rate,
    ResponseModel,
    outcome_of,
    primary_of,
)
from armlift.logs.rows import Bools, Floats, Rows, read_rows

SESSION_GAP_MS = 1_800_000
LEAST_RANDOM_ROWS = 100
"""So many rows shown at random, or shown otherwise, make a level of their own worth fitting."""
HELD_OUT = 0.1
"""The share of clicks on which the item's effect on long views is tried."""
CLEARLY = 2.0
"""Standard errors by which it must do better there."""


def fit_response(
    log: Log, until: int | None = None, *, calendar: Calendar | None = None, gap_ms: int = SESSION_GAP_MS
) -> ResponseModel:
    """Fit a response model to the rows of a log before `until` (UTC milliseconds), all where it is None.

    Days and hours are those of `calendar` (default UTC); a pause over `gap_ms` ends a session. Memory holds
    the rows, see `rows`. The same log gives the same model. Raises InputError for a log without such rows, or
    that knows neither clicks nor long views.
    """
    check_log(log, until)
    outcome = primary_of(log.summary.kinds)
    rows = read_rows(log, until=until)
    did: dict[str, Bools] = {kind: values != 0 for kind, values in rows.feedback.items() if kind != "play"}
    levels, primary = _primary(rows, did[outcome])
    level = levels.standard if levels.random is None else levels.random
    assert level is not None
    unit_effects, item_effects = primary.effects
    click, long_view = did.get("click"), did.get("long_view")
    deepest = did[outcome] if long_view is None else long_view
    return ResponseModel(
        outcome=outcome,
        units=rows.units,
        items=rows.items,
        level=level,
        levels=levels,
        unit_effects=unit_effects,
        item_effects=item_effects,
        long_views=_long_views(rows, click, long_view, _log_odds(rows, primary)),
        play=play_times(rows, outcome_of(click, long_view)),
        rates=_rates(did, deepest),
        activity=activity_of(rows, calendar or Calendar("UTC"), gap_ms),
        rows=len(rows),
        random_rows=None if rows.random is None else int(rows.random.sum()),
        until=int(rows.ts[-1]) + 1 if until is None else until,
    )


def check_log(log: Log, until: int | None) -> None:
    """Raise InputError, with no row read, where there is nothing to fit a response model on."""
    primary_of(log.summary.kinds)
    if until is not None and until <= log.summary.first_ts:
        files = ", ".join(log.summary.files)
        raise InputError(f"{files}: has no row before {utc_text(until)} to fit a response model on")


def _primary(rows: Rows, outcome: Bools) -> tuple[Levels, Crossed]:
    """Fit the primary outcome; random exposure has a level of its own where both kinds have rows enough."""
    groupings = [Grouping(rows.unit, len(rows.units)), Grouping(rows.item, len(rows.items))]
    n, random = len(rows), 0 if rows.random is None else int(rows.random.sum())
    if rows.random is not None and LEAST_RANDOM_ROWS <= random <= n - LEAST_RANDOM_ROWS:
        found = fit_crossed(outcome, rows.random[:, None].astype(np.float64), groupings)
        return Levels(found.level, found.level + float(found.slopes[0])), found
    found = fit_crossed(outcome, np.empty((n, 0)), groupings)
    return Levels(None, found.level) if 2 * random > n else Levels(found.level, None), found


def _log_odds(rows: Rows, primary: Crossed) -> Floats:
    """Give the log odds of each row's primary outcome under its own exposure, float64 [n]."""
    unit_effects, item_effects = primary.effects
    odds = primary.level + unit_effects.of(rows.unit) + item_effects.of(rows.item)
    if len(primary.slopes) and rows.random is not None:
        odds += primary.slopes[0] * rows.random
    return odds


def _long_views(
    rows: Rows, click: Bools | None, long_view: Bools | None, log_odds: Floats
) -> LongViews | None:
    """Fit long views given clicks; the item counts where it clearly does better on clicks held out."""
    if click is None or long_view is None:
        return None
    own = np.flatnonzero(click)
    outcome, column, items = long_view[own], log_odds[own, None], rows.item[own]
    held_out = uniforms(own.astype(np.uint64)) < HELD_OUT
    kept = ~held_out
    without = fit_crossed(outcome[kept], column[kept], [])
    with_items = fit_crossed(outcome[kept], column[kept], [Grouping(items[kept], len(rows.items))])
    base = without.level + without.slopes[0] * column[held_out, 0]
    more = with_items.level + with_items.slopes[0] * column[held_out, 0]
    more = more + with_items.effects[0].mean[items[held_out]]
    helps = _clearly_better(outcome[held_out], base, more)
    found = fit_crossed(outcome, column, [Grouping(items, len(rows.items))] if helps else [])
    return LongViews(
        level=found.level,
        slope=float(found.slopes[0]),
        items=found.effects[0] if helps else None,
        without_click=_share(long_view[~click]),
    )


def _clearly_better(outcome: Bools, base: Floats, more: Floats) -> bool:
    """Tell whether the log odds `more` lose clearly less than `base` on an outcome, bool [n]."""
    if len(outcome) < 2:
        return False
    gain = log_loss(outcome, base) - log_loss(outcome, more)
    return bool(gain.mean() > CLEARLY * gain.std(ddof=1) / np.sqrt(len(gain)))


def log_loss(outcome: Bools, log_odds: Floats) -> Floats:
    """Give what each row loses under its log odds: minus the log likelihood, float64 [n]."""
    lost: Floats = np.logaddexp(0.0, np.where(outcome, -log_odds, log_odds))
    return lost


def _rates(did: Mapping[str, Bools], deepest: Bools) -> dict[str, Rate]:
    """Give the rates of the other kinds after the deepest outcome, and otherwise."""
    known = [kind for kind in ACTIONS if kind in did]
    return {kind: Rate(_share(did[kind][deepest]), _share(did[kind][~deepest])) for kind in known}


def _share(happened: Bools) -> float:
    return float(happened.mean()) if len(happened) else 0.0
