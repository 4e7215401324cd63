"""Training sets, and held-out items: what arms are fitted and evaluated on, whatever file it comes from."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from armlift.arm import History, ItemTable, Request

DEEPEST = 20
"""The length of the slates asked for."""


class Asked(NamedTuple):
    """A request that stands for one unit, with the item it should bring."""

    request: Request
    target: str


class TrainingSet(Protocol):
    """What arms are fitted on: `data_hash` names it, and its behaviours are before `until`."""

    @property
    def items(self) -> ItemTable:
        """Give the catalogue."""
        ...

    @property
    def until(self) -> int:
        """Give the cut: UTC milliseconds, or positions where the data have no times."""
        ...

    @property
    def data_hash(self) -> str:
        """Hash all that arms are fitted on."""
        ...

    def histories(self) -> Iterator[History]:
        """Give each unit's behaviours, oldest first; the same ones each time."""
        ...


class HeldOut(TrainingSet, Protocol):
    """Data of which an item a unit is held out: arms are fitted on the rest, then asked for it."""

    @property
    def file_hash(self) -> str:
        """Give the sha256 of the file or files."""
        ...

    @property
    def split(self) -> str:
        """Name what is held out."""
        ...

    @property
    def tested(self) -> int:
        """Count the units that are asked for."""
        ...

    @property
    def skipped(self) -> int:
        """Count the units that are not, as they are too short."""
        ...

    def asked(self) -> Iterator[Asked]:
        """Make the request of each unit that is tested; the same ones each time, in one order."""
        ...
