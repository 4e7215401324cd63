"""Checkpoint files: tensors and plain values of a run that may have to go on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from armlift.errors import InputError

_VALUES = "values"


def write_state(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, object]) -> None:
    """Write a state, all of it or nothing, over what stood there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")  # somebody else may be fitting the same arm
    scratch.write_bytes(
        save(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            {_VALUES: json.dumps(values)},
        )
    )
    os.replace(scratch, path)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_state` wrote; raises InputError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[_VALUES])
            return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise unfit(path, "is no checkpoint") from error


def unfit(path: Path, reason: str) -> InputError:
    """Build the error of a checkpoint that a run cannot go on from."""
    return InputError(f"{path}: {reason}, must be removed to train from the start")
