"""A world after a log: its videos, its users' ways, and its rates in place of the published ones."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.logs.generator_world import (
    DURATION_MEDIAN_MS,
    DURATION_RANGE_MS,
    DURATION_SPREAD,
    Catalogue,
    Floats,
    Ints,
)
from armlift.logs.reader import Log
from armlift.logs.response_fit import fit_response
from armlift.logs.response_model import ResponseModel
from armlift.simulation.calibration import APP, UNIFORM, Origin, Rates
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.world import RATES, World, followers

VIDEO, TAG, DURATION = "video_id", "tag", "video_duration"
"""Columns of a table of videos such as KuaiRand's `video_features_basic_*.csv`."""
_PAIRS = 100_000
_LEAST_RANDOM = 100
_MOST_SPREAD, _MOST_ROWS, _MOST_SESSIONS, _MOST_WEEKDAY = 3.0, 300.0, 12.0, 10.0


class Fitted(NamedTuple):
    """A world after a log, and the settings with what the log decides.

    `left_out` counts the log's videos beyond the number that the settings ask for: those shown least.
    """

    settings: SimulationSettings
    origin: Origin
    left_out: int


def fit_world(
    settings: SimulationSettings, log: Log, calendar: Calendar, videos: Path | None = None
) -> Fitted:
    """Fit a world to a log: any with clicks, in KuaiRand's form.

    From the log: the videos that were shown (the most shown ones, at most `settings.videos`), what all think
    of each, how unlike users are, sessions, rows, hours and weekdays, and the rates. Uniform draws have the
    rates of its rows of random exposure; where it has too few, what its response model expects. From the
    table of videos, where given: categories (the first of `tag`) and lengths; else they are drawn. Tastes and
    what follows what are the settings'. Raises InputError for a log without clicks, with fewer than 20
    videos, or a table that cannot be read.
    """
    if "click" not in log.summary.kinds:
        raise InputError(
            f"{log.summary.files[0]}: knows {', '.join(sorted(log.summary.kinds))}, must know clicks"
        )
    model = fit_response(log, calendar=calendar)
    counts, rates = _counted(log, model)
    kept = np.sort(np.argsort(-counts, kind="stable")[: settings.videos])
    if len(kept) < 20:
        raise InputError(f"{log.summary.files[0]}: shows {len(kept)} videos, must show 20 or more")
    catalogue, categories = _catalogue(settings, model, counts, kept, videos)
    activity = model.activity
    shares = np.bincount(catalogue.category, minlength=categories).astype(np.float64)
    changed = settings.model_copy(
        update={
            "videos": len(kept),
            "taste_categories": categories,
            "user_spread": min(float(model.unit_effects.spread), _MOST_SPREAD),
            "sessions_per_day": min(
                float(activity.unit_sessions.sum()) / (len(model.units) * activity.days), _MOST_SESSIONS
            ),
            "rows_per_session": min(max(1.0, activity.rows_per_session), _MOST_ROWS),
            "weekdays": _weekdays(activity.weekdays),
        }
    )
    known = {kind: rate.given for kind, rate in model.rates.items() if kind != "hate"}
    if "hate" in model.rates:
        known["hate"] = model.rates["hate"].otherwise
    world = World(
        ids=[model.items[video] for video in kept.tolist()],
        catalogue=catalogue,
        follower=followers(settings.catalogue_seed, categories),
        taste_shares=shares / shares.sum(),
        hours=activity.hours,
        rates={**RATES, **{kind: rate for kind, rate in known.items() if kind in RATES}},
    )
    targets = {APP: rates[APP], UNIFORM: rates.get(UNIFORM) or _expected(model, rates[APP])}
    described = "" if videos is None else hashlib.sha256(videos.read_bytes()).hexdigest()
    identity = f"{log.summary.sha256}|{described}"
    return Fitted(changed, Origin(world, targets, identity), len(model.items) - len(kept))


def _weekdays(shares: Floats) -> tuple[float, ...]:
    """Give what each weekday multiplies sessions by; one that the log does not have is like their mean."""
    factors = np.where(shares > 0, shares / shares[shares > 0].mean(), 1.0)
    return tuple(np.minimum(factors, _MOST_WEEKDAY).tolist())


