"""Lineage: which data, code and definition made a version, and the versions it goes back to."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from armlift.artefacts import Manifest, read_manifest
from armlift.errors import InputError
from armlift.promotions import ModelRow, history
from armlift.store.tables import job_runs

PACKAGES = ("armlift", "numpy", "polars", "sqlalchemy", "torch")
"""Whose versions decide what a fit comes to, beside Python's."""


@cache
def code_versions() -> Mapping[str, str]:
    """Give the versions of Python and of the packages that decide what a fit comes to, where installed."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class JobRun(NamedTuple):
    """An attempt of a job that fitted a version; times are UTC milliseconds."""

    id: str
    job: str
    subject: str
    scope: str
    started: int
    ended: int | None
    inputs_hash: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    versions: Mapping[str, str]


class Origin(NamedTuple):
    """All that is known of how a version came to be.

    `rows` are its rows of `models`, one a scope, `jobs` the runs that fitted it, the oldest first. Without a
    `manifest`, `lost` says why it cannot be read.
    """

    arm: str
    version: str
    rows: Sequence[ModelRow]
    manifest: Manifest | None
    lost: str | None
    jobs: Sequence[JobRun]

    @property
    def parent(self) -> str | None:
        """Name the version that training went on from, None: from nothing."""
        if self.manifest is not None:
            return self.manifest.parent
        return next((row.parent for row in self.rows), None)


def lineage(connection: Connection, url: str, arm: str, version: str) -> list[Origin]:
    """Go from a version back over its parents to the one that began anew; artefacts lie under `url`.

    Of a parent that was removed little is known, and the way ends there. Raises InputError for a version of
    which neither a row nor an artefact is left.
    """
    rows = history(connection, arm)
    found = list(_origins(connection, url, arm, version, rows))
    if not found[0].rows and found[0].manifest is None:
        known = ", ".join(dict.fromkeys(row.version for row in rows)) or "none, as there is none"
        raise InputError(f"--version {version!r} is not one of arm {arm}, must be one of {known}")
    return found


def _origins(
    connection: Connection, url: str, arm: str, version: str, rows: Sequence[ModelRow]
) -> Iterator[Origin]:
    seen: set[str] = set()
    current: str | None = version
    # A fit that has nothing to learn may give the version it went on from.
    while current is not None and current not in seen:
        seen.add(current)
        origin = _origin(connection, url, arm, current, [row for row in rows if row.version == current])
        yield origin
        current = origin.parent


def _origin(connection: Connection, url: str, arm: str, version: str, rows: Sequence[ModelRow]) -> Origin:
    manifest, lost = None, None
    try:
        manifest = read_manifest(url, arm, version)
    except InputError as error:
        lost = str(error)
    return Origin(arm, version, rows, manifest, lost, _jobs(connection, arm, version))


def _jobs(connection: Connection, arm: str, version: str) -> list[JobRun]:
    j = job_runs.c
    fitted = (j.step == "retrain", j.status == "succeeded", j.arm == arm)
    columns = [j[name] for name in JobRun._fields]
    query = select(*columns).where(*fitted, j.outputs["candidate"].as_string() == version)
    return [JobRun(*row) for row in connection.execute(query.order_by(j.started, j.id))]
