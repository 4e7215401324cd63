"""Answers are asked once, kept as JSON, and given again bit for bit."""

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from armlift.aggregates import Stratum, UnitTotals
from armlift.answers import Answers, ByStratum, Source
from armlift.errors import StoreError
from armlift.stats.aggregates import Aggregates

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregates:
    """Give aggregates of any numbers: most are none that units could have."""
    p = draw(st.integers(0, 4))
    means = np.array(draw(st.lists(FLOATS, min_size=p, max_size=p)), dtype=np.float64)
    moments = np.array(draw(st.lists(FLOATS, min_size=p * p, max_size=p * p)), dtype=np.float64)
    names = tuple(f"column_{number}" for number in range(p))
    return Aggregates(names, draw(st.integers(0, 2**62)), means, moments.reshape(p, p))


STRATA = st.builds(Stratum, st.sampled_from(["é", "new"]), st.integers(0, 3), st.integers(0, 3))


class Totals:
    """Totals that were made up; counts how often it is asked."""

    def __init__(self, strata: ByStratum, values: list[float]) -> None:
        self.strata, self.values, self.asked = strata, values, 0

    def by_stratum(self, metric: str) -> ByStratum:
        self.asked += 1
        return self.strata

    before = by_stratum

    def share_at_most(self, metric: str, value: float) -> ByStratum:
        return self.by_stratum(metric)

    def pairs(self, metric: str, arm: str, control: str) -> Aggregates:
        return next(iter(self.strata.values()))

    def counts(self) -> dict[Stratum, int]:
        return {stratum: one.n for stratum, one in self.strata.items()}

    def quantile(self, metric: str, arm: str, ranks: Sequence[int]) -> list[float]:
        return self.values

    def caps(self) -> dict[str, float]:
        return {f"m{place}": value for place, value in enumerate(self.values)}


def bits(one: Aggregates) -> tuple[object, ...]:
    return one.names, one.n, one.means.tobytes(), one.moments.tobytes(), one.moments.shape


def ask(answers: Answers) -> list[Any]:
    """Ask everything, and give the bits of what is said."""
    strata = (answers.by_stratum("m"), answers.before("m"), answers.share_at_most("m", 0.1))
    numbers = [*answers.quantile("m", "new", [0, 3]), *answers.caps().values()]
    return [
        *([(stratum, bits(one)) for stratum, one in found.items()] for found in strata),
        bits(answers.pairs("m", "a", "b")),
        list(answers.counts().items()),
        np.array(numbers).tobytes(),
        list(answers.caps()),
    ]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(STRATA, aggregates(), min_size=1), st.lists(FLOATS, max_size=3))
def test_answers_are_given_again_bit_for_bit(strata: ByStratum, values: list[float]) -> None:
    made = Totals(strata, values)
    source = Source(cast(Connection, None), cast(UnitTotals, made))
    answers = Answers(sql="SELECT 1", source=source)
    told = ask(answers)
    assert told[0] == [(stratum, bits(one)) for stratum, one in strata.items()]
    assert told[-2] == np.array([*values, *values]).tobytes()
    assert made.asked == 3
    assert ask(answers) == told
    assert made.asked == 3, "each is asked once"
    kept = json.loads(json.dumps(answers.kept, allow_nan=False))
    assert kept == answers.kept
    assert ask(Answers(kept)) == told


def test_other_questions_are_kept_as_plain_data() -> None:
    source = Source(cast(Connection, "the database"), cast(UnitTotals, None))
    answers = Answers(source=source)
    assert answers.ask("models", lambda connection: [(connection, 1, None)]) == [["the database", 1, None]]
    assert Answers(answers.kept).ask("models", lambda _: "never asked") == [["the database", 1, None]]


def test_what_was_not_kept_is_not_made_up() -> None:
    with pytest.raises(StoreError, match="has no answer to units/clicks/new; another version made it"):
        Answers({}).units("clicks", "new")
