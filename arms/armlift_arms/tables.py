"""What arms share whose weights are tables over a catalogue: configuration, version, saving, loading."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

import numpy as np

from armlift.arm import ArmConfig, History, ItemTable, Request, Slate
from armlift.artefacts import (
    Tensors,
    model_bytes,
    pack_strings,
    read_weights,
    unpack_strings,
    version_of,
    write_weights,
)

Config = TypeVar("Config", bound=ArmConfig)


class TableArm(ABC, Generic[Config]):
    """An arm that answers each request from tensors it keeps; a new one has an empty catalogue.

    A model names its `config_class`, fits by handing its tensors to `_learn`, and reads them in `_read`.
    """

    config_class: ClassVar[type[ArmConfig]]

    def __init__(self, config: Config) -> None:
        if not isinstance(config, self.config_class):
            raise TypeError(f"config is {type(config).__name__}, must be {self.config_class.__name__}")
        self.config = config
        self.fit([], ItemTable([]), until=0)

    @abstractmethod
    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        """Learn from behaviours before `until` (UTC milliseconds); `warm` is not used."""

    @abstractmethod
    def _answer(self, request: Request) -> Slate:
        """Answer one request."""

    @abstractmethod
    def _read(self, ids: list[str], tensors: Tensors) -> None:
        """Answer from now on by these tensors, over the catalogue `ids`."""

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Answer requests, one slate each, in their order."""
        return [self._answer(request) for request in requests]

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in an existing folder."""
        write_weights(folder, self.config, self._tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that `save` wrote; raises InputError where it cannot."""
        config, tensors = read_weights(folder, cls.config_class)
        arm = cls(config)  # type: ignore[arg-type]  # of config_class, as __init__ checks
        arm._use(tensors)
        return arm

    def _learn(self, items: ItemTable, until: int, tensors: Tensors) -> None:
        """Take over what was fitted on a catalogue.

        The cut is part of the weights, so that equal tensors of two cuts are two versions.
        """
        item_bytes, item_offsets = pack_strings(items.ids)
        cut = np.array([until], dtype=np.int64)
        self._use({"item_bytes": item_bytes, "item_offsets": item_offsets, "until": cut, **tensors})

    def _use(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._read(unpack_strings(tensors["item_bytes"], tensors["item_offsets"]), tensors)
        self.version = version_of(self.config, model_bytes(self.config, tensors))
