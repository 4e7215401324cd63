"""Stored prompts: what a version said to units at night, and where it belongs in their history of today."""

from collections import defaultdict
from collections.abc import Collection, Container, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select

from armlift.arm import Behaviour, Prompt
from armlift.forgotten import writing_units
from armlift.hashing import hash_of
from armlift.store.sink import insert_new
from armlift.store.tables import prompts

TOGETHER = 500
"""Units named in one statement."""
MANY = 10_000
"""Rows written at once after which PostgreSQL is to count anew."""


class StoredPrompt(NamedTuple):
    """An item a model said to a unit, in answer to a behaviour: on item `answered`, at `ts` (UTC ms).

    `position` is where that behaviour stood in the history the model was told; `step` counts the prompts to
    it from 0.
    """

    position: int
    step: int
    item: str
    score: float
    answered: str
    ts: int


class Told(NamedTuple):
    """What a model said to one unit, and the hash of the history it was told (see `history_hash`)."""

    history_hash: str
    prompts: Sequence[StoredPrompt]


def history_hash(behaviours: Sequence[Behaviour]) -> str:
    """Hash a history: 32 hexadecimal digits."""
    return hash_of([list(behaviour) for behaviour in behaviours])


def told(prompts: Sequence[Prompt], history: Sequence[Behaviour]) -> Told:
    """Make what is stored of the prompts of a slate, and of the history of its request."""
    found = [
        StoredPrompt(one.position, one.step, one.item, one.score, *_place(history[one.position]))
        for one in prompts
    ]
    return Told(history_hash(history), found)


def write(connection: Connection, arm: str, version: str, units: Mapping[str, Told], *, written: int) -> None:
    """Store what a version said to units, in place of all it said to them before.

    `written` (UTC milliseconds) must be later than that of earlier calls: by it, readers notice. Calls for
    many units are the fastest. Answers to what units did before they were forgotten are left out.
    """
    forgotten = writing_units(connection)
    for names in _chunks(list(units)):
        here = (prompts.c.arm == arm, prompts.c.version == version, prompts.c.unit_id.in_(names))
        connection.execute(delete(prompts).where(*here))
    rows = [
        (arm, version, unit, *one, said.history_hash, written)
        for unit, said in units.items()
        for one in said.prompts
        if not forgotten.covers(unit, one.ts)
    ]
    insert_new(connection, prompts, rows)
    if len(rows) >= MANY and connection.dialect.name == "postgresql":
        # Else, until autovacuum comes, it takes a version for rare, and reads all of it for a few units.
        connection.exec_driver_sql(f"ANALYZE {prompts.name} (arm, version, unit_id)")


def of_units(
    connection: Connection, arm: str, version: str, units: Collection[str]
) -> dict[str, list[StoredPrompt]]:
    """Read what a version said to units, by position and step; of a unit without prompts an empty list."""
    found: dict[str, list[StoredPrompt]] = {unit: [] for unit in units}
    p = prompts.c
    columns = (p.unit_id, p.position, p.step, p.item_id, p.score, p.answered, p.ts)
    for names in _chunks(list(found)):
        query = select(*columns).where(p.arm == arm, p.version == version, p.unit_id.in_(names))
        for unit, *rest in connection.execute(query.order_by(p.unit_id, p.position, p.step)):
            found[unit].append(StoredPrompt(*rest))
    return found


def last_written(connection: Connection, arm: str, version: str) -> int | None:
    """Tell when prompts of a version were last written; None where there are none."""
    here = (prompts.c.arm == arm, prompts.c.version == version)
    return connection.execute(select(func.max(prompts.c.written)).where(*here)).scalar()


def delete_but(connection: Connection, arm: str, keep_versions: Collection[str]) -> int:
    """Delete an arm's prompts but those of some versions; tells how many."""
    gone = (prompts.c.arm == arm, prompts.c.version.not_in(list(keep_versions)))
    return connection.execute(delete(prompts).where(*gone)).rowcount


def placed(
    stored: Sequence[StoredPrompt], history: Sequence[Behaviour], kinds: Container[str]
) -> list[Prompt]:
    """Lay stored prompts out for the history a request has now: one that grew, or lost its oldest part.

    `kinds` are the arm's `history_kinds`. A behaviour is known again by its item and time, and its position
    is that of the first of the behaviours on one item, of these kinds, that follow each other: the one that
    arms answer. Prompts to what is no longer there are left out. Where several on one item have the same time
    with others between them, the latest of then is the latest of now; those that are more now repeat the
    first, as an arm that does not know what lies between sees the first alone.
    """
    said: dict[tuple[str, int], dict[int, list[StoredPrompt]]] = defaultdict(lambda: defaultdict(list))
    for one in stored:
        said[one.answered, one.ts][one.position].append(one)
    found: list[Prompt] = []
    for key, positions in _first_of_runs(history, kinds).items():
        if key not in said:
            continue
        turns = [said[key][position] for position in sorted(said[key], reverse=True)]
        for number, position in enumerate(reversed(positions)):
            turn = turns[min(number, len(turns) - 1)]
            found += [Prompt(position, one.step, one.item, one.score, True) for one in turn]
    return sorted(found)


def _first_of_runs(history: Sequence[Behaviour], kinds: Container[str]) -> dict[tuple[str, int], list[int]]:
    """Give the positions of behaviours of some kinds that are not on the item of the one before, by place.

    An arm that does not know some of the items sees fewer, never others.
    """
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    last = None
    for position, behaviour in enumerate(history):
        if behaviour.kind in kinds and behaviour.item != last:
            last = behaviour.item
            found[_place(behaviour)].append(position)
    return found


def _place(behaviour: Behaviour) -> tuple[str, int]:
    return behaviour.item, behaviour.ts


def _chunks(units: Sequence[str]) -> list[Sequence[str]]:
    return [units[start : start + TOGETHER] for start in range(0, len(units), TOGETHER)]
