"""Averaged weights."""

import pytest
import torch
from torch import nn

from armlift_arms.averages import Averages


def model_of(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def step_to(model: nn.Linear, averages: Averages, value: float, horizon: float) -> float:
    """Set the weight, move the averages, and give what they are now."""
    with torch.no_grad():
        model.weight.fill_(value)
    averages.move(horizon)
    with averages.in_place():
        return model.weight.item()


def test_without_a_horizon_the_average_is_the_last_weight() -> None:
    model = model_of(0.5)
    averages = Averages(model)
    for value in (0.25, 0.75):
        assert step_to(model, averages, value, 1.0) == value


def test_a_share_of_the_way_is_gone_each_step_and_more_at_first() -> None:
    model = model_of(0.0)
    averages = Averages(model)
    assert step_to(model, averages, 1.0, 5.0) == pytest.approx(0.9)
    for _ in range(200):
        before = step_to(model, averages, 1.0, 5.0)
    assert step_to(model, averages, 2.0, 5.0) == pytest.approx(before + (2.0 - before) / 5)


def test_the_model_has_its_own_weights_until_it_is_settled() -> None:
    model = model_of(0.0)
    averages = Averages(model)
    kept = step_to(model, averages, 1.0, 5.0)
    averages.keep()
    step_to(model, averages, 3.0, 5.0)
    assert model.weight.item() == 3.0
    averages.settle()
    assert model.weight.item() == pytest.approx(kept)
