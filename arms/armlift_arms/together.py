"""Several processes that train one model together: `torchrun` starts them, and they meet at its address.

Each takes its share of the rows of every batch, and gradients are averaged over all of the batch's targets
(DistributedDataParallel), so that a step is the one that a single process would make, up to what is drawn.
"""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from armlift import processes
from armlift.errors import ArmliftError, InputError, OthersError

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it ends with an error."""

Number = TypeVar("Number", bound=np.generic)


def join() -> None:
    """Meet the other processes that `torchrun` started, if there are any, once for all runs.

    Raises ArmliftError where they do not meet.
    """
    if processes.count() == 1 or distributed.is_initialized():
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:  # what it is told is wrong; what it is told does not answer
        address = ":".join(os.environ.get(name, "(not set)") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise ArmliftError(
            f"training: its processes cannot meet at {address} ({str(error).splitlines()[0]}); all must be "
            f"given the MASTER_ADDR of the first, and a MASTER_PORT that is free there, as torchrun does"
        ) from error
    atexit.register(distributed.destroy_process_group)


def count() -> int:
    """Count the processes that have met; 1 alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Give the number of this process among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def told() -> Iterator[None]:
    """Say in one line that another process has failed; raises OthersError."""
    try:
        yield
    except RuntimeError as error:
        if count() == 1 or not (isinstance(error, distributed.DistError) or "gloo" in str(error).lower()):
            raise
        atexit.register(_leave)
        raise OthersError(
            "training: another of its processes has failed or cannot be reached; see what it says; "
            f"start all of them again to go on ({str(error).splitlines()[0]})"
        ) from error


def _leave() -> None:
    """End at once with 2: what was shared with a process that is gone cannot always be taken apart."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def in_parallel(module: nn.Module) -> nn.Module:
    """Let a module's gradients be the means of all processes'."""
    return DistributedDataParallel(module) if count() > 1 else module


def share_of(batch: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], bool]:
    """Give this process's rows of a batch; where there are none the first, and that it does not count."""
    mine = batch[rank() :: count()]
    return (mine, True) if len(mine) else (batch[:1], False)


def summed(values: Tensor, device: torch.device) -> Tensor:
    """Add the values of all processes up, on their device."""
    if count() > 1:
        values = values.to(device)
        distributed.all_reduce(values)
    return values.cpu()


def sent(values: npt.NDArray[Number], sender: int, device: torch.device) -> npt.NDArray[Number]:
    """Give the values of one of several processes to all; each has an array of their shape."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    distributed.broadcast(tensor, sender)
    found: npt.NDArray[Number] = tensor.cpu().numpy()
    return found


def agree(name: str, number: int, device: torch.device) -> None:
    """Check that all processes have the same number, which they cannot go on without.

    Raises InputError.
    """
    if count() == 1:
        return
    bounds = torch.tensor([number, -number], dtype=torch.int64, device=device)
    distributed.all_reduce(bounds, distributed.ReduceOp.MAX)
    most, least = int(bounds[0]), -int(bounds[1])
    if most != least:
        raise InputError(
            f"training: {name} is {number} here and {least if number == most else most} in another process, "
            f"must be the same: all must see the same data and the same folder of the lab"
        )
