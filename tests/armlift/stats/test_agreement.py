"""Agreement between raters: the published example, hand-computed ones, and what is too little to tell."""

import numpy as np
import pytest

from armlift.errors import InputError
from armlift.stats.aggregates import Array
from armlift.stats.agreement import Agreement, agreement, coincidences, ordinal_alpha
from armlift.stats.results import Rules

PUBLISHED = """
A 1 2 3 3 2 1 4 1 2 . . .
B 1 2 3 3 2 2 4 1 2 5 . 3
C . 3 3 3 2 3 4 2 2 5 1 .
D 1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff (2011), section C: four observers, twelve units, values 1 to 5."""


def counted(table: str) -> Array:
    """Count how often each thing was given each of the values 1 to 5."""
    rows = [line.split()[1:] for line in table.strip().splitlines()]
    return np.array(
        [[column.count(str(value)) for value in range(1, 6)] for column in zip(*rows, strict=True)], float
    )


def apart(counts: Array) -> Array:
    return np.arange(len(counts), dtype=np.float64)


def test_the_published_example_has_its_published_alpha() -> None:
    counts = counted(PUBLISHED)
    twice = counts[counts.sum(axis=1) > 1]
    found = coincidences(twice).sum(axis=0)
    assert found.sum(axis=1) == pytest.approx([9, 13, 10, 5, 3]), "the paper's marginals; n = 40"
    assert ordinal_alpha(found).item() == pytest.approx(0.815, abs=5e-4)
    told = agreement(counts, apart(counts))
    assert (told.status, told.rated, told.clusters) == ("ok", 11, 11), "the twelfth was rated once"
    assert told.alpha == pytest.approx(0.815, abs=5e-4)
    assert told.low is not None
    assert told.high is not None
    assert told.low < 0.815 < told.high <= 1.0


def test_alpha_equals_the_formula_written_out() -> None:
    """Two raters: (1, 1), (2, 3), (3, 3), so o_11 = 2, o_23 = o_32 = 1, o_33 = 2 and n = (2, 1, 3).

    Distances: d_12 = (2 + 1 - 1.5)^2 = 2.25, d_13 = (6 - 2.5)^2 = 12.25, d_23 = (4 - 2)^2 = 4. So alpha is
    1 - 5 * 1 * 4 / (2 * 1 * 2.25 + 2 * 3 * 12.25 + 1 * 3 * 4) = 1 - 20 / 90.
    """
    counts = np.array([[2, 0, 0], [0, 1, 1], [0, 0, 2]], dtype=np.float64)
    assert agreement(counts, apart(counts)).alpha == pytest.approx(1 - 20 / 90)


def test_alpha_is_one_for_equal_raters_and_about_nought_for_guesses() -> None:
    rng = np.random.default_rng(1)
    equal = np.eye(5)[rng.integers(0, 5, 200)] * 3
    assert agreement(equal, apart(equal))[:5] == ("ok", 200, 200, 1.0, 1.0)
    guesses = np.eye(5)[rng.integers(0, 5, (2, 2_000))].sum(axis=0)
    told = agreement(guesses, apart(guesses))
    assert told.low is not None
    assert told.high is not None
    assert told.low < 0.0 < told.high
    assert told.high - told.low < 0.12


def test_clusters_make_the_interval_wider() -> None:
    rng = np.random.default_rng(2)
    once = np.eye(5)[rng.integers(0, 5, (2, 40))].sum(axis=0)
    repeated = np.repeat(once, 10, axis=0)
    wide, narrow = agreement(repeated, np.repeat(apart(once), 10)), agreement(repeated, apart(repeated))
    assert wide.alpha == narrow.alpha
    assert (wide.clusters, narrow.clusters) == (40, 400)
    widths = [one.high - one.low for one in (wide, narrow) if one.high is not None and one.low is not None]
    assert widths[0] > 2 * widths[1]


def test_what_is_too_little_has_a_status_and_no_number() -> None:
    nothing = np.zeros((0, 5))
    assert agreement(nothing, apart(nothing)) == Agreement("no_data", 0, 0)
    once = np.eye(5)
    assert agreement(once, apart(once)) == Agreement("no_data", 0, 0)
    assert agreement(2 * once[:1], apart(once[:1])) == Agreement("too_few", 1, 1)
    few = Rules(min_units=6)
    assert agreement(2 * once, apart(once), few) == Agreement("too_few", 5, 5)
    alike = np.tile([0.0, 0.0, 2.0, 0.0, 0.0], (9, 1))
    assert agreement(alike, apart(alike)) == Agreement("zero_variance", 9, 9)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"counts have shape \(2, 5\), clusters \(3,\)"):
        agreement(np.zeros((2, 5)), np.zeros(3))
