"""Fixtures of the simulator's tests: a small world whose levels are given, not calibrated."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.logs import published
from armlift.simulation import laboratory
from armlift.simulation.calibration import Origin
from armlift.simulation.laboratory import Laboratory, Size
from armlift.simulation.response import Levels, ResponseModel
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.world import World

LEVELS = Levels(-1.5, -0.5, 1.0, 2.0, np.zeros(published.TABS))
SMALL: dict[str, Any] = {
    "videos": 60,
    "taste_categories": 6,
    "history_days": 2,
    "sessions_per_day": 2.0,
    "rows_per_session": 6.0,
}

ModelOf = Callable[..., ResponseModel]
LaboratoryOf = Callable[..., Laboratory]


def given(settings: SimulationSettings, origin: Origin | None = None) -> ResponseModel:
    """Make a model of settings with the given levels, in place of calibrating it."""
    assert origin is None
    return ResponseModel(World.of(settings), LEVELS, settings)


@pytest.fixture
def model_of() -> ModelOf:
    """Give models of the small world, with some settings changed."""
    return lambda **changed: given(SimulationSettings.model_validate({**SMALL, **changed}))


@pytest.fixture
def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let laboratories take the given levels, so that a test need not wait for pilots."""
    monkeypatch.setattr(laboratory, "calibrate", given)


@pytest.fixture
def laboratory_of(uncalibrated: None) -> LaboratoryOf:
    """Give laboratories of the small world: arms, users, days, and the settings that are changed."""

    def make(
        arms: Sequence[str], users: int = 60, days: int = 2, seed: int = 0, limit: int = 50, **changed: Any
    ) -> Laboratory:
        experiment = Experiment.model_validate(
            {
                "name": "small",
                "arms": dict.fromkeys(arms, 1.0),
                "control": arms[0],
                "metrics": {"primary": ["clicks"], "guardrails": ["click_rate"]},
                "simulation": {**SMALL, **changed},
            }
        )
        return Laboratory.of(experiment, Calendar("UTC"), Size(users, days, 5, seed), limit)

    return make
