"""Levels of the response model, fitted on pilots so that simulated rates are the published ones.

A pilot is the simulation itself, some users over two days, once under uniform draws of the videos and once
under the app's own policy, with every effect that the settings have. On what the pilots were shown, the level
of clicks is solved for so that uniform draws have their published rate, level and slope of long views so that
both policies have theirs; what the policy shows at a sharpness is known only by showing it, so that its
sharpness is found by secants, pilot after pilot.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit

from armlift.logs import published
from armlift.simulation.course import Course
from armlift.simulation.draws import Floats
from armlift.simulation.response import Levels, ResponseModel
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.world import AppPolicy, World

PILOT_SEED = 0x41B0
_ROWS = 40_000
_DAYS = 2
_ROUNDS = 10
_CLOSE = 0.002
WIDE = 0.01
"""A miss of a rate that is told."""
_SHARPEST = 6.0
_FAR = 30.0


class Rates(NamedTuple):
    """Shares of impressions that were clicked, and watched for long."""

    click: float
    long_view: float


UNIFORM, APP = "uniform", "app"
Targets = Mapping[str, Rates]
TARGETS: Targets = {
    UNIFORM: Rates(published.CLICK_RANDOM, published.LONG_VIEW_RANDOM),
    APP: Rates(published.PURE_CLICK_STANDARD, published.LONG_VIEW_STANDARD),
}
"""The published rates: under random exposure, and as the app recommends."""


class Origin(NamedTuple):
    """What a world is made after: the published figures, or a log.

    `targets` are the rates that a simulation must have. `identity` names the log, None for published figures.
    """

    world: World
    targets: Targets = TARGETS
    identity: str | None = None


_known: dict[tuple[str, str | None], Levels] = {}
_MOST_KNOWN = 16


def calibrate(settings: SimulationSettings, origin: Origin | None = None) -> ResponseModel:
    """Fit how users respond in a world, by default one after the published figures.

    What was found for the last few is remembered.
    """
    origin = origin or Origin(World.of(settings))
    # What bears little on the rates; pilots of users who seldom come would be large.
    same = {"planted": {}, "novelty": 0.0, "history_days": 1, "training_users": 1, "retrain": "never"}
    often = {"weekdays": (1.0,) * 7, "sessions_per_day": max(1.0, settings.sessions_per_day)}
    plain = settings.model_copy(update={**same, **often})
    key = (plain.model_dump_json(), origin.identity)
    if key not in _known:
        while len(_known) >= _MOST_KNOWN:
            _known.pop(next(iter(_known)))
        _known[key] = _calibrate(plain, origin)
    return ResponseModel(origin.world, _known[key], settings)


class Pilot(NamedTuple):
    """What a policy showed, one entry an impression, arrays [n]: see `Response`; `base` is what its tab adds.

    `looks` is the chance that a user looked at its slot.
    """

    affinity: Floats
    base: Floats
    looks: Floats
    sure: npt.NDArray[np.bool_]

    def click(self, level: float) -> Floats:
        """Give each impression's chance of a click."""
        chance: Floats = self.looks * expit(level + self.base + self.affinity)
        return chance

    def rates(self, levels: Levels) -> Rates:
        """Give the rates that are to be expected."""
        click = self.click(levels.level)
        given = expit(levels.long_level + levels.long_slope * self.affinity)
        return Rates(float(click.mean()), float((click * np.where(self.sure, 1.0, given)).mean()))


