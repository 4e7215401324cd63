"""A response model: what units do with items they are shown, as a log tells it, for any unit and item.

The first of click and long view that the log knows is the primary outcome, with the log odds

    level + effect of the unit + effect of the item        (see `crossed_effects`)

A long view given a click has a level and a slope on those log odds, and an effect of the item where rows that
were held out are clearly better told by it. Play times follow by outcome and length (`play_times`), the other
kinds of feedback by their rates after a long view and otherwise. What the log does not know stays unknown.

The model knows no tastes: which units like which items beyond what all think of an item. It learned from what
a log's policy chose to show, unless that was random: who is shown items to their taste looks readier than he
is. The level of random exposure, where the log has enough of it, sets that right on average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from armlift.errors import InputError
from armlift.logs.activity import Activity
from armlift.logs.crossed_effects import Effects
from armlift.logs.play_times import CLICKED, LONG, NEITHER, PlayTimes
from armlift.logs.rows import Bools, Floats, Ints, Places

PRIMARY = ("click", "long_view")
"""The outcomes that log odds are fitted for: the first that the log knows."""
ACTIONS = ("like", "follow", "comment", "forward", "hate", "profile_enter")
"""The kinds that follow by their rates."""
DRAWS = (*PRIMARY, "play", *ACTIONS)
"""What each uniform number of a row decides: the same one for a kind, whatever else the log knows."""


class Levels(NamedTuple):
    """Log odds of the primary outcome at effects 0 under each exposure; None where no row was shown so.

    Rows of a log that has no flag of random exposure count as standard.
    """

    standard: float | None
    random: float | None


class Rate(NamedTuple):
    """How often a kind follows: after the deepest outcome known (long view, else click), and otherwise."""

    given: float
    otherwise: float


@dataclass(frozen=True, eq=False)
class LongViews:
    """Long views: log odds given a click, the rate without one; `items` is None where they do not help."""

    level: float
    slope: float
    items: Effects | None
    without_click: float

    def log_odds(self, items: Places, click_log_odds: Floats) -> Floats:
        """Give the log odds given a click, float64 [n]."""
        own = 0.0 if self.items is None else self.items.of(items)
        odds: Floats = self.level + self.slope * click_log_odds + own
        return odds


@dataclass(frozen=True, eq=False)
class ResponseModel:
    """The fitted model; `units` and `items` are ids in ascending order, and arrays run along them.

    `outcome` names the primary one, `level` is that of random exposure where the log has enough of it.
    `long_views` is None where the log does not know both outcomes, `play` where it knows no play times.
    `rows` were fitted on, `random_rows` of them shown at random (None: not known), all before `until` (UTC
    milliseconds).
    """

    outcome: str
    units: tuple[str, ...]
    items: tuple[str, ...]
    level: float
    levels: Levels
    unit_effects: Effects
    item_effects: Effects
    long_views: LongViews | None
    play: PlayTimes | None
    rates: Mapping[str, Rate]
    activity: Activity
    rows: int
    random_rows: int | None
    until: int

    @property
    def kinds(self) -> frozenset[str]:
        """Name the kinds of feedback that the model tells."""
        long_view = {"long_view"} if self.long_views is not None else set()
        play = {"play"} if self.play is not None else set()
        return frozenset({self.outcome, *long_view, *play, *self.rates})

    def units_of(self, ids: Sequence[str]) -> Ints:
        """Give the places of units, int64 [n]; -1 for those not known."""
        return _places(self.units, ids)

    def items_of(self, ids: Sequence[str]) -> Ints:
        """Give the places of items, int64 [n]; -1 for those not known."""
        return _places(self.items, ids)

    def click_log_odds(self, units: Places, items: Places) -> Floats:
        """Give the log odds of the primary outcome of units and items (places), float64 [n].

        Of the place -1, one that is not known, the effect is 0, as of the middle of all.
        """
        return self.level + self.unit_effects.of(units) + self.item_effects.of(items)

    def click_chances(self, units: Places, items: Places) -> Floats:
        """Give the expected probability of the primary outcome over all that effects may be, float64 [n].

        By E[sigmoid(N(m, v))] = sigmoid(m / sqrt(1 + pi v / 8)), see `crossed_effects`; of a unit or item
        that is not known the variance is that between all.
        """
        variance = self.unit_effects.variance(units) + self.item_effects.variance(items)
        chances: Floats = expit(self.click_log_odds(units, items) / np.sqrt(1 + np.pi / 8 * variance))
        return chances

    def respond(self, log_odds: Floats, items: Places, uniforms: Floats) -> dict[str, Floats]:
        """Draw what happens on impressions of primary log odds, float64 [n], of items (places), by kind.

        `uniforms` is float64 [n, len(DRAWS)], each decides over its kind alone. Gives float64 [n] for each
        kind known, as `LogBatch.feedback` has it: 0 or 1, `play` in seconds.
        """
        number = {kind: uniforms[:, place] for place, kind in enumerate(DRAWS)}
        primary = number[self.outcome] < expit(log_odds)
        found = {self.outcome: primary}
        if self.long_views is not None:
            chance = expit(self.long_views.log_odds(items, log_odds))
            found["long_view"] = number["long_view"] < np.where(
                primary, chance, self.long_views.without_click
            )
        deepest = found.get("long_view", primary)
        for kind, rate in self.rates.items():
            found[kind] = number[kind] < np.where(deepest, rate.given, rate.otherwise)
        drawn = {kind: values.astype(np.float64) for kind, values in found.items()}
        if self.play is not None:
            outcome = outcome_of(found.get("click"), found.get("long_view"))
            drawn["play"] = self.play.seconds(items.astype(np.int64, copy=False), outcome, number["play"])
        return drawn


def outcome_of(click: Bools | None, long_view: Bools | None) -> Ints:
    """Give the deepest outcome of each row, int64 [n], by which play times are drawn."""
    clicked = NEITHER if click is None else np.where(click, CLICKED, NEITHER)
    return np.asarray(clicked if long_view is None else np.where(long_view, LONG, clicked))


def primary_of(kinds: frozenset[str]) -> str:
    """Name the primary outcome of a log that knows these kinds; raises InputError where there is none."""
    for kind in PRIMARY:
        if kind in kinds:
            return kind
    raise InputError(
        f"the log knows {', '.join(sorted(kinds))}; a response model needs one of {' or '.join(PRIMARY)}"
    )


def _places(known: Sequence[str], ids: Sequence[str]) -> Ints:
    place = {name: at for at, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in ids], dtype=np.int64)
