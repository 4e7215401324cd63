"""API keys: who may ask `armlift serve`, and for what; only the hash of a key's secret is kept.

A key reads `armlift_ID_SECRET`: 12 hexadecimal digits that name it, and 32 random bytes as 43 url-safe
characters. The hash is a plain sha256. Slow hashes, as passwords need them, make guessing dear where there is
little to guess; 256 random bits cannot be guessed at any speed, and a fast hash costs a request nothing.
"""

import re
import secrets
from collections.abc import Collection, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import ColumnElement, Connection, Engine, and_, or_, select, update

from armlift.decisions import check_by, log
from armlift.errors import InputError
from armlift.refreshing import Refreshing, line_of
from armlift.store.database import DATABASE_ERRORS
from armlift.store.sink import insert_or
from armlift.store.tables import api_keys

Scope = Literal["recommend", "assignments", "events", "items", "experiments", "metrics", "simulate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a key may open; `simulate` lets its holder name times and runs of its own."""
GRACE = "24h"
"""How long a key stays valid after its rotation, unless told otherwise."""
REFRESH_SECONDS = 5.0
"""Seconds between two looks for new and revoked keys: so long a revoked key may still be taken."""
_FORM = re.compile(r"armlift_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ID = re.compile(r"[0-9a-f]{12}")


class Key(NamedTuple):
    """A key that opens something now; `expires` (UTC ms) is when it ends, None: never."""

    id: str
    name: str
    scopes: frozenset[str]
    expires: int | None


class StoredKey(NamedTuple):
    """A row of `api_keys`; times are UTC ms, and `revoked` may lie ahead where a newer key took its place."""

    id: str
    name: str
    hash: str
    scopes: tuple[str, ...]
    created: int
    by: str
    expires: int | None
    revoked: int | None

    @property
    def ends(self) -> int | None:
        """When it opens nothing any more; None: never."""
        return min((at for at in (self.expires, self.revoked) if at is not None), default=None)

    def state(self, now: int) -> Literal["valid", "replaced", "expired", "revoked"]:
        """Say how it stands; one that is `replaced` is valid until it `ends`."""
        if self.ends is None or now < self.ends:
            return "valid" if self.revoked is None else "replaced"
        return "expired" if self.revoked is None or self.expires == self.ends else "revoked"

    def summary(self) -> dict[str, Any]:
        """Say what may be told of it: all but its hash."""
        told = {name: value for name, value in self._asdict().items() if name != "hash"}
        return {**told, "scopes": list(self.scopes)}


class NewKey(NamedTuple):
    """A key that was just made, and its text, which nobody can read later."""

    key: StoredKey
    text: str


def create(
    connection: Connection,
    name: str,
    scopes: Collection[str],
    *,
    by: str,
    at: int,
    expires: int | None = None,
) -> NewKey:
    """Make a key; raises InputError for a bad name or scope, and where a key of this name is still valid."""
    check_by(by)
    if not _NAME.fullmatch(name) or _ID.fullmatch(name):
        raise InputError(
            f"key name {name!r}: must be 1 to 63 lower-case letters, digits, _ and -, the first no _ or -, "
            "and not 12 hexadecimal digits, as ids are"
        )
    made = _insert(connection, name, _checked(scopes), by=by, at=at, expires=expires)
    _log(connection, "create", name, by, at, {"created": made.key.summary()})
    return made


def rotate(connection: Connection, name: str, *, by: str, at: int, grace: int) -> NewKey:
    """Make a new key of a name, with the same scopes and as long a life as the one before had.

    Keys of the name from before end `grace` milliseconds later; 0: at once. Raises InputError where there
    is no key of this name, or it was revoked.
    """
    check_by(by)
    current = _read(connection, and_(api_keys.c.name == name, api_keys.c.revoked.is_(None)))
    if not current:
        raise _unknown(connection, name)
    (old,) = current
    ended = _end(connection, api_keys.c.name == name, at, at + grace)
    expires = None if old.expires is None else at + old.expires - old.created
    made = _insert(connection, name, old.scopes, by=by, at=at, expires=expires)
    details = {"created": made.key.summary(), "ended": [one.summary() for one in ended]}
    _log(connection, "rotate", name, by, at, details)
    return made


def revoke(connection: Connection, which: str, *, by: str, at: int) -> list[StoredKey]:
    """End a key by its id, or all keys of a name; gives those that ended.

    Raises InputError where there are none that have not ended.
    """
    check_by(by)
    ended = _end(connection, or_(api_keys.c.name == which, api_keys.c.id == which), at, at)
    if not ended:
        raise _unknown(connection, which)
    _log(connection, "revoke", ended[0].name, by, at, {"ended": [one.summary() for one in ended]})
    return ended


def stored(connection: Connection) -> list[StoredKey]:
    """Read all keys there ever were, by name, the oldest first."""
    return _read(connection)


def hash_of_secret(secret: str) -> str:
    """Hash the secret part of a key: 64 hexadecimal digits."""
    return sha256(secret.encode()).hexdigest()


def _checked(scopes: Collection[str]) -> tuple[str, ...]:
    """Put scopes in their order."""
    for one in scopes:
        if one not in SCOPES:
            raise InputError(f"scope {one!r}: must be one of {', '.join(SCOPES)}")
    if not scopes:
        raise InputError(f"scopes: are none, must be at least one of {', '.join(SCOPES)}")
    return tuple(one for one in SCOPES if one in scopes)


def _insert(
    connection: Connection, name: str, scopes: tuple[str, ...], *, by: str, at: int, expires: int | None
) -> NewKey:
    # One that expired is no longer the current one of its name.
    gone = (api_keys.c.name == name, api_keys.c.revoked.is_(None), api_keys.c.expires <= at)
    connection.execute(update(api_keys).where(*gone).values(revoked=api_keys.c.expires))
    secret = secrets.token_urlsafe(32)
    key = StoredKey(secrets.token_hex(6), name, hash_of_secret(secret), scopes, at, by, expires, None)
    # The index lets one current key of a name in, whoever makes another at the same time.
    row = {**key._asdict(), "scopes": list(scopes)}
    made = insert_or(connection, api_keys).values(row).on_conflict_do_nothing()
    if connection.execute(made.returning(api_keys.c.id)).first() is None:
        raise InputError(
            f"key {name}: is there already, must be another name; `armlift keys rotate {name}` gives it a "
            "new secret"
        )
    return NewKey(key, f"armlift_{key.id}_{secret}")


def _end(connection: Connection, which: ColumnElement[bool], at: int, ends: int) -> list[StoredKey]:
    """Let the keys that are valid end at a time, unless they end earlier; gives them as they are now."""
    k = api_keys.c
    valid = (or_(k.revoked.is_(None), k.revoked > ends), or_(k.expires.is_(None), k.expires > at))
    ids = [one.id for one in _read(connection, which, *valid)]
    connection.execute(update(api_keys).where(k.id.in_(ids)).values(revoked=ends))
    return _read(connection, k.id.in_(ids))


def _unknown(connection: Connection, which: str) -> InputError:
    """Say that no key goes by a name or id that could be changed."""
    known = _read(connection, or_(api_keys.c.name == which, api_keys.c.id == which))
    if known:
        return InputError(f"key {which}: has ended, must be valid; `armlift keys create` makes another")
    names = sorted({one.name for one in _read(connection, api_keys.c.revoked.is_(None))})
    return InputError(f"key {which!r} is not known, must be one of {', '.join(names) or 'none'}")


def _log(
    connection: Connection, action: str, name: str, by: str, at: int, details: Mapping[str, object]
) -> None:
    log(connection, at=at, by=by, action=action, subject=f"key/{name}", details=details)


def _read(connection: Connection, *conditions: ColumnElement[bool]) -> list[StoredKey]:
    query = select(api_keys).where(*conditions).order_by(api_keys.c.name, api_keys.c.created, api_keys.c.id)
    rows = (StoredKey(*row) for row in connection.execute(query))
    return [row._replace(scopes=tuple(row.scopes)) for row in rows]


class KeyRing(Refreshing):
    """Finds the key that somebody shows, in memory.

    In a `with` block, or between `start` and `stop`, keys are read at once and then every `seconds` seconds,
    by a thread of its own: a revoked key ends within that time. While the database is away the ring keeps
    what it knew, and `failure` says why. Several threads may share it.
    """

    def __init__(self, engine: Engine, seconds: float = REFRESH_SECONDS) -> None:
        super().__init__("keys", seconds)
        self._engine = engine
        self._keys: Mapping[str, StoredKey] = {}
        self.failure: str | None = None
        """Why keys could not be read lately; None where they could."""

    def find(self, presented: str, now: int) -> Key | None:
        """Give the key of a text like `armlift_ID_SECRET` that is valid at a time (UTC ms), else None."""
        form = _FORM.fullmatch(presented)
        found = self._keys.get(form[1]) if form else None
        if form is None or found is None or not compare_digest(hash_of_secret(form[2]), found.hash):
            return None
        if found.ends is not None and found.ends <= now:
            return None
        return Key(found.id, found.name, frozenset(found.scopes), found.ends)

    def knows(self, presented: str) -> bool:
        """Tell whether a text names a key that was read, or can be none; else a `refresh` may find it."""
        form = _FORM.fullmatch(presented)
        return form is None or form[1] in self._keys

    def refresh(self) -> None:
        """Read the keys; what was known stays where the database does not answer."""
        try:
            with self._engine.connect() as connection:
                self._keys = {key.id: key for key in stored(connection)}
        except DATABASE_ERRORS as error:
            self.failure = line_of(error)
        else:
            self.failure = None