def show(model: ResponseModel, policy: str) -> Pilot:
    """Run a pilot under a policy: UNIFORM or APP."""
    settings = model.settings
    users = max(100, round(_ROWS / (_DAYS * settings.sessions_per_day * settings.rows_per_session)))
    app = AppPolicy(model.world, model.levels.sharpness, uniform=policy == UNIFORM)
    course = Course.pilot(model, app, PILOT_SEED)
    block = course.draw(0, users)
    found = []
    for page in course.past(block, range(-_DAYS, 0)):
        row, slot = np.nonzero(page.response.shown)
        base = model.levels.offsets[block.tab[page.rows]][row]
        looks = model.looks(page.items.shape[1])[slot]
        found.append((page.response.affinity[row, slot], base, looks, page.response.sure[row, slot]))
    return Pilot(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _calibrate(settings: SimulationSettings, origin: Origin) -> Levels:
    world, targets, _ = origin
    levels = Levels(-2.2, -2.5, 1.0, 1.5, _offsets())
    tried: list[tuple[float, float]] = []
    solved: list[Levels] = []
    for _ in range(_ROUNDS):
        model = ResponseModel(world, levels, settings)
        pilots = {policy: show(model, policy) for policy in targets}
        if all(_missed(pilots[policy].rates(levels), rates) < _CLOSE for policy, rates in targets.items()):
            return levels
        level = _level(pilots[UNIFORM], targets[UNIFORM].click)
        levels = _long_views(pilots, targets, replace(levels, level=level))
        tried.append((levels.sharpness, pilots[APP].rates(levels).click - targets[APP].click))
        solved.append(levels)
        if _falls(tried):
            break
        levels = replace(levels, sharpness=_sharper(tried))
    return min(zip(tried, solved, strict=True), key=lambda one: abs(one[0][1]))[1]


def _falls(tried: list[tuple[float, float]]) -> bool:
    """Tell whether clicks fall while the policy grows sharper: what users like best runs out."""
    if len(tried) < 2 or any(missed >= 0 for _, missed in tried):
        return False
    (before, missed), (now, misses) = tried[-2:]
    return now > before and misses < missed


def misses(model: ResponseModel, targets: Targets = TARGETS) -> list[str]:
    """Say which rates pilots miss by more than WIDE, a line each: no level or policy reaches them."""
    found = {policy: show(model, policy).rates(model.levels) for policy in targets}
    return [
        f"{what.replace('_', ' ')} rate under {policy}: {rate:.3f}, wanted {wanted:.3f}"
        for policy, rates in targets.items()
        for what, wanted, rate in zip(Rates._fields, rates, found[policy], strict=True)
        if abs(rate - wanted) > WIDE
    ]


def _missed(found: Rates, wanted: Rates) -> float:
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True))


def _level(pilot: Pilot, wanted: float) -> float:
    """Find the level at which what a pilot was shown has a rate of clicks."""
    return float(brentq(lambda level: pilot.click(level).mean() - wanted, -_FAR, _FAR, xtol=1e-4))


def _long_views(pilots: Mapping[str, Pilot], targets: Targets, levels: Levels) -> Levels:
    """Find level and slope at which what both pilots were shown has their rates of long views."""

    def with_slope(slope: float) -> Levels:
        def miss(level: float) -> float:
            there = replace(levels, long_level=level, long_slope=slope)
            return pilots[UNIFORM].rates(there).long_view - targets[UNIFORM].long_view

        found = _root(miss, -_FAR, _FAR)
        return replace(levels, long_level=found, long_slope=slope)

    def missed(slope: float) -> float:
        return pilots[APP].rates(with_slope(slope)).long_view - targets[APP].long_view

    return with_slope(_root(missed, 0.0, 5.0))


def _root(miss: Callable[[float], float], low: float, high: float) -> float:
    """Find where an increasing function is 0, or the bound that comes nearest."""
    if miss(low) >= 0:
        return low
    if miss(high) <= 0:
        return high
    return float(brentq(miss, low, high, xtol=1e-3))


def _sharper(tried: list[tuple[float, float]]) -> float:
    """Give the next sharpness to try, of those tried and what the clicks missed by (too few: below 0)."""
    below = max((one for one in tried if one[1] < 0), default=None)
    above = min((one for one in tried if one[1] >= 0), default=None)
    if below is not None and above is not None and below[0] < above[0]:
        share = -below[1] / (above[1] - below[1])
        return below[0] + min(max(share, 0.1), 0.9) * (above[0] - below[0])
    last, missed = tried[-1]
    return min(last * 1.6 + 0.1, _SHARPEST) if missed < 0 else last / 1.6


def _offsets() -> Floats:
    """Give what each tab adds to the log odds of a click: from its published rate and the main tab's."""
    rates = np.clip(published.TAB_CLICK_RATES[0], 0.005, 0.98)
    offsets: Floats = logit(rates) - logit(rates[published.TAB_MAIN])
    return offsets
