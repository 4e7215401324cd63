"""Costs are measured of the arm that is asked for, and leave nothing behind."""

from pathlib import Path

import pytest
from torch.optim import optimizer

from armlift.arm import ArmConfig
from armlift.sequences import SplitData, read_sequences
from armlift_arms.costs import measure
from armlift_arms.recgpt import RecGptConfig


@pytest.fixture
def data(tmp_path: Path) -> SplitData:
    path = tmp_path / "sequences.txt"
    rows = [f"u{unit} " + " ".join(str((unit + step) % 9) for step in range(6)) for unit in range(12)]
    path.write_text("\n".join(rows) + "\n")
    return SplitData(read_sequences(path), "test", "click")


def definition(**changes: object) -> ArmConfig:
    small = {"name": "mine", "model": "recgpt", "dim": 4, "layers": 1, "heads": 1, "batch_tokens": 16}
    return RecGptConfig.model_validate({**small, **changes})


def test_time_and_memory_are_told(data: SplitData) -> None:
    hooks = len(optimizer._global_optimizer_post_hooks)
    found = measure(definition(negatives=4), data)
    assert found.units == tuple(f"u{unit}" for unit in range(12))
    assert found.measures == {}
    times = {"ms a user", "ms a request", "ms a training step"}
    assert times <= found.figures.keys()
    assert found.figures["ms a user"] <= found.figures["ms a request"]
    assert found.figures.keys() - times <= {"peak MB, training", "peak MB, answering"}
    assert all(value > 0 for value in found.figures.values())
    assert len(optimizer._global_optimizer_post_hooks) == hooks


def test_one_step_has_no_time_between_steps(data: SplitData) -> None:
    found = measure(definition(negatives=4, batch_tokens=10_000), data)
    assert "ms a training step" not in found.figures
