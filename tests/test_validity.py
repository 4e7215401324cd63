"""The statistics keep their promises in simulated experiments: the short form.

The long form, 5,000 experiments a cell, is `make bench ONLY=validity`; docs/results.md keeps its figures.
"""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from populations import KINDS, REMAINING, Population, in_pairs, with_past
from simulation import Batch, Case, Cell, measure, monte_carlo_error
from validity import asked, figures, markdown, nominal, nominal_from, off, remaining, row, table
from validity_cases import cases

from armlift.stats.aggregates import Aggregates

SIMS = 400
ALLOWED = 4.0
POPULATIONS = [*KINDS.values(), with_past(), in_pairs()]
CELLS: dict[tuple[str, str, str], Cell] = {}


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, str], Cell]:
    """Measure every case at n = 1,000 once, only one of them at daily looks."""
    if not CELLS:
        for seed, case in enumerate(cases((1000,))):
            once = case if (case.data, case.split) == ("exponential", "50:50") else case._replace(looks=1)
            CELLS[case.data, case.method, case.split] = measure(once, SIMS, seed)
    return CELLS


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda one: one.name)
@pytest.mark.parametrize(("units", "looks"), [(200, 1), (200, 30), (20, 30)])
def test_many_aggregates_at_once_are_those_of_each(population: Population, units: int, looks: int) -> None:
    columns = population.draw(np.random.default_rng(1), 5, units)
    batch = Batch.of(population.columns, columns, looks)
    for experiment in range(5):
        values = np.stack([column[experiment] for column in columns], axis=1)
        for look in range(looks):
            ours = batch.at(experiment, look)
            seen = units * (look + 1) // looks
            theirs = Aggregates.of(population.columns, values[:seen])
            assert ours.n == theirs.n == seen
            np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-9)
            scale = np.abs(theirs.moments).max()
            np.testing.assert_allclose(ours.moments, theirs.moments, rtol=1e-9, atol=1e-12 * scale + 1e-12)


def test_reports_warn_of_heavy_tails_and_of_nothing_else(cells: dict[tuple[str, str, str], Cell]) -> None:
    rates = {kind: cell.rate(cell.warned) for kind, cell in cells.items() if cell.warned is not None}
    assert {data for data, _, _ in rates}.isdisjoint({"gamma pairs", "two phases"})
    for split in ("50:50", "10:90"):
        assert rates["normal", "welch", split] < 0.02
        assert rates["zero-inflated log-normal", "welch", split] > 0.99
        assert rates["Bernoulli 1 %", "proportion", split] > 0.99
    assert rates["exponential", "welch", "50:50"] < 0.02
    assert rates["clustered ratio", "ratio", "50:50"] < 0.05


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda one: one.name)
def test_populations_have_the_values_they_claim(population: Population) -> None:
    rng = np.random.default_rng(2)
    n, lift = 400_000, 0.3
    for effect in (0.0, lift):
        columns = population.lifted(rng, population.draw(rng, 1, n), effect)
        first, second = columns[0][0], columns[-1][0]
        value = population.value * (1.0 + effect)
        if population.columns[-1] == "d":
            values = (first - value * second) / second.mean() + value
        elif population.columns[-1] == "c":
            values = first - (1.0 + effect) * second + value
        else:
            values = first
        variance = population.lifted_variance(effect)
        assert abs(values.mean() - value) < 4.5 * sqrt(variance / n)
        if population.name.startswith("zero"):  # too heavy to see the variance: log-normal of sigma 1.5
            logs = np.log(values[values > 0.0])
            assert len(logs) / n == pytest.approx(0.1, rel=0.02)
            assert [logs.mean(), logs.std()] == pytest.approx(
                [np.log(value / 0.1) - 1.5**2 / 2, 1.5], abs=0.04
            )
            assert variance == pytest.approx(value**2 * (np.exp(1.5**2) / 0.1 - 1.0))
        else:
            assert values.var() == pytest.approx(variance, rel=0.03)


