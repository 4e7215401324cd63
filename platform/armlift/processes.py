"""The processes of one command: `torchrun` starts several, and says in the environment which one this is."""

import os


def count() -> int:
    """Count the processes that `torchrun` started for this command; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this is the process that prints and stores for all of them."""
    return count() == 1 or os.environ.get("RANK", "0") == "0"
