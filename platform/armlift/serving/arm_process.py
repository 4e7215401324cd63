"""Arms in a process of their own: what they compute holds up no request, and what they break is theirs.

The process loads arms as `Arms` does and answers over sockets of this machine, each served by a thread. One
that ends, or does not answer for `STUCK_SECONDS`, is begun anew.
"""

import atexit
import logging
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple

from armlift.arm import Request
from armlift.errors import ArmliftError
from armlift.lab import Lab
from armlift.serving.arms import Arms, Key, Served, Standing

logger = logging.getLogger("armlift.serve")
STUCK_SECONDS = 30.0
"""Seconds after which an arm that does not answer is given up."""
START_SECONDS = 60.0
"""Seconds a process has to begin."""
KEY_BYTES = 32


class ArmProcessError(ArmliftError):
    """The process of arms has gone, or an arm in it failed."""


class Origin(NamedTuple):
    """Where a process finds its lab and the lab's database."""

    folder: Path
    database_url: str


class ArmProcess:
    """Asks arms in a process of its own; several threads may, each over a connection of its own."""

    def __init__(self, lab: Lab, *, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._origin = Origin(lab.folder, lab.settings.database_url)
        self._stuck_seconds = stuck_seconds
        self._folder = TemporaryDirectory(prefix="armlift-")
        self._secret = os.urandom(KEY_BYTES)
        self._lock = threading.Lock()
        self._process: Any = None
        self._address = ""
        self._asked: dict[int, float] = {}
        self._mine = threading.local()
        self.begun = 0
        """How often the process was begun."""
        self.closed = False
        """Whether it was ended for good."""
        # Before multiprocessing, which would tell it to end and wait: it does not listen to that.
        atexit.register(self.close)

    def start(self) -> None:
        """Begin the process, unless it lives; end first one in which an arm is stuck.

        Raises ArmProcessError where it cannot be begun, and after `close`.
        """
        with self._lock:
            if self.closed:
                raise ArmProcessError("the process of arms was ended for good")
            oldest = min(self._asked.values(), default=monotonic())
            alive = self._process is not None and self._process.is_alive()
            if alive and monotonic() - oldest > self._stuck_seconds:
                logger.warning(
                    "an arm did not answer for %g s: its process is begun anew", self._stuck_seconds
                )
                self._process.kill()
                self._process.join()
                alive = False
            if not alive:
                self._begin()

    def prepare(self, wanted: Sequence[Key]) -> Standing:
        """Load what is wanted, however long it takes, and say how arms stand."""
        found: Standing = self._call("prepare", list(wanted))
        return found

    def answer(self, key: Key, requests: Sequence[Request]) -> list[Served]:
        """Answer a batch; raises ArmProcessError where the process is gone or the arm failed."""
        caller = threading.get_ident()
        self._asked[caller] = monotonic()
        try:
            found: list[Served] = self._call("answer", key, list(requests))
        finally:
            del self._asked[caller]
        return found

    def close(self) -> None:
        """End the process; again, it does nothing."""
        atexit.unregister(self.close)
        with self._lock:
            self.closed = True
            if self._process is not None:
                self._process.kill()
                self._process.join()
        self._folder.cleanup()

    def _begin(self) -> None:
        self.begun += 1
        self._address = str(Path(self._folder.name) / str(self.begun))
        context = get_context("spawn")
        ready, told = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run,
            args=(self._origin, self._address, self._secret, told),
            name="armlift-arms",
            daemon=True,
        )
        self._process.start()
        told.close()
        try:
            if not ready.poll(START_SECONDS):
                raise ArmProcessError(f"the process of arms did not begin within {START_SECONDS:g} s")
            ready.recv()
        except EOFError as error:
            raise ArmProcessError("the process of arms ended before it began") from error
        finally:
            ready.close()

    def _call(self, *words: Any) -> Any:
        try:
            connection = self._connected()
            connection.send(words)
            done, found = connection.recv()
        except (EOFError, OSError) as error:
            self._mine.at = None
            raise ArmProcessError("the process of arms has gone") from error
        if not done:
            raise ArmProcessError(found)
        return found

    def _connected(self) -> Connection:
        """Give this thread's connection to the process that lives now."""
        if getattr(self._mine, "at", None) != self._address:
            self._mine.connection = Client(self._address, "AF_UNIX", authkey=self._secret)
            self._mine.at = self._address
        found: Connection = self._mine.connection
        return found


def _run(origin: Origin, address: str, secret: bytes, told: Connection) -> None:
    """Serve arms until told to end, or until whoever asks is gone."""
    # Ctrl-C reaches every process of a terminal, and SIGTERM every one of a service; whoever began this one
    # ends it, after the requests in flight.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # One core is left to whoever asks; libraries read this when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - 1)))
    from armlift.serving.catalogue import Catalogue
    from armlift.store.database import open_database

    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), name="armlift-parent", daemon=True).start()
    lab = Lab(origin.folder, database=origin.database_url)
    engine = open_database(lab)
    with Listener(address, "AF_UNIX", authkey=secret) as listener, Catalogue(lab, engine) as catalogue:
        arms = Arms(lab, engine, filters=lambda: catalogue.filters)
        told.send(True)
        told.close()
        while True:
            connection = listener.accept()
            threading.Thread(
                target=_serve, args=(arms, connection), name="armlift-asked", daemon=True
            ).start()


def _serve(arms: Arms, connection: Connection) -> None:
    """Answer what one thread asks, one call after the other."""
    calls = {"prepare": arms.prepare, "answer": arms.answer}
    while True:
        try:
            name, *words = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, calls[name](*words))  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001  (whoever asked is told)
            logger.warning("arms: %s: %s", type(error).__name__, error)
            answer = (False, f"{type(error).__name__}: {error}")
        connection.send(answer)


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone."""
    while os.getppid() == parent:
        threading.Event().wait(0.5)
    os._exit(0)
