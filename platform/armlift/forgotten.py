"""Forgotten units: whose rows were erased, known again by a keyed hash of their ids, which are kept nowhere.

The hash is an HMAC-SHA256 with a random secret of the lab. Who has the table can tell whether an id that he
already knows was forgotten, which is what ingest must do; he cannot read ids off it, and without the secret
not even that. What happened up to an erasure is never taken in again; who comes back later is a new unit.
"""

import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Self

from sqlalchemy import Connection, func, select, text, update

from armlift.store.sink import insert_or
from armlift.store.tables import forgotten

LOCK = 0x61726D70
"""PostgreSQL's advisory lock: shared by those who write what units did, held alone to forget one."""
SECRET_BYTES = 32
Hash = bytes


class Erased(NamedTuple):
    """The last erasure of an id: its row's number, and up to when (UTC ms) nothing is taken in again."""

    number: int
    at: int


_time = attrgetter("at")


def last(erasures: Iterable[Erased]) -> Erased | None:
    """Give the last of some erasures."""
    return max(erasures, key=_time, default=None)


class Record(NamedTuple):
    """What is kept of an erasure of one id: hexadecimal secret and hash, when (UTC ms) and by whom."""

    secret: str
    unit: str
    at: int
    by: str


class Forgotten:
    """The forgotten units of a database, as far as one thread read them; others may ask meanwhile."""

    def __init__(self) -> None:
        self._seen = 0
        self._known: dict[bytes, dict[Hash, Erased]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def refresh(self, connection: Connection) -> Self:
        """Read what came since the last call."""
        f = forgotten.c
        fresh = select(f.number, f.secret, f.unit, f.at).where(f.number > self._seen).order_by(f.number)
        for number, secret, unit, at in connection.execute(fresh):
            known = self._known.setdefault(bytes.fromhex(secret), {})
            one, hashed = Erased(number, at), bytes.fromhex(unit)
            known[hashed] = max(known.get(hashed, one), one, key=_time)
            self._seen = number
        return self

    def of(self, unit: str) -> Erased | None:
        """Give the last erasure of an id, None where there was none."""
        found = (known.get(hash_of_unit(secret, unit)) for secret, known in self._known.items())
        return last(one for one in found if one is not None)

    def covers(self, unit: str, at: int) -> bool:
        """Tell whether what happened to an id at a time (UTC ms) was erased."""
        erased = self.of(unit) if self else None
        return erased is not None and at <= erased.at

    def among(self, units: Iterable[str]) -> dict[str, Erased]:
        """Give those of some ids that were forgotten, and their last erasure."""
        if not self:
            return {}
        return {unit: one for unit in units if (one := self.of(unit))}


def writing_units(connection: Connection, known: Forgotten | None = None) -> Forgotten:
    """Give the forgotten units to a transaction that is about to write what units did.

    Until it ends no unit is forgotten, so that none comes in between. `known` is read on.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({LOCK})"))
    return (Forgotten() if known is None else known).refresh(connection)


def records_of(units: Collection[str], *, secret: str, at: int, by: str) -> list[Record]:
    """Make the records of ids that are forgotten at a time (UTC ms)."""
    key = bytes.fromhex(secret)
    return [Record(secret, hash_of_unit(key, unit).hex(), at, by) for unit in units]


def secret_of(connection: Connection) -> str | None:
    """Give the secret that ids of this database are hashed with, None where none was ever forgotten."""
    return connection.scalar(select(forgotten.c.secret).order_by(forgotten.c.number.desc()).limit(1))


def new_secret() -> str:
    """Draw a secret: 64 hexadecimal digits."""
    return secrets.token_hex(SECRET_BYTES)


def write(connection: Connection, records: Iterable[Record]) -> int:
    """Store records; waits for those who write what units did. Gives how many were not there."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    new = 0
    for one in records:
        row = one._asdict() | {"erased": None, "counts": {}, "dropped": 0}
        made = insert_or(connection, forgotten).values(row).on_conflict_do_nothing()
        new += connection.execute(made).rowcount
    return new


def all_records(connection: Connection) -> list[Record]:
    """Read all records, in their order."""
    f = forgotten.c
    asked = select(f.secret, f.unit, f.at, f.by).order_by(f.number)
    return [Record(*row) for row in connection.execute(asked)]


def finish(connection: Connection, records: Sequence[Record], *, at: int, counts: Mapping[str, int]) -> None:
    """Note that all was erased of the ids of some records; the first of these bears how much that was."""
    f = forgotten.c
    for one in records:
        same = (f.secret == one.secret, f.unit == one.unit, f.erased.is_(None))
        connection.execute(update(forgotten).where(*same).values(erased=at))
    if counts:
        first = records[0]
        here = (f.secret == first.secret, f.unit == first.unit, f.at == first.at)
        connection.execute(update(forgotten).where(*here).values(counts=dict(counts)))


def count_dropped(connection: Connection, dropped: Mapping[int, int]) -> None:
    """Count events that came after an erasure, by the number of its row."""
    for number, events in sorted(dropped.items()):
        here = forgotten.c.number == number
        connection.execute(update(forgotten).where(here).values(dropped=forgotten.c.dropped + events))


def dropped_events(connection: Connection) -> int:
    """Count the events of forgotten units that came and were not taken in, repeats included."""
    return int(connection.scalar(select(func.coalesce(func.sum(forgotten.c.dropped), 0))) or 0)


def progress(connection: Connection) -> tuple[int | None, int | None]:
    """Tell how far forgetting has come: another answer than before means that rows of units may have gone."""
    newest, done = func.max(forgotten.c.number), func.max(forgotten.c.erased)
    number, erased = connection.execute(select(newest, done)).one()
    return number, erased


def erased_since(connection: Connection, since: int) -> int:
    """Count the ids that were forgotten at a time (UTC ms) or later."""
    asked = select(func.count()).select_from(forgotten).where(forgotten.c.at >= since)
    return connection.execute(asked).scalar_one()


def hash_of_unit(secret: bytes, unit: str) -> Hash:
    """Hash an id: 32 bytes."""
    return hmac.digest(secret, unit.encode(), "sha256")
