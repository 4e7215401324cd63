"""Checkpoint files: what was written is read, and nothing else is."""

from pathlib import Path

import pytest
import torch

from armlift.errors import InputError
from armlift_arms.checkpoint import read_state, write_state


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "train.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3, dtype=torch.uint8)}
    values: dict[str, object] = {"state": {"state": 2**127 + 1}, "ndcg": 0.1, "none": {}}
    write_state(path, {"a": torch.zeros(1)}, {})
    write_state(path, tensors, values)
    found, told = read_state(path)
    assert told == values
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }
    assert [file.name for file in path.parent.iterdir()] == ["train.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "folder"])
def test_anything_else_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "train.safetensors"
    write_state(path, {"a": torch.zeros(9)}, {"epochs": 3})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path.write_bytes(b"epochs: 3\n" * 99)
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(InputError) as caught:
        read_state(path)
    assert str(caught.value) == f"{path}: is no checkpoint, must be removed to train from the start"
