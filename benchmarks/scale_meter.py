"""Meters: seconds, and CPU seconds of processes with all they started, between two moments."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


class Meter:
    """Seconds and CPU seconds since it was made or set back; `processes` by name, each with its children.

    What children took counts also once they have ended and were waited for.
    """

    def __init__(self, **processes: psutil.Process) -> None:
        self._processes = processes
        self.set_back()

    def set_back(self) -> None:
        """Begin anew."""
        self._began = time.perf_counter()
        self._before = {name: cpu_seconds(one) for name, one in self._processes.items()}

    @property
    def seconds(self) -> float:
        """Give the seconds that went by."""
        return time.perf_counter() - self._began

    def cpu(self, name: str) -> float:
        """Give the CPU seconds of one of the processes."""
        return cpu_seconds(self._processes[name]) - self._before[name]


def cpu_seconds(process: psutil.Process) -> float:
    """Add up the CPU seconds of a process and of what it started; 0 once it has ended."""
    try:
        found = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_times(one) for one in found)


def _times(process: psutil.Process) -> float:
    try:
        taken = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(taken.user + taken.system + taken.children_user + taken.children_system)


def of_folder(folder: Path) -> psutil.Process:
    """Find the process whose words name a folder."""
    for one in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in one.info["cmdline"] or ()):
            return one
    raise LookupError(f"no process works in {folder}")


def bytes_of(folder: Path, pattern: str) -> int:
    """Add up the sizes of files."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say what is done and how long it took."""
    print(f"  {what} ...", end="", flush=True)
    began = time.perf_counter()
    yield
    print(f" {time.perf_counter() - began:.1f} s", flush=True)
