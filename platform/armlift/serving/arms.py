"""The arms that answer: promoted versions by experiment, loaded before anybody asks, behind the filters."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.arm import Request, Slate
from armlift.errors import ArmliftError
from armlift.lab import Lab
from armlift.loaded import LoadedVersions
from armlift.refreshing import line_of
from armlift.served import ServedArms
from armlift.serving.filters import Filters
from armlift.store.database import DATABASE_ERRORS

logger = logging.getLogger("armlift.serve")
Key = tuple[str | None, str]
"""An experiment, None where there is none, and an arm."""


class Served(NamedTuple):
    """What an arm answered: its version, the slate, and how many items each rule took from it."""

    version: str
    slate: Slate
    removed: Mapping[str, int]


class Standing(NamedTuple):
    """How arms stand: the version of each, why one that is wanted cannot answer, and what else is amiss."""

    versions: Mapping[Key, str]
    missing: Mapping[Key, str]
    failures: Mapping[str, str]


class Arms:
    """Arms by experiment, swapped between two batches; several threads may share them.

    A version that several experiments serve is in memory once. `filters` gives the rules in force.
    """

    def __init__(self, lab: Lab, engine: Engine, *, filters: Callable[[], Filters]) -> None:
        self._lab, self._engine, self._filters = lab, engine, filters
        self._versions = LoadedVersions(lab.resolve(lab.settings.artefact_url), engine)
        self._served: dict[str | None, ServedArms] = {}
        self._making = threading.Lock()

    def prepare(self, wanted: Sequence[Key]) -> Standing:
        """Load the arms that are wanted and not there, and say how they stand."""
        versions: dict[Key, str] = {}
        missing: dict[Key, str] = {}
        for key in wanted:
            try:
                versions[key] = self._of(key[0]).arm(key[1]).version
            except (ArmliftError, *DATABASE_ERRORS) as error:
                missing[key] = line_of(error)
        failures = {name: line for one in [*self._served.values()] for name, line in one.failures.items()}
        return Standing(versions, missing, failures)

    def answer(self, key: Key, requests: Sequence[Request]) -> list[Served]:
        """Answer a batch by one version of an arm; raises what it, or its loading, raises."""
        arm = self._of(key[0]).arm(key[1])
        filters = self._filters()
        found = []
        for request, first in zip(requests, arm.recommend(requests), strict=True):

            def ask(k: int, request: Request = request, first: Slate = first) -> Slate:
                return first if k == request.k else arm.recommend([request._replace(k=k)])[0]

            filtered = filters.apply(ask, request.k, request.attributes or {})
            found.append(Served(arm.version, filtered.slate, filtered.removed))
        return found

    def close(self) -> None:
        """Look for newer versions no more."""
        for served in self._served.values():
            served.stop()

    def _of(self, experiment: str | None) -> ServedArms:
        with self._making:
            if experiment not in self._served:
                served = ServedArms(
                    self._lab,
                    self._engine,
                    experiment=experiment,
                    on_failure=_failed,
                    versions=self._versions,
                )
                served.start()
                self._served[experiment] = served
            return self._served[experiment]


def _failed(arm: str, line: str) -> None:
    logger.warning("arm %s: its newest version cannot serve: %s", arm, line)
