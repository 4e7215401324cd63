"""The study of evolving preferences runs to its end on few users; what it measures there says nothing."""

from collections.abc import Iterator
from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from bench_evolution import BASES, best, covered, figures, groups_of, prompt_table, tables
from evolution import (
    CLICKS,
    HEARD,
    IMPRESSIONS,
    ONE_STEP,
    ORACLE,
    PROMPTS,
    Cell,
    Scale,
    prompts,
    recalls,
)
from evolution_lifts import assigned, estimated, lift, pooled, rate, true
from scipy.stats import ttest_1samp

from armlift.logs import published
from armlift.simulation import laboratory
from armlift.simulation.response import Levels, ResponseModel
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.world import World

SMALL = Scale(users=30, days=1, arm={"dim": 4, "heads": 1, "epochs": 1, "pretraining_epochs": 1})


LEVELS = Levels(-1.5, -2.0, 0.5, 1.5, np.zeros(published.TABS))


def fixed(settings: SimulationSettings, origin: None = None) -> ResponseModel:
    """Take levels that were found before: to find them takes longer than the study of few users."""
    return ResponseModel(World.of(settings), LEVELS, settings)


@pytest.fixture(scope="module", autouse=True)
def _levels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory, "calibrate", fixed)
        yield


@pytest.fixture(scope="module")
def cell(_levels: None) -> Cell:
    return recalls(1.0, 0, SMALL)


def test_all_users_meet_every_recall(cell: Cell) -> None:
    assert set(cell.totals) == {ONE_STEP, ORACLE, *BASES}
    assert set(HEARD) < set(BASES)
    for totals in cell.totals.values():
        assert totals.shape == (len(cell.units), 3)
        assert (totals[:, CLICKS] <= totals[:, IMPRESSIONS]).all()
    # They come with the same luck: the number of users who come at all rests on no arm.
    came = {int((totals[:, IMPRESSIONS] > 0).sum()) for totals in cell.totals.values()}
    assert len(came) == 1


def test_what_steps_could_gain_is_large(cell: Cell) -> None:
    assert rate([cell], "oracle, item by item") > rate([cell], "oracle [5, 5]") > rate([cell], ORACLE)


def test_lifts_are_those_of_totals(cell: Cell) -> None:
    name = "[5, 5] heard"
    assert lift(true(cell, name, ONE_STEP)) == pytest.approx(rate([cell], name) / rate([cell], ONE_STEP) - 1)
    clicks = [cell.totals[one][:, CLICKS].mean() for one in (name, ONE_STEP)]
    assert lift(true(cell, name, ONE_STEP, "clicks")) == pytest.approx(clicks[0] / clicks[1] - 1)
    # An estimate looks at every user under one arm alone.
    mine = assigned(tuple(cell.units))
    hidden = {
        one: np.where((mine if one == name else ~mine)[:, None], totals, 0.0)
        for one, totals in cell.totals.items()
    }
    assert 0 < mine.sum() < len(mine)
    assert estimated(replace(cell, totals=hidden), name, ONE_STEP) == estimated(cell, name, ONE_STEP)


def test_seeds_are_pooled_by_students_t() -> None:
    values = [0.01, 0.03, -0.01, 0.02]
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    found = pooled(values)
    assert found[:3] == pytest.approx((np.mean(values), interval.low, interval.high))
    assert found.p == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert isnan(pooled([0.1]).low)


def test_tables_and_figures_tell_every_recall(cell: Cell) -> None:
    cells = [replace(cell, strength=strength, seed=seed) for strength in (0.0, 1.0) for seed in (0, 1)]
    cells[1] = cells[3] = replace(cells[1], totals={n: t + (n in HEARD) for n, t in cell.totals.items()})
    lines = list(tables(cells))
    assert len(lines) == (3 + 3 + len(BASES)) + 4 * (3 + len(BASES))
    assert {line.count("|") for line in lines} == {0, 4}
    assert len(list(best(cells))) == 2 * 3
    assert covered(cells).split()[2] == str(len(cells) * len(BASES))
    assert [one.bench.split(",")[0] for one in figures(cells)[::2]] == ["evolution 0.0", "evolution 1.0"]


def test_prompts_are_told_by_group() -> None:
    cells = [prompts(0.5, 0, SMALL)]
    lines = list(prompt_table(cells))
    assert len({line.count("|") for line in lines}) == 1
    assert set(cells[0].totals) == set(PROMPTS)
    groups = [rows[0] for name, rows in groups_of(cells).items() if name != "all"]
    assert (np.sum(groups, axis=0) == 1).all()
