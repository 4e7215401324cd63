"""Loaded versions: the arms in memory, each once however many serve it, until nobody does."""

import threading
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary

from sqlalchemy import Engine

from armlift.arm import Arm
from armlift.artefacts import load_artefact
from armlift.errors import ArmliftError, StoreError
from armlift.prompted import PromptReader, with_prompts


class Listener(Protocol):
    """Who serves a version."""

    def tell(self, name: str, error: Exception) -> None:
        """Hear of an arm's prompts that cannot be read; must not raise."""


class Loaded:
    """A version in memory: its arm, and where its prompts come from if it uses any."""

    def __init__(self, arm: Arm, reader: PromptReader | None, listeners: WeakSet[Listener]) -> None:
        self.arm, self.reader, self.listeners = arm, reader, listeners


class LoadedVersions:
    """Loads versions from `url`, each once for all who hold it at a time; several threads may share them."""

    def __init__(self, url: str, engine: Engine) -> None:
        self._url, self._engine = url, engine
        self._lock = threading.Lock()
        self._loaded: WeakValueDictionary[tuple[str, str], Loaded] = WeakValueDictionary()

    def get(self, name: str, version: str, listener: Listener) -> Loaded:
        """Give a version of an arm; it stays in memory while somebody holds what this gives.

        `listener` is told, while it lives, of prompts that cannot be read. Raises ArmliftError for a version
        that cannot be loaded, and what the database raises.
        """
        with self._lock:
            found = self._loaded.get((name, version))
            if found is None:
                found = self._loaded[name, version] = self._load(name, version)
        found.listeners.add(listener)
        return found

    def __len__(self) -> int:
        return len(self._loaded)

    def _load(self, name: str, version: str) -> Loaded:
        try:
            arm, _ = load_artefact(self._url, name, version)
        except ArmliftError:
            raise
        except Exception as error:
            # Whatever a file system or a model raises, the version that serves goes on.
            raise StoreError(
                f"artefact {name}/{version} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        listeners: WeakSet[Listener] = WeakSet()
        if "prompts" not in arm.capabilities:
            return Loaded(arm, None, listeners)

        def failed(error: Exception) -> None:
            for listener in [*listeners]:
                listener.tell(name, error)

        reader = PromptReader(self._engine, name, version, arm.config.history_kinds, on_error=failed)
        reader.refresh()
        return Loaded(with_prompts(arm, reader), reader, listeners)
