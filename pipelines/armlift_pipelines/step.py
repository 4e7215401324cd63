"""A step of a night: what it needs, what it gives, and what it does."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Engine

from armlift.lab import Lab
from armlift_pipelines.dataset import DATASETS, DataSet

OF_DATA = ("dataset", "data_hash")
"""What tells one data set from another."""


class Context(NamedTuple):
    """Where a step works."""

    lab: Lab
    engine: Engine

    @property
    def url(self) -> str:
        """Give where artefacts are."""
        return self.lab.resolve(self.lab.settings.artefact_url)

    def data(self, name: str) -> DataSet:
        """Open a data set of the lab."""
        return DataSet(self.lab.folder / DATASETS / name)


Inputs = Mapping[str, Any]
Outputs = dict[str, Any]


class Step(NamedTuple):
    """A step: its name, the inputs it needs, the outputs it gives, and what it does."""

    name: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    do: Callable[[Context, Inputs], Outputs]
