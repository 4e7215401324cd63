"""The memory that training a model takes, told before it is used up.

Every process holds the whole model: tables of items and units are not shared out among processes.
"""

import os
from contextlib import suppress
from pathlib import Path

import psutil
from torch import nn

from armlift.errors import InputError

COPIES = 6
"""What training holds of a weight beside itself: its gradient, two moments of Adam, its average, the average
that is kept, and the weight itself while the averages are validated."""
_GROUP = Path("/sys/fs/cgroup")
_GIGABYTE = 1e9


def check(model: nn.Module, stage: str) -> None:
    """Refuse to train what does not fit the memory that is free; raises InputError."""
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed, free = weights * COPIES * together, available()
    if needed > free:
        many = f" in {together} processes" if together > 1 else ""
        raise InputError(
            f"{stage}: training {weights / _GIGABYTE:.1f} GB of weights{many} takes "
            f"{needed / _GIGABYTE:.1f} GB more, must fit the {free / _GIGABYTE:.1f} GB of memory that are "
            f"free; take a smaller dim, or fewer items"
        )


def available(group: Path = _GROUP) -> int:
    """Give the bytes of memory that are free for this process: on the machine, and in its container."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # there is no group, or it has no limit
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        free = min(free, int(limit) - int(used))
    return free
