"""The arms an API answers with: promoted versions, each behind a micro-batcher."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.arm import Request, Slate
from armlift.errors import ArmliftError
from armlift.lab import Lab
from armlift.served import ServedArms
from armlift.serving.batching import Batcher
from armlift.serving.figures import ServeFigures
from armlift.serving.filters import Filters
from armlift.store.database import DATABASE_ERRORS

MOST = 32
"""Requests an arm answers together at most."""
PREPARE_EVERY = 1.0
"""Seconds between two looks for arms to load."""
Key = tuple[str | None, str]
"""An experiment, None where there is none, and an arm."""


class Served(NamedTuple):
    """What an arm answered: its version, the slate, and how many items each rule took from it."""

    version: str
    slate: Slate
    removed: Mapping[str, int]


class Arms:
    """Arms by experiment; they are loaded before anybody asks, and swapped between two batches.

    `wanted` names those to have ready, `filters` gives the rules in force. Made and asked on one event loop.
    """

    def __init__(
        self,
        lab: Lab,
        engine: Engine,
        *,
        wanted: Callable[[], Sequence[Key]],
        filters: Callable[[], Filters],
        figures: ServeFigures,
    ) -> None:
        self._lab, self._engine = lab, engine
        self._wanted, self._filters, self._figures = wanted, filters, figures
        self._served: dict[str | None, ServedArms] = {}
        self._batchers: dict[Key, Batcher[Request, Served]] = {}
        self._making = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="armlift-arms", daemon=True)
        self.missing: Mapping[Key, str] = {}
        """Why an arm that is wanted cannot answer."""

    def start(self) -> None:
        """Load what is wanted, and go on looking for more."""
        self._load()
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._stopped.set()
        for batcher in self._batchers.values():
            batcher.close()
        if self._thread.is_alive():
            self._thread.join()
        for served in self._served.values():
            served.stop()

    @property
    def failures(self) -> dict[str, str]:
        """Say, by arm, why its newest version or its prompts could not be read."""
        return {name: line for served in [*self._served.values()] for name, line in served.failures.items()}

    def version(self, key: Key) -> str | None:
        """Name the version that answers; None where none is loaded."""
        served = self._served.get(key[0])
        return None if served is None else served.versions.get(key[1])

    async def ask(self, key: Key, request: Request, seconds: float) -> Served:
        """Let an arm answer; raises TimeoutError, BusyError, or what the arm or its loading raises."""
        batcher = self._batchers.get(key)
        if batcher is None:
            arm = key[1]

            def told(size: int, seconds: float) -> None:
                self._figures.batches.labels(arm).observe(size)
                self._figures.arm_seconds.labels(arm).observe(seconds)

            batcher = Batcher(f"arm-{arm}", lambda batch: self._answer(key, batch), most=MOST, on_batch=told)
            self._batchers[key] = batcher
        return await batcher.ask(request, seconds)

    def _answer(self, key: Key, requests: Sequence[Request]) -> list[Served]:
        """Answer a batch by one version of an arm."""
        arm = self._of(key[0]).arm(key[1])
        filters = self._filters()
        found = []
        for request, first in zip(requests, arm.recommend(requests), strict=True):

            def ask(k: int, request: Request = request, first: Slate = first) -> Slate:
                return first if k == request.k else arm.recommend([request._replace(k=k)])[0]

            attributes = request.attributes or {}
            filtered = filters.apply(ask, request.k, attributes)
            found.append(Served(arm.version, filtered.slate, filtered.removed))
        return found

    def _of(self, experiment: str | None) -> ServedArms:
        with self._making:
            if experiment not in self._served:
                served = ServedArms(self._lab, self._engine, experiment=experiment)
                served.start()
                self._served[experiment] = served
            return self._served[experiment]

    def _prepare(self) -> None:
        while not self._stopped.wait(PREPARE_EVERY):
            self._load()

    def _load(self) -> None:
        """Load the arms that are wanted and not there."""
        missing: dict[Key, str] = {}
        for key in self._wanted():
            try:
                self._of(key[0]).arm(key[1])
            except (ArmliftError, *DATABASE_ERRORS) as error:
                missing[key] = " ".join(str(error).split())
        self.missing = missing
