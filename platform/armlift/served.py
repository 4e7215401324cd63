"""Served arms: the promoted version of each arm answers; a newer one takes its place between two requests."""

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple

from sqlalchemy import Engine

from armlift.arm import Arm, new_arm
from armlift.artefacts import load_artefact
from armlift.errors import ArmliftError, InputError, StoreError
from armlift.lab import Lab
from armlift.promotions import EVERY_EXPERIMENT, history, promoted
from armlift.prompted import PromptReader, with_prompts
from armlift.refreshing import Refreshing, line_of
from armlift.store.database import DATABASE_ERRORS

CHECK_EVERY = 5.0
"""Seconds between two looks for a newer version."""
RETRY_AFTER = 60.0
"""Seconds after which a version that could not be loaded is tried again."""

OnFailure = Callable[[str, str], None]


class _Serving(NamedTuple):
    """What answers for an arm: itself, and where its prompts come from if it uses any."""

    arm: Arm
    reader: PromptReader | None


class ServedArms(Refreshing):
    """Gives the arms to answer with: for each, the version promoted for an experiment, else for every one.

    An arm stays in memory from its first use on. `refresh` loads what was promoted since and then puts it in
    place at once, so that whoever holds the earlier version answers with it to the end, and nobody waits. In
    a `with` block, or between `start` and `stop`, that is done every `check_every` seconds. A version that
    cannot be loaded takes nobody's place, and is tried again after `retry_after` seconds: `failures` holds
    its line, by arm, until that is mended, and `on_failure(arm, line)`, which must not raise, is called once
    for each. Several threads may share all of it.
    """

    def __init__(
        self,
        lab: Lab,
        engine: Engine,
        *,
        experiment: str | None = None,
        check_every: float = CHECK_EVERY,
        retry_after: float = RETRY_AFTER,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__("served", check_every)
        self._lab = lab
        self._engine = engine
        self._experiment = experiment
        self._retry_after = retry_after
        self._on_failure = on_failure
        self._url = lab.resolve(lab.settings.artefact_url)
        self._serving: dict[str, _Serving] = {}
        self._failures: dict[str, str] = {}
        self._again: dict[tuple[str, str], float] = {}
        self._loading = threading.Lock()
        self._telling = threading.Lock()

    @property
    def failures(self) -> Mapping[str, str]:
        """Say, by arm, why its newest version, or its prompts, could not be read."""
        return dict(self._failures)

    @property
    def versions(self) -> Mapping[str, str]:
        """Name the version of each arm in memory."""
        return {name: serving.arm.version for name, serving in [*self._serving.items()]}

    def arm(self, name: str) -> Arm:
        """Give the arm that answers now; ask again for every request, and hold it while one is answered.

        Its `version` is the promoted one. It fills in the stored prompts of requests that have none. Raises
        InputError at first use where no version is promoted, or none can be loaded; an arm for which nothing
        is done at night (`steps: []`) then answers by its definition.
        """
        found = self._serving.get(name)
        if found is None:
            with self._loading:
                found = self._serving.get(name) or self._first(name)
        return found.arm

    def refresh(self) -> dict[str, str]:
        """Put newer versions in place, and notice rewritten prompts; gives the new versions, by arm."""
        with self._loading:
            return {name: self.versions[name] for name in [*self._serving] if self._renew(name)}

    def forget_prompts(self) -> None:
        """Read prompts anew from the database from now on."""
        for serving in [*self._serving.values()]:
            if serving.reader is not None:
                serving.reader.forget()

    def _first(self, name: str) -> _Serving:
        """Load an arm that nobody asked for so far: its own version, else that of every experiment."""
        candidates = self._promoted(name)
        if not candidates:
            self._serving[name] = self._defined(name)
            return self._serving[name]
        for version in candidates:
            if not self._waits(name, version):
                try:
                    self._serving[name] = self._load(name, version)
                except ArmliftError as error:
                    self._fail(name, version, error)
                else:
                    return self._serving[name]
        raise InputError(self._failures[name])

    def _defined(self, name: str) -> _Serving:
        """Make an arm that is trained elsewhere of its definition."""
        if self._lab.nightly.of_arm(name).steps:
            raise self._unpromoted(name)
        return _Serving(new_arm(self._lab.arm(name)), None)

    def _unpromoted(self, name: str) -> InputError:
        """Say that nothing serves for an arm, and which command helps."""
        scopes = self._scopes()
        with self._engine.connect() as connection:
            rows = [row for row in history(connection, name) if row.scope in scopes]
        waiting = next((row for row in rows if row.state == "candidate"), None)
        if waiting is None:
            says = (
                f"`armlift train {name} --log FILE --until TIME` makes one, `armlift arm promote {name} "
                f"--version V` promotes it; `armlift nightly` does both"
            )
        else:
            scope = "" if waiting.scope == EVERY_EXPERIMENT else f" --scope {waiting.scope}"
            says = f"`armlift arm promote {name} --version {waiting.version}{scope}` promotes one"
        return InputError(f"arm {name}: has no promoted version in scope {' or '.join(scopes)}; {says}")

    def _renew(self, name: str) -> bool:
        """Put a newer version of an arm in place; tells whether there was one that could be loaded."""
        serving = self._serving[name]
        try:
            version = next(iter(self._promoted(name)), serving.arm.version)
            newer = version != serving.arm.version
            if newer and self._waits(name, version):
                return False
            if newer:
                self._serving[name] = self._load(name, version)
            elif serving.reader is not None:
                serving.reader.refresh()
        except ArmliftError as error:
            self._fail(name, version, error)
            return False
        except DATABASE_ERRORS as error:
            self._tell(name, error)
            return False
        self._mend(name)
        return newer

    def _promoted(self, name: str) -> list[str]:
        """Name the versions that may answer for an arm, the one that should first."""
        with self._engine.connect() as connection:
            rows = [promoted(connection, name, scope) for scope in self._scopes()]
        return [row.version for row in rows if row is not None]

    def _scopes(self) -> list[str]:
        own = [] if self._experiment is None else [self._experiment]
        return [*own, EVERY_EXPERIMENT]

    def _load(self, name: str, version: str) -> _Serving:
        try:
            arm, _ = load_artefact(self._url, name, version)
        except ArmliftError:
            raise
        except Exception as error:
            # Whatever a file system or a model raises, the version that serves goes on.
            raise StoreError(
                f"artefact {name}/{version} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if "prompts" not in arm.capabilities:
            return _Serving(arm, None)
        reader = PromptReader(
            self._engine,
            name,
            version,
            arm.config.history_kinds,
            on_error=lambda error: self._tell(name, error),
        )
        reader.refresh()
        return _Serving(with_prompts(arm, reader), reader)

    def _waits(self, name: str, version: str) -> bool:
        """Tell whether a version could not be loaded just now."""
        return monotonic() < self._again.get((name, version), 0.0)

    def _fail(self, name: str, version: str, error: ArmliftError) -> None:
        self._again[name, version] = monotonic() + self._retry_after
        self._tell(name, error)

    def _tell(self, name: str, error: Exception) -> None:
        line = line_of(error)
        with self._telling:
            news = self._failures.get(name) != line
            self._failures[name] = line
        if news and self._on_failure is not None:
            self._on_failure(name, line)

    def _mend(self, name: str) -> None:
        self._again = {key: at for key, at in self._again.items() if key[0] != name}
        with self._telling:
            self._failures.pop(name, None)
