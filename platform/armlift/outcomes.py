"""Outcomes: what a unit does with the items an arm shows it, in each mode of a replay.

`rerank` and `match` read it off the session that is asked, `dense` off the whole log (see `matrix`), and
`simulate` draws it from a response model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from armlift.asked import Asked
from armlift.hashing import key_of, keys_of, mix, streams, uniforms
from armlift.logs.response_model import DRAWS, ResponseModel
from armlift.logs.sessions import MEASURED, LoggedImpression

SMALLEST = 2.0**-54
"""Stands for a uniform number of 0, whose normal quantile is infinite."""


class Outcomes(Protocol):
    """What units do with what they are shown; called for the requests of a unit and arm in their order."""

    left_out: Counter[str]

    def of(self, asked: Asked, arm: str, items: Sequence[str]) -> Mapping[str, LoggedImpression]:
        """Give what counts of the items an arm shows in answer to a request, by item."""

    def basis(self) -> dict[str, object]:
        """Say what the outcomes rest on, for the run's resolution."""


class LoggedOutcomes:
    """What the log shows in the session that is asked."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()

    def of(self, asked: Asked, arm: str, items: Sequence[str]) -> Mapping[str, LoggedImpression]:
        """Give what the session shows."""
        return asked.shown

    def basis(self) -> dict[str, object]:
        """Say nothing: the rows of requests are what counts."""
        return {}


class ModelledOutcomes:
    """What a response model draws, by random numbers of (seed, unit, time of the request, item) alone.

    So an item at a request has the same outcome under every arm, and in every batch. The effect of a unit is
    drawn once, by (seed, unit): around what the log tells of it, as far as that is sure; of a unit the model
    does not know, from the spread between units. Items keep what the log tells of them.
    """

    def __init__(self, model: ResponseModel, seed: int) -> None:
        self.left_out: Counter[str] = Counter()
        self._model = model
        self._seed = mix(key_of(f"outcomes:{seed}"))
        self._units = {unit: place for place, unit in enumerate(model.units)}
        self._items = {item: place for place, item in enumerate(model.items)}
        self._effects: dict[str, float] = {}

    def of(self, asked: Asked, arm: str, items: Sequence[str]) -> Mapping[str, LoggedImpression]:
        """Draw what the unit does with each item; every item counts."""
        if not items:
            return {}
        places = np.array([self._items.get(item, -1) for item in items], dtype=np.int64)
        unknown = int((places < 0).sum())
        if unknown:
            self.left_out["item_unknown_to_model"] += unknown
        log_odds = self._model.level + self._effect(asked.unit) + self._model.item_effects.of(places)
        request = np.uint64(mix(key_of(asked.unit) ^ mix(self._seed ^ asked.ts)))
        numbers = uniforms(streams(keys_of(list(items)) ^ request, len(DRAWS)))
        drawn = self._model.respond(log_odds, places, numbers)
        # As the reader of logs has it: what is counted, then what is measured.
        order = sorted(drawn, key=lambda kind: kind in MEASURED)
        columns = [(kind, drawn[kind].tolist()) for kind in order]
        return {
            item: LoggedImpression(
                item, asked.ts, None, tuple((kind, values[row]) for kind, values in columns if values[row])
            )
            for row, item in enumerate(items)
        }

    def basis(self) -> dict[str, object]:
        """Give the rows the model was fitted on, and those of them shown at random."""
        return {"rows": self._model.rows, "random_rows": self._model.random_rows}

    def _effect(self, unit: str) -> float:
        effect = self._effects.get(unit)
        if effect is None:
            place = np.array([self._units.get(unit, -1)])
            number = uniforms(np.array([mix(key_of(unit) ^ self._seed)], dtype=np.uint64))
            normal = ndtri(np.maximum(number, SMALLEST))
            effect = self._effects[unit] = float(self._model.unit_effects.drawn(place, normal)[0])
        return effect
