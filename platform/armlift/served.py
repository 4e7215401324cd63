"""Served arms: the promoted version of each arm answers; a newer one takes its place between two requests."""

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from weakref import WeakSet

from sqlalchemy import Engine

from armlift.arm import Arm, new_arm
from armlift.errors import ArmliftError, InputError
from armlift.lab import Lab
from armlift.loaded import Loaded, LoadedVersions
from armlift.promotions import EVERY_EXPERIMENT, history, promoted
from armlift.refreshing import Refreshing, line_of
from armlift.store.database import DATABASE_ERRORS

CHECK_EVERY = 5.0
"""Seconds between two looks for a newer version."""
RETRY_AFTER = 60.0
"""Seconds after which a version that could not be loaded is tried again."""

OnFailure = Callable[[str, str], None]


class ServedArms(Refreshing):
    """Gives the arms to answer with: for each, the version promoted for an experiment, else for every one.

    An arm stays in memory from its first use on. `refresh` loads what was promoted since and then puts it in
    place at once, so that whoever holds the earlier version answers with it to the end, and nobody waits. In
    a `with` block, or between `start` and `stop`, that is done every `check_every` seconds. A version that
    cannot be loaded takes nobody's place, and is tried again after `retry_after` seconds: `failures` holds
    its line, by arm, until that is mended, and `on_failure(arm, line)`, which must not raise, is called once
    for each. Those of one process that share `versions` hold each version once. Several threads may share
    all of it.
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
        versions: LoadedVersions | None = None,
    ) -> None:
        super().__init__("served", check_every)
        self._lab = lab
        self._engine = engine
        self._experiment = experiment
        self._retry_after = retry_after
        self._on_failure = on_failure
        url = lab.resolve(lab.settings.artefact_url)
        self._versions = LoadedVersions(url, engine) if versions is None else versions
        self._serving: dict[str, Loaded] = {}
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

    def _first(self, name: str) -> Loaded:
        """Load an arm that nobody asked for so far: its own version, else that of every experiment."""
        candidates = self._promoted(name)
        if not candidates:
            self._serving[name] = self._defined(name)
            return self._serving[name]
        for version in candidates:
            if not self._waits(name, version):
                try:
                    self._serving[name] = self._versions.get(name, version, self)
                except ArmliftError as error:
                    self._fail(name, version, error)
                else:
                    return self._serving[name]
        raise InputError(self._failures[name])

    def _defined(self, name: str) -> Loaded:
        """Make an arm that is trained elsewhere of its definition."""
        if self._lab.nightly.of_arm(name).steps:
            raise self._unpromoted(name)
        return Loaded(new_arm(self._lab.arm(name)), None, WeakSet())

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
                self._serving[name] = self._versions.get(name, version, self)
            elif serving.reader is not None:
                serving.reader.refresh()
        except ArmliftError as error:
            self._fail(name, version, error)
            return False
        except DATABASE_ERRORS as error:
            self.tell(name, error)
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

    def _waits(self, name: str, version: str) -> bool:
        """Tell whether a version could not be loaded just now."""
        return monotonic() < self._again.get((name, version), 0.0)

    def _fail(self, name: str, version: str, error: ArmliftError) -> None:
        self._again[name, version] = monotonic() + self._retry_after
        self.tell(name, error)

    def tell(self, name: str, error: Exception) -> None:
        """Note why an arm's version, or its prompts, cannot be read."""
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