def test_a_past_explains_what_it_claims() -> None:
    y, x = with_past().draw(np.random.default_rng(3), 1, 400_000)
    assert 1.0 - np.corrcoef(y[0], x[0])[0, 1] ** 2 == pytest.approx(REMAINING, abs=0.01)


def close(rate: float, aim: float, sims: int) -> bool:
    return abs(rate - aim) <= ALLOWED * monte_carlo_error(aim, sims)


@pytest.mark.parametrize(
    ("data", "method", "split"),
    [
        ("normal", "welch", "50:50"),
        ("normal", "welch", "10:90"),
        ("exponential", "welch", "50:50"),
        ("exponential", "welch", "10:90"),
        ("Bernoulli 1 %", "proportion", "50:50"),
        ("clustered ratio", "ratio", "50:50"),
        ("zero-inflated log-normal", "winsorised welch", "50:50"),
        ("gamma with a past", "welch", "50:50"),
        ("gamma with a past", "cuped", "50:50"),
        ("gamma with a past", "cuped", "10:90"),
        ("gamma pairs", "paired", "paired"),
        ("two phases", "stratified", "10:90, 50:50"),
    ],
)
def test_false_positives_coverage_and_power_are_as_promised(
    cells: dict[tuple[str, str, str], Cell], data: str, method: str, split: str
) -> None:
    cell = cells[data, method, split]
    assert cell.sims == SIMS
    assert close(cell.rate(cell.false_positives), 0.05, SIMS)
    assert cell.coverage is not None
    assert close(cell.coverage, 0.95, cell.intervals)
    if cell.case.planned is not None:
        assert close(cell.rate(cell.found), cell.case.planned, SIMS)


def test_what_cannot_be_trusted_shows(cells: dict[tuple[str, str, str], Cell]) -> None:
    heavy = cells["zero-inflated log-normal", "welch", "10:90"]
    assert heavy.rate(heavy.false_positives) > 0.08
    pooled = cells["two phases", "pooled", "10:90, 50:50"]
    assert pooled.rate(pooled.false_positives) > 0.9
    assert not nominal(pooled)


def test_looking_daily_ruins_the_fixed_test_alone(cells: dict[tuple[str, str, str], Cell]) -> None:
    cell = cells["exponential", "welch", "50:50"]
    assert cell.rate(cell.ever_fixed) > 0.15
    assert cell.rate(cell.ever_valid) < 0.05 + ALLOWED * monte_carlo_error(0.05, SIMS)


def test_adjustment_leaves_one_minus_rho_squared(cells: dict[tuple[str, str, str], Cell]) -> None:
    assert remaining(cells.values())[1000] == pytest.approx(REMAINING, rel=0.03)


def test_the_tables_hold_every_cell(cells: dict[tuple[str, str, str], Cell]) -> None:
    every = list(cells.values())
    assert len(table(map(row, every)).splitlines()) == len(every) + 1
    assert len(markdown(every).splitlines()) == len(every) + 2
    assert figures(every) == []
    large = [replace(cell, case=cell.case._replace(n=5000)) for cell in every]
    assert len(figures(large)) == 2 * sum(map(asked, large)) + 1


def test_nominal_from_is_where_all_larger_are_nominal() -> None:
    case: Case = next(cases((1000,)))
    good = Cell(case, 1000, 50, 0, 1000, 950)
    bad = Cell(case, 1000, 90, 0, 1000, 950)

    def at(n: int, cell: Cell) -> Cell:
        return replace(cell, case=case._replace(n=n))

    assert nominal_from([at(100, good), at(1000, bad), at(5000, good), at(10_000, good)]) == 5000
    assert nominal_from([at(100, good), at(1000, good)]) == 100
    assert nominal_from([at(100, good), at(1000, bad)]) is None
    assert [off(rate, 0.05, 1000) for rate in (0.05, 0.09, 0.01, None)] == [
        "nominal",
        "high",
        "low",
        "unknown",
    ]
