"""Snapshots: reports as they were given, with everything their numbers were computed from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from armlift.errors import InputError
from armlift.hashing import hash_of
from armlift.store.sink import insert_or
from armlift.store.tables import snapshots


class Snapshot(NamedTuple):
    """A row of `snapshots`; times are UTC milliseconds.

    `aggregates` holds {"run": ..., "timezone": ..., "answers": ...}, see `Answers`; `report` is the report's
    JSON document as it was first given.
    """

    id: str
    run: str
    experiment: str
    as_of: int
    created: int
    version: str
    definition_hash: str
    sql: str
    aggregates: Mapping[str, Any]
    report: Mapping[str, Any]


def identify(*, as_of: int, version: str, sql: str, aggregates: Mapping[str, Any]) -> str:
    """Name a snapshot by what its report rests on: 16 hexadecimal digits."""
    return hash_of({"as_of": as_of, "version": version, "sql": sql, "aggregates": aggregates})[:16]


def keep(connection: Connection, snapshot: Snapshot) -> None:
    """Store a snapshot; one that is there already stays as it is."""
    row = snapshot._asdict()
    connection.execute(insert_or(connection, snapshots).values(row).on_conflict_do_nothing())


def find(connection: Connection, identity: str) -> Snapshot | None:
    """Read one snapshot."""
    row = connection.execute(select(snapshots).where(snapshots.c.id == identity)).first()
    return Snapshot(*row) if row else None


def named(connection: Connection, identity: str, experiment: str | None = None) -> Snapshot:
    """Give the snapshot of this id, and of an experiment where one is named; raises InputError."""
    found = find(connection, identity)
    if found is None:
        raise InputError(
            f"--snapshot {identity!r} is not known; `armlift report {experiment or 'EXPERIMENT'}` makes one"
        )
    if experiment is not None and found.experiment != experiment:
        raise InputError(
            f"--snapshot {identity} is of experiment {found.experiment!r}, must be of {experiment!r}"
        )
    return found
