"""Ratings of prompts: stored once a rater, and estimated only where there are enough."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import Engine

from armlift.errors import InputError
from armlift.ratings import LEAST_UNITS, SOURCES, Rating, of_arm, store, summarise
from armlift.store.database import writing

AT = 1_650_000_000_000


def rated(
    unit: int = 1, rater: str = "ada", values: tuple[int, ...] = (5, 3, 1, 2), **changed: Any
) -> list[Rating]:
    """Rate the four lists of a unit, one a source."""
    return [
        Rating(
            "recgpt", "v1", "r1", f"u{unit}", rater, source, value, place, [f"{source}{unit}", "é"], AT
        )._replace(**changed)
        for place, (source, value) in enumerate(zip(SOURCES, values, strict=True))
    ]


def test_ratings_are_read_as_they_were_stored(engine: Engine) -> None:
    first, second = rated(), rated(2, "bob", at=AT + 1)
    with writing(engine) as connection:
        store(connection, [*second, *first])
        store(connection, rated(arm="other"))
    with engine.connect() as connection:
        assert of_arm(connection, "recgpt") == [*first, *second]
        assert of_arm(connection, "recgpt1") == []


def test_rating_the_same_again_replaces_what_was_said(engine: Engine) -> None:
    again = rated(values=(1, 1, 1, 5), at=AT + 9)
    kept = [rated(rater="bob"), rated(version="v0"), rated(run="r2"), rated(2)]
    with writing(engine) as connection:
        for some in (rated(), *kept, again):
            store(connection, some)
    with engine.connect() as connection:
        found = of_arm(connection, "recgpt")
    assert len(found) == 4 * 5
    assert [one for one in found if one.at == AT + 9] == again
    assert [one for one in found if one[:5] == again[0][:5]] == again


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rating": 0}, "rating 0: must be one of 1, 2, 3, 4, 5"),
        ({"rating": 6}, "rating 6: must be one of 1, 2, 3, 4, 5"),
        ({"source": "oracle"}, "source 'oracle': must be one of model, popular, random, shuffled"),
        ({"items": []}, "items of the source model: are none, must be at least one"),
        ({"rater": " "}, "rater ' ': must have 1 to 200 characters, and no NUL"),
        ({"rater": "a" * 201}, f"rater '{'a' * 201}': must have 1 to 200 characters, and no NUL"),
        ({"rater": "a\0"}, r"rater 'a\x00': must have 1 to 200 characters, and no NUL"),
    ],
)
def test_what_is_no_rating_is_refused(engine: Engine, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught, writing(engine) as connection:
        store(connection, rated(**changed))
    assert str(caught.value) == says
    with engine.connect() as connection:
        assert of_arm(connection, "recgpt") == []


def test_means_are_over_units_with_the_interval_of_a_t_test() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(1, 6, (12, 4))
    summary = summarise(
        [one for unit, row in enumerate(values) for one in rated(unit, values=tuple(row.tolist()))]
    )
    assert (summary.rated, summary.units, summary.raters) == (12, 12, 1)
    for column, standing in enumerate(summary.standings):
        mean, own = standing.mean, values[:, column]
        half = stats.sem(own) * stats.t.ppf(0.975, 11)
        assert (mean.status, mean.n, standing.ratings) == ("ok", 12, 12)
        assert [mean.value, mean.low, mean.high] == pytest.approx(
            [own.mean(), own.mean() - half, own.mean() + half]
        )
        if standing.behind is not None:
            expected = stats.ttest_rel(values[:, 0], own)
            assert standing.behind.difference == pytest.approx(values[:, 0].mean() - own.mean())
            assert standing.behind.p_value == pytest.approx(expected.pvalue)
    assert [one.behind is None for one in summary.standings] == [True, False, False, False]


def test_raters_of_one_unit_count_as_one_cluster() -> None:
    """Ten raters who say the same of each unit know no more than one."""
    values = [(5, 3, 1, 2), (4, 3, 2, 2), (5, 2, 1, 1), (3, 3, 1, 3), (4, 4, 2, 1)]
    alone = summarise([one for unit, row in enumerate(values) for one in rated(unit, values=row)])
    many = summarise(
        [one for unit, row in enumerate(values) for who in range(10) for one in rated(unit, f"r{who}", row)]
    )
    assert (many.rated, many.units, many.raters) == (50, 5, 10)
    for one, ten in zip(alone.standings, many.standings, strict=True):
        assert ten.ratings == 10 * one.ratings
        assert [ten.mean.value, ten.mean.low, ten.mean.high] == pytest.approx(
            [one.mean.value, one.mean.low, one.mean.high]
        )
    assert alone.agreement.status == "no_data"
    assert many.agreement[:4] == ("ok", 20, 5, 1.0)


def test_intervals_stay_on_the_scale_and_constants_have_none() -> None:
    rows = [(5, 3, 1, 2), (5, 3, 1, 2), (4, 3, 2, 2), (5, 3, 1, 2), (5, 3, 1, 2)]
    found = {
        one.source: one.mean
        for one in summarise([r for u, v in enumerate(rows) for r in rated(u, values=v)]).standings
    }
    assert (found["model"].high, found["random"].low) == (5.0, 1.0)
    assert (found["popular"].status, found["popular"].value, found["popular"].low) == (
        "zero_variance",
        3.0,
        None,
    )


def test_too_few_units_have_no_numbers() -> None:
    few = [one for unit in range(LEAST_UNITS - 1) for who in "ab" for one in rated(unit, who)]
    summary = summarise(few)
    assert {one.mean.status for one in summary.standings} == {"too_few"}
    assert {one.mean.value for one in summary.standings} == {None}
    assert {one.behind.difference for one in summary.standings if one.behind} == {None}
    assert (summary.agreement.status, summary.agreement.alpha) == ("too_few", None)
    none = summarise([])
    assert (none.rated, none.units, none.raters, none.agreement.status) == (0, 0, 0, "no_data")
    assert {one.mean.status for one in none.standings} == {"no_data"}


def test_raters_agree_on_the_same_lists_alone() -> None:
    """A list that has changed meanwhile is another one."""
    same = [one for unit in range(6) for who in "ab" for one in rated(unit, who, (1 + unit % 5, 3, 1, 2))]
    assert summarise(same).agreement[:4] == ("ok", 24, 6, 1.0)
    changed = [one._replace(items=["new"]) if one.rater == "b" else one for one in same]
    assert summarise(changed).agreement.status == "no_data"
