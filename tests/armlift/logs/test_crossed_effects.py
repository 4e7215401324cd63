"""Crossed effects: what was planted is found, and nothing where there is nothing."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from armlift.logs.crossed_effects import Effects, Grouping, fit_crossed


def planted(
    units: int, items: int, rows: int, spreads: tuple[float, float], seed: int = 0
) -> tuple[Any, list[Grouping], list[Any]]:
    rng = np.random.default_rng(seed)
    effects = [rng.normal(0, spread, n) for spread, n in zip(spreads, (units, items), strict=True)]
    codes = [rng.integers(0, n, rows).astype(np.int32) for n in (units, items)]
    odds = -1 + effects[0][codes[0]] + effects[1][codes[1]]
    outcome = rng.random(rows) < expit(odds)
    return outcome, [Grouping(codes[0], units), Grouping(codes[1], items)], effects


@pytest.mark.parametrize(
    ("units", "items", "rows"), [(300, 200, 20_000), (2_000, 500, 40_000), (3_000, 800, 15_000)]
)
def test_level_effects_and_spreads_are_found(units: int, items: int, rows: int) -> None:
    """Down to 5 rows a unit."""
    outcome, groupings, effects = planted(units, items, rows, (0.9, 0.6))
    found = fit_crossed(outcome, np.empty((rows, 0)), groupings)
    assert found.level == pytest.approx(-1, abs=0.12)
    assert [one.spread for one in found.effects] == pytest.approx([0.9, 0.6], rel=0.12)
    for one, true in zip(found.effects, effects, strict=True):
        scaled = (true - true.mean() - one.mean) / one.deviation
        assert abs(scaled.mean()) < 0.1
        assert scaled.std() == pytest.approx(1, abs=0.12)


def test_no_effects_have_no_spread() -> None:
    outcome, groupings, _ = planted(200, 100, 40_000, (0.0, 0.0))
    found = fit_crossed(outcome, np.empty((40_000, 0)), groupings)
    assert max(one.spread for one in found.effects) < 0.12
    assert found.level == pytest.approx(-1, abs=0.05)


def test_without_groups_it_is_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (2_000, 2))
    outcome = rng.random(2_000) < expit(0.5 + x @ [1.0, -2.0])
    found = fit_crossed(outcome, x, [])
    sign = np.where(outcome, -1.0, 1.0)

    def lost(w: Any) -> float:
        return float(np.logaddexp(0, sign * (w[0] + x @ w[1:])).sum() + 0.005 * (w @ w))

    expected = minimize(lost, np.zeros(3), tol=1e-10).x
    assert [found.level, *found.slopes] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("always", [True, False])
def test_an_outcome_that_never_or_always_happens(always: bool) -> None:
    codes = np.repeat(np.arange(10, dtype=np.int32), 20)
    found = fit_crossed(np.full(200, always), np.empty((200, 0)), [Grouping(codes, 10)])
    assert np.isfinite(found.level)
    chance = float(expit(found.level))
    assert (chance if always else 1 - chance) > 0.99


def test_groups_without_rows_know_nothing() -> None:
    outcome, groupings, _ = planted(50, 20, 3_000, (0.9, 0.6))
    codes = groupings[0].codes
    found = fit_crossed(outcome, np.empty((3_000, 0)), [Grouping(codes, 60), groupings[1]])
    units = found.effects[0]
    assert units.deviation[50:] == pytest.approx(units.spread, rel=1e-3)
    assert abs(units.mean[50:]).max() < 0.1


def test_the_place_of_nobody() -> None:
    effects = Effects(np.array([0.5, -1.0]), np.array([0.1, 0.2]), 0.7)
    places = np.array([1, -1, 0])
    assert effects.of(places).tolist() == [-1.0, 0.0, 0.5]
    assert effects.variance(places) == pytest.approx([0.04, 0.49, 0.01])
    assert effects.drawn(places, np.array([1.0, 2.0, -1.0])) == pytest.approx([-0.8, 1.4, 0.4])
