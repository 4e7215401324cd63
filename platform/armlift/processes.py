"""The processes of one command: `torchrun` starts several, and says in the environment which one this is."""

import os
import socket
from collections.abc import Iterator

from armlift.errors import InputError


def count() -> int:
    """Count the processes that `torchrun` started for this command; 1 without it.

    Raises InputError where the environment has no number of them.
    """
    told = os.environ.get("WORLD_SIZE", "1")
    if not (told.isascii() and told.isdigit() and int(told)):
        raise InputError(f"WORLD_SIZE: {told!r} must be the number of processes, 1 where there are no others")
    return int(told)


def places(number: int) -> Iterator[dict[str, str]]:
    """Give the environment of each of so many processes of this machine that are to run one command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for rank in map(str, range(number)):
        yield {
            "WORLD_SIZE": str(number),
            "RANK": rank,
            "LOCAL_RANK": rank,
            "LOCAL_WORLD_SIZE": str(number),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }


def is_first() -> bool:
    """Tell whether this is the process that prints and stores for all of them."""
    return count() == 1 or os.environ.get("RANK", "0") == "0"
