"""Prompted arms: requests that bring no prompts get those that are stored for their units."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Mapping, Sequence

from sqlalchemy import Engine

from armlift.arm import Arm, Request, Slate
from armlift.forgotten import progress
from armlift.prompts import StoredPrompt, last_written, of_units, placed
from armlift.store.database import DATABASE_ERRORS

UNITS = 10_000
"""Units whose prompts are kept in memory."""

Prompts = Sequence[StoredPrompt]


class PromptReader:
    """Fills requests with the prompts that a version of an arm stored, one query for those of a batch.

    The units that asked last are kept in memory, at most `most`, also those that have no prompts. Where the
    database fails, `on_error` is told and requests stay as they are: a model then generates what it needs.
    """

    def __init__(
        self,
        engine: Engine,
        arm: str,
        version: str,
        kinds: Container[str],
        *,
        on_error: Callable[[Exception], None],
        most: int = UNITS,
    ) -> None:
        self._engine = engine
        self._arm, self._version, self._kinds = arm, version, kinds
        self._on_error, self._most = on_error, most
        self._memory = _Memory(most)
        self._standing: object = None
        self._none = False

    def fill(self, requests: Sequence[Request]) -> list[Request]:
        """Give the requests, those without prompts with the stored ones, placed in the history they bring."""
        known = self._read(dict.fromkeys(request.unit for request in requests if request.prompts is None))
        return [
            request._replace(prompts=placed(known[request.unit], request.history, self._kinds))
            if request.prompts is None and known.get(request.unit)
            else request
            for request in requests
        ]

    def forget(self) -> None:
        """Read everything anew from now on."""
        # What a request in flight still reads goes into the memory it began with.
        self._memory = _Memory(self._most)
        self._none = False

    def refresh(self) -> None:
        """Forget what was read if prompts were written, or units forgotten, since the last call.

        Where none were ever written, nobody is looked for until the next call.
        """
        with self._engine.connect() as connection:
            written = last_written(connection, self._arm, self._version)
            standing = (written, progress(connection))
        if standing != self._standing:
            self._standing = standing
            self.forget()
        self._none = written is None

    def _read(self, units: Collection[str]) -> Mapping[str, Prompts]:
        if self._none:
            return {}
        memory = self._memory
        known = memory.get(units)
        missing = [unit for unit in units if unit not in known]
        if missing:
            try:
                with self._engine.connect() as connection:
                    found = of_units(connection, self._arm, self._version, missing)
            except DATABASE_ERRORS as error:
                self._on_error(error)
                return known
            memory.put(found)
            known.update(found)
        return known


class _Memory:
    """The prompts of the units that were asked for last; used by several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Prompts] = OrderedDict()

    def get(self, units: Collection[str]) -> dict[str, Prompts]:
        with self._lock:
            found = {unit: self._kept[unit] for unit in units if unit in self._kept}
            for unit in found:
                self._kept.move_to_end(unit)
        return found

    def put(self, found: Mapping[str, Prompts]) -> None:
        with self._lock:
            self._kept.update(found)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def with_prompts(arm: Arm, reader: PromptReader) -> Arm:
    """Let an arm fill requests by `reader` before it answers; gives the arm itself."""
    kind = type(arm)
    own = vars(arm).pop("recommend", None)

    class Prompted(kind):  # type: ignore[valid-type, misc]
        def recommend(self, requests: Sequence[Request]) -> list[Slate]:
            filled = reader.fill(requests)
            found: list[Slate] = kind.recommend(self, filled) if own is None else own(filled)
            return found

    Prompted.__name__, Prompted.__qualname__ = kind.__name__, kind.__qualname__
    # A class of its own, not a method of the instance: that would hold the instance, and so its weights.
    arm.__class__ = Prompted
    return arm
