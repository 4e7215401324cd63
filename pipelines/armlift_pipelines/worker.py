"""Steps in a process of their own, which is ended when it takes too long or too much memory.

The process is forked from a server that has imported what steps need, so that it begins at once. What it
writes goes to a log. It ends when the process that asked for it does.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from armlift import processes
from armlift.durations import milliseconds
from armlift.errors import ArmliftError, InputError, OthersError
from armlift.nightly import StepSettings
from armlift.store.database import DATABASE_ERRORS

POLL = 0.1
"""Seconds between two looks at a process's memory."""
_MEGABYTE = 1024 * 1024
_MODULES = ["__main__", "armlift_pipelines.steps", "torch"]
"""What every step's process finds imported."""


class Work(NamedTuple):
    """What a step came to: what it gave, how long it took, and the most memory it used (megabytes)."""

    outputs: Mapping[str, Any]
    seconds: float
    megabytes: float


class StepError(ArmliftError):
    """A step failed; `lasting` says that trying again cannot help, `megabytes` how much memory it used."""

    def __init__(self, text: str, *, lasting: bool = False, megabytes: float = 0.0) -> None:
        super().__init__(text)
        self.lasting = lasting
        self.megabytes = megabytes


class StoppedError(ArmliftError):
    """Whoever asked for the step no longer wants it."""


Target = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def run(
    target: Target,
    arguments: Mapping[str, Any],
    limits: StepSettings,
    log: Path,
    stop: threading.Event,
    *,
    number: int = 1,
) -> Work:
    """Run a function of a module in a process of its own; arguments and outputs are plain data.

    In a `number` of processes where it is more than one: each finds its place in the environment, as
    `torchrun` tells it, limits are those of all together, and the outputs are the first one's. Raises
    StepError where one fails, is ended or takes more than the limits, StoppedError once `stop` is set.
    """
    began = time.monotonic()
    team: list[_Member] = []
    try:
        places = processes.places(number) if number > 1 else [{}]
        team.extend(_Member(target, json.dumps(arguments), str(log), place) for place in places)
        peak = _watch(team, limits, stop, began)
        failed = min((one for one in team if one.failed), key=lambda one: one.follows, default=None)
    finally:
        for one in team:
            one.end()
    seconds = time.monotonic() - began
    peak = max(peak, sum(one.answer.get("megabytes", 0.0) for one in team if one.answer))
    if failed is None:
        assert team[0].answer
        return Work(team[0].answer["outputs"], seconds, peak)
    if failed.answer:
        raise StepError(failed.answer["error"], lasting=failed.answer["lasting"], megabytes=peak)
    raise StepError(_ending(failed.process.exitcode, peak), megabytes=peak)


class _Member:
    """One of the processes of a step."""

    def __init__(self, target: Target, arguments: str, log: str, place: Mapping[str, str]) -> None:
        context = _context()
        self.hear, tell = context.Pipe(duplex=False)
        watched, self._life = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_work, args=(target, arguments, log, place, tell, watched), daemon=True
        )
        self.process.start()
        for end in (tell, watched):
            end.close()
        self.answer: dict[str, Any] | None = None

    @property
    def failed(self) -> bool:
        """Tell whether it has ended without outputs."""
        return self.answer is not None and "outputs" not in self.answer

    @property
    def follows(self) -> bool:
        """Tell whether it has failed as another one did."""
        return self.answer is not None and self.answer.get("follows", False)

    def listen(self) -> None:
        """Take its answer; an empty one, where it ended without."""
        try:
            self.answer = json.loads(self.hear.recv())
        except EOFError:
            self.process.join(5.0)
            self.answer = {}

    def end(self) -> None:
        """End it, if it has not ended."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        for pipe in (self.hear, self._life):
            pipe.close()


def _context() -> Any:
    """Give the way in which processes are made: forked from a server where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    return context


def _watch(team: Sequence[_Member], limits: StepSettings, stop: threading.Event, began: float) -> float:
    """Wait for the answers of processes, and look after their limits; gives the most memory seen.

    Ends with the first one that fails, but for those that fail as another has.
    """
    peak, seconds = 0.0, milliseconds(limits.timeout) / 1000.0
    while busy := [one for one in team if one.answer is None]:
        heard = wait([one.hear for one in busy], POLL)
        for one in busy:
            if one.hear in heard:
                one.listen()
        if any(one.failed and not one.follows for one in team):
            break
        peak = max(peak, sum(_memory(one.process.pid) for one in busy))
        if limits.megabytes is not None and peak > limits.megabytes:
            raise StepError(
                f"used {peak:,.0f} MB of memory, must use at most {limits.megabytes:,}", megabytes=peak
            )
        if time.monotonic() - began > seconds:
            raise StepError(f"took longer than {limits.timeout}", megabytes=peak)
        if stop.is_set():
            raise StoppedError("stopped")
    return peak


def _memory(pid: int) -> float:
    with suppress(psutil.Error):
        return float(psutil.Process(pid).memory_info().rss / _MEGABYTE)
    return 0.0


def _ending(code: int | None, peak: float) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        likely = ", as by the system when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{likely}; it had used {peak:,.0f} MB"
    return f"its process ended with code {code} and no answer"


def _work(
    target: Target, arguments: str, log: str, place: Mapping[str, str], tell: Connection, watched: Connection
) -> None:
    """Do the work of a process, at its place among others."""
    os.environ.update(place)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asked: it ends this process then
    with open(log, "ab", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        answer: dict[str, Any] = {"outputs": dict(target(json.loads(arguments)))}
    except ArmliftError as error:
        print(error, file=sys.stderr, flush=True)
        # A database that is away is worth another try, whatever else it is called.
        lasting = isinstance(error, InputError) and not isinstance(error.__cause__, DATABASE_ERRORS)
        answer = {"error": str(error), "lasting": lasting, "follows": isinstance(error, OthersError)}
    except BaseException as error:  # noqa: BLE001 (it is told, whatever it is)
        traceback.print_exc()
        sys.stderr.flush()
        line = " ".join(f"{type(error).__name__}: {error}".split())
        answer = {"error": line[:500], "lasting": False}
    sys.stdout.flush()
    tell.send(json.dumps(answer | {"megabytes": _peak()}))


def _end_with(watched: Connection) -> None:
    """End this process once the other end of a pipe is gone."""
    with suppress(EOFError, OSError):
        watched.recv()
    os._exit(1)


def _peak() -> float:
    """Give the most memory this process had, in megabytes, where the system tells."""
    if sys.platform == "win32":
        return 0.0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / _MEGABYTE if sys.platform == "darwin" else most / 1024
