"""Commands that run beside the API: started with it, begun anew when they end, and ended with it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Self

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a command that ended is begun anew: each time longer."""
STEADY = 60.0
"""Seconds after which a command counts as having run well."""
END_SECONDS = 15.0
"""Seconds a command has to end by itself."""
_PROGRAM = "from armlift.cli import main; main()"
_DIE_WITH_PARENT = "import ctypes, signal; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
"""On Linux a command is also told to end when the process that began it is killed."""


class Children:
    """Runs `armlift` commands, by name, in processes of their own; `environment` is added to this one's."""

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        *,
        say: Callable[[str], None],
    ) -> None:
        self._say, self._environment = say, {**os.environ, **environment}
        self._stopped = threading.Event()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(name, words), name=f"armlift-{name}", daemon=True)
            for name, words in commands.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for process in [*self._processes.values()]:
            process.terminate()
        for thread in self._threads:
            thread.join()

    def _keep(self, name: str, words: Sequence[str]) -> None:
        failures = 0
        while not self._stopped.is_set():
            started = monotonic()
            process = self._begin(name, words)
            code = self._wait(process)
            if self._stopped.is_set():
                return
            failures = 0 if monotonic() - started > STEADY else failures + 1
            pause = PAUSES[min(failures, len(PAUSES)) - 1] if failures else PAUSES[0]
            self._say(f"{name} ended with code {code}, begins anew in {pause:g} s")
            self._stopped.wait(pause)

    def _begin(self, name: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
        code = f"{_DIE_WITH_PARENT if sys.platform == 'linux' else ''}{_PROGRAM}"
        # In a session of its own, so that Ctrl-C reaches the API alone, which then ends it in order.
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes[name] = process
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while not self._stopped.is_set():
            try:
                return process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        process.terminate()
        try:
            return process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
