"""Shifts against NumPy by hand, and what they are expected to be by chance against simulation."""

import numpy as np
import pytest

from armlift_pipelines.shifts import (
    BITS,
    Pair,
    Shift,
    binned,
    divergence,
    stability,
    turnover,
    unseen,
)


def pairs_of(x: object, y: object) -> list[Pair]:
    """Count the items by their rows in both periods; those without any are none."""
    table = np.stack([np.asarray(x), np.asarray(y)], axis=1)
    kinds, items = np.unique(table[table.any(axis=1)], axis=0, return_counts=True)
    return [Pair(int(n), int(m), int(k)) for (n, m), k in zip(kinds, items, strict=True)]


def found(shift: Shift | None) -> Shift:
    assert shift is not None
    return shift


def test_stability_is_the_formula() -> None:
    x, y = np.array([10.0, 20, 0, 70]), np.array([300.0, 200, 100, 0])
    shift = found(stability([(10, 300), (20, 200), (0, 100), (70, 0), (0, 0)]))
    p, q = (x + 0.5) / (100 + 2), (y + 0.5) / (600 + 2)
    assert shift.value == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert shift.noise == pytest.approx(3 * (1 / 100 + 1 / 600))
    assert shift.limit == pytest.approx(16.266 * (1 / 100 + 1 / 600), rel=1e-3)
    assert shift[3:] == (100, 600, 4)


def test_divergence_and_unseen_are_the_formulas() -> None:
    x, y = np.array([5, 3, 0, 2, 2]), np.array([1, 0, 4, 9, 9])
    p, q = x / x.sum(), y / y.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [np.nansum(share * np.log2(share / middle)) / 2 for share in (p, q)]
    shift = found(divergence(pairs_of(x, y)))
    assert shift.value == pytest.approx(sum(halves))
    assert shift[3:] == (12, 23, 5)
    assert found(unseen(pairs_of(x, y))).value == pytest.approx(3 / 12)


def test_worlds_that_share_nothing_are_one_bit_apart() -> None:
    pairs = pairs_of([50, 50, 0, 0], [0, 0, 70, 30])
    assert found(divergence(pairs)).value == pytest.approx(1.0)
    assert found(unseen(pairs)).value == 1.0
    assert found(turnover(pairs, 2)).value == 1.0


@pytest.mark.parametrize("counts", [[], [(3, 0), (2, 0)], [(0, 4), (0, 1)], [(5, 9)]])
def test_what_cannot_be_compared_has_no_stability(counts: list[tuple[int, int]]) -> None:
    assert stability(counts) is None


def test_a_period_without_rows_has_no_shift() -> None:
    for pairs in ([], pairs_of([0, 0], [1, 2]), pairs_of([1, 2], [0, 0])):
        assert divergence(pairs) is unseen(pairs) is turnover(pairs, 100) is None


@pytest.mark.parametrize(("n", "m", "bins"), [(400, 2_800, 10), (1_500, 1_500, 24), (5_000, 300, 6)])
def test_noise_and_limit_of_stability_are_what_chance_does(n: int, m: int, bins: int) -> None:
    random = np.random.default_rng(bins)
    shares = random.dirichlet(np.full(bins, 10.0))
    drawn = [
        found(stability([*zip(random.multinomial(n, shares), random.multinomial(m, shares), strict=True)]))
        for _ in range(1_000)
    ]
    values = np.array([shift.value for shift in drawn])
    assert values.mean() == pytest.approx(drawn[0].noise, rel=0.06)
    assert np.mean(values > drawn[0].limit) < 0.006


@pytest.mark.parametrize(
    ("n", "m", "items", "skew"), [(2_000, 14_000, 50, 0.0), (1_000, 7_000, 3_000, 1.0), (900, 900, 900, 0.7)]
)
def test_noise_and_limit_of_items_are_what_chance_does(n: int, m: int, items: int, skew: float) -> None:
    """Also where most items have a row or two, where the asymptotic formula is far off."""
    random = np.random.default_rng(items)
    shares = 1 / np.arange(1, items + 1) ** skew
    shares /= shares.sum()
    shifts = []
    for _ in range(100):
        pairs = pairs_of(random.multinomial(n, shares), random.multinomial(m, shares))
        shifts.append([found(divergence(pairs)), found(unseen(pairs))])
    for measured in zip(*shifts, strict=True):
        values, noise, limits = (np.array([shift[place] for shift in measured]) for place in range(3))
        assert values.mean() == pytest.approx(noise.mean(), rel=0.04, abs=1e-4)
        assert np.mean(values > limits) <= 0.02


def test_the_asymptotic_formula_is_far_off_where_items_have_few_rows() -> None:
    random = np.random.default_rng(9)
    shares = random.dirichlet(np.ones(3_000))
    shift = found(divergence(pairs_of(random.multinomial(1_000, shares), random.multinomial(7_000, shares))))
    assert shift.noise < 0.75 * 2_999 * (1 / 1_000 + 1 / 7_000) / BITS


def test_noise_of_many_rows_an_item_is_the_asymptotic_formula() -> None:
    random = np.random.default_rng(5)
    shift = found(divergence(pairs_of(random.multinomial(50_000, [0.05] * 20), [15_000] * 20)))
    assert shift.noise == pytest.approx(19 * (1 / 50_000 + 1 / 300_000) / BITS, rel=0.01)


def test_turnover_is_the_mean_over_lots() -> None:
    """Of the day's top 2 one is sure, and one of two by lot; before, one of the three is not among them."""
    pairs = pairs_of([9, 4, 4, 0], [5, 7, 1, 9])
    assert found(turnover(pairs, 2)).value == pytest.approx(1 - 0.5 * 1 / 2)
    assert found(turnover(pairs_of([9, 9, 9], [9, 9, 9]), 50)).value == 0.0
    assert found(turnover(pairs_of([9, 9, 9], [9, 9, 9]), 1)).value == pytest.approx(2 / 3)
    assert found(turnover(pairs_of([3, 2, 1, 0], [1, 0, 0, 8]), 2)).value == pytest.approx(1 / 2)


def test_turnover_by_chance_is_that_of_two_samples() -> None:
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.full(500, 0.7))
    measured = []
    for _ in range(40):
        x, y = random.multinomial(2_000, shares), random.multinomial(14_000, shares)
        measured.append(found(turnover(pairs_of(x, y), 50)))
    values, noise, limits = (np.array([shift[place] for shift in measured]) for place in range(3))
    assert values.mean() == pytest.approx(noise.mean(), abs=0.03)
    assert np.mean(values > limits) <= 0.05


def test_bins_hold_tenths_of_the_second_period() -> None:
    even = {float(value): (1, 10) for value in range(100)}
    assert binned(even) == [(10, 100)] * 10
    assert binned({1: (4, 60), 2: (3, 25), 3: (2, 10), 4: (1, 5), 9: (7, 0)}) == [
        (4, 60), (3, 25), (2, 10), (8, 5),
    ]  # fmt: skip
    assert binned({}) == []
    assert stability(binned({1: (4, 0), 2: (3, 0)})) is None
