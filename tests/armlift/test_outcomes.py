"""Outcomes drawn from a model: by what they are drawn, how often they come, and for whom nothing is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from armlift.asked import Asked
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.logs.response_fit import fit_response
from armlift.logs.response_model import ResponseModel
from armlift.outcomes import LoggedOutcomes, ModelledOutcomes
from armlift.splitter import Assignment

ASKED = Asked("u", 5_000, 0, Assignment("a", True, "range", 0, 0), False, (), {})
SETTINGS = GeneratorSettings(
    users=60, videos=30, days=2, sessions_per_day=3, rows_per_session=8, random_share=1
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResponseModel:
    path = tmp_path_factory.mktemp("model") / "log.csv"
    generate(SETTINGS, path)
    return fit_response(open_log([path]))


def test_logged_outcomes_are_what_the_session_shows() -> None:
    outcomes = LoggedOutcomes()
    assert outcomes.of(ASKED, "a", ["1"]) is ASKED.shown
    assert outcomes.basis() == {}


def test_seed_unit_time_and_item_decide_and_nothing_else(model: ResponseModel) -> None:
    items = list(model.items)
    first = ModelledOutcomes(model, 0).of(ASKED, "a", items)
    assert list(first) == items
    again = ModelledOutcomes(model, 0)
    again.of(replace(ASKED, unit="other"), "b", items[:3])
    backwards = again.of(replace(ASKED, number=9, exposes=True), "b", items[::-1])
    assert backwards == first
    assert again.of(ASKED, "a", items[7:8])[items[7]] == first[items[7]]
    for changed in (replace(ASKED, unit="v"), replace(ASKED, ts=5_001)):
        assert {one.feedback for one in again.of(changed, "a", items).values()} != {
            one.feedback for one in first.values()
        }
    assert ModelledOutcomes(model, 1).of(ASKED, "a", items) != first


def test_outcomes_come_as_often_as_the_model_says(model: ResponseModel) -> None:
    outcomes = ModelledOutcomes(model, 3)
    unit, items = model.units[4], list(model.items)
    clicks = np.zeros(len(items))
    for ts in range(400):
        found = outcomes.of(replace(ASKED, unit=unit, ts=ts), "a", items)
        clicks += ["click" in dict(found[item].feedback) for item in items]
    # The unit's effect is drawn once; the items' are the model's own.
    effect = outcomes._effect(unit)
    assert abs(effect - model.unit_effects.mean[4]) < 4 * model.unit_effects.deviation[4]
    chance = expit(model.level + effect + model.item_effects.mean)
    errors = (clicks - 400 * chance) / np.sqrt(400 * chance * (1 - chance))
    assert abs(errors).max() < 4
    assert 0.6 < errors.std() < 1.4


def test_units_not_known_are_drawn_from_the_spread(model: ResponseModel) -> None:
    outcomes = ModelledOutcomes(model, 0)
    effects = [outcomes._effect(f"new {n}") for n in range(2_000)]
    assert np.std(effects) == pytest.approx(model.unit_effects.spread, rel=0.05)
    assert abs(np.mean(effects)) < 4 * model.unit_effects.spread / np.sqrt(2_000)


def test_items_not_known_answer_and_are_counted(model: ResponseModel) -> None:
    outcomes = ModelledOutcomes(model, 0)
    assert list(outcomes.of(ASKED, "a", ["nobody's", model.items[0]])) == ["nobody's", model.items[0]]
    assert outcomes.of(ASKED, "a", []) == {}
    assert outcomes.left_out == {"item_unknown_to_model": 1}
    assert outcomes.basis() == {"rows": model.rows, "random_rows": model.rows}
