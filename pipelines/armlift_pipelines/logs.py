"""The logs of steps: the end of what one wrote, read from the lab's folder of logs and from nowhere else."""

from pathlib import Path
from typing import NamedTuple

from armlift.dead_letters import printable
from armlift.errors import InputError
from armlift_pipelines.night import LOGS

LINES = 200
BYTES = 256 * 1024
"""How much of a file is looked at: a line may be of any length."""


class Tail(NamedTuple):
    """The last lines of a log, and whether there were more before them."""

    lines: list[str]
    cut: bool


def tail(lab: Path, log: str) -> Tail | None:
    """Read the end of a log, which is named from the lab's folder; None where it is gone.

    Raises InputError for what does not lie in the lab's folder of logs, links followed, and for what cannot
    be read.
    """
    shown = f"log {printable(log)}"
    try:
        path = (lab / log).resolve()
        if not path.is_relative_to((lab / LOGS).resolve()):
            raise InputError(f"{shown}: must lie in {LOGS}/ of the lab")
        if not path.exists():
            return None
        if not path.is_file():
            raise InputError(f"{shown}: must be a file")
        size = path.stat().st_size
        start = max(0, size - BYTES)
        with path.open("rb") as file:
            file.seek(start)
            lines = file.read(BYTES).decode(errors="replace").splitlines()
    except (OSError, RuntimeError, ValueError) as error:  # links that go round, names that are none
        raise InputError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    # What was cut in its middle is no line.
    whole = lines[1:] if start and len(lines) > 1 else lines
    return Tail([_plain(line) for line in whole[-LINES:]], bool(start) or len(whole) > LINES)


def _plain(line: str) -> str:
    return printable(line.replace("\t", "    "))