def _counted(log: Log, model: ResponseModel) -> tuple[Ints, dict[str, Rates]]:
    """Count how often each video was shown, int64 [items], and the rates of rows of either exposure."""
    counts = np.zeros(len(model.items), dtype=np.int64)
    rows = {APP: 0.0, UNIFORM: 0.0}
    clicks, long_views = dict(rows), dict(rows)
    for batch in log.batches():
        np.add.at(counts, model.items_of(batch.items), 1)
        random = np.zeros(len(batch), dtype=np.bool_) if batch.random is None else batch.random
        for policy, which in ((APP, ~random), (UNIFORM, random)):
            rows[policy] += float(which.sum())
            clicks[policy] += float((batch.feedback["click"][which] != 0).sum())
            if "long_view" in batch.feedback:
                long_views[policy] += float((batch.feedback["long_view"][which] != 0).sum())
    if not rows[APP]:
        rows[APP], clicks[APP], long_views[APP] = rows[UNIFORM], clicks[UNIFORM], long_views[UNIFORM]
    found = {
        policy: Rates(_open(clicks[policy] / rows[policy]), _open(long_views[policy] / rows[policy]))
        for policy in rows
        if rows[policy] >= (_LEAST_RANDOM if policy == UNIFORM else 1)
    }
    return counts, found


def _open(rate: float) -> float:
    """Keep a rate off 0 and 1, which no log odds reach."""
    return min(max(rate, 1e-4), 1 - 1e-4)


def _expected(model: ResponseModel, app: Rates) -> Rates:
    """Give the rates that the log's response model expects of uniform draws of users and videos."""
    rng = np.random.default_rng(0)
    units, items = (rng.integers(0, len(ids), _PAIRS) for ids in (model.units, model.items))
    click = model.click_chances(units, items)
    if model.long_views is None:
        return Rates(_open(float(click.mean())), _open(float(click.mean()) * app.long_view / app.click))
    odds = model.long_views.log_odds(items, model.click_log_odds(units, items))
    return Rates(_open(float(click.mean())), _open(float((click / (1 + np.exp(-odds))).mean())))


def _catalogue(
    settings: SimulationSettings, model: ResponseModel, counts: Ints, kept: Ints, table: Path | None
) -> tuple[Catalogue, int]:
    """Describe the videos that are kept, and say how many categories there are."""
    rng = np.random.default_rng([settings.catalogue_seed, 10])
    n = len(kept)
    duration = np.clip(DURATION_MEDIAN_MS * np.exp(rng.normal(0, DURATION_SPREAD, n)), *DURATION_RANGE_MS)
    if model.play is not None:
        known = model.play.durations[kept] * 1_000
        duration = np.where(np.isfinite(known) & (known > 0), known, duration)
    category: Ints = rng.integers(0, settings.taste_categories, n)
    categories = settings.taste_categories
    if table is not None:
        tags, lengths = _read_videos(table, [model.items[video] for video in kept.tolist()])
        names = sorted({tag for tag in tags if tag is not None})
        place = {tag: number for number, tag in enumerate(names)}
        drawn = rng.integers(0, max(1, len(names)), n)
        if len(names) >= 2:
            categories = len(names)
            category = np.array(
                [drawn[at] if tag is None else place[tag] for at, tag in enumerate(tags)], dtype=np.int64
            )
        duration = np.where(lengths > 0, lengths, duration)
    whole = duration.astype(np.int64)
    popularity: Floats = counts[kept] / counts[kept].sum()
    quality: Floats = model.item_effects.of(kept)
    return Catalogue(popularity, category, quality, whole, whole, np.zeros(n, dtype=np.bool_)), categories


def _read_videos(path: Path, ids: list[str]) -> tuple[list[str | None], Floats]:
    """Give each video's first tag, None where it has none, and its length in ms, 0 where not known."""
    try:
        table = pl.read_csv(
            path, schema_overrides={VIDEO: pl.String, TAG: pl.String}, infer_schema_length=None
        )
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: is not a table of videos: {' '.join(str(error).split())[:200]}") from error
    for name in (VIDEO, TAG):
        if name not in table.columns:
            raise InputError(f"{path}:1: has no column {name!r}, has {', '.join(table.columns)}")
    lengths = table[DURATION] if DURATION in table.columns else pl.Series([None] * len(table))
    rows = dict(
        zip(table[VIDEO].to_list(), zip(table[TAG].to_list(), lengths.to_list(), strict=True), strict=True)
    )
    found = [rows.get(one, (None, None)) for one in ids]
    tags = [None if tag is None else str(tag).split(",")[0] for tag, _ in found]
    return tags, np.array([float(length or 0) for _, length in found])
