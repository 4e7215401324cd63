"""Passwords: kept as argon2 hashes, checked in the same time whether a name is known or not."""

import secrets
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LEAST = 12
"""Characters that a password needs."""
FREE, FREE_IN_ALL = 5, 50
"""Failures that cost no time: of a name, and of all names together."""
LONGEST = 60.0
"""Seconds to wait at most."""
FORGOTTEN = 900.0
"""Seconds after which failures no longer count."""
MOST_NAMES = 10_000
_HASHER = PasswordHasher()


def hash_of(password: str) -> str:
    """Hash a password by argon2id, with a salt of its own."""
    return _HASHER.hash(password)


@cache
def _nobody() -> str:
    return hash_of(secrets.token_hex(16))


def right(hashes: Mapping[str, str], name: str, password: str) -> bool:
    """Tell whether a password is a name's; for a name that is not known the same work is done."""
    known = hashes.get(name)
    try:
        return _HASHER.verify(known or _nobody(), password) and known is not None
    except (VerificationError, InvalidHashError):
        return False


class _Failures(NamedTuple):
    times: int
    last: float


class Attempts:
    """Failed attempts to sign in, in this process's memory: each one beyond some makes all wait longer.

    Times are seconds of any clock that goes on. Names that nobody has are held to the same as others.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._failures: dict[str, _Failures] = {}
        self._in_all = _Failures(0, 0.0)

    def wait(self, name: str, now: float) -> float:
        """Give the seconds until a name may be tried again, 0 where it may be now."""
        mine = _left(self._failures.get(name, _Failures(0, 0.0)), FREE, now)
        return max(mine, _left(self._in_all, FREE_IN_ALL, now))

    def failed(self, name: str, now: float) -> None:
        """Count a failure."""
        self._in_all = _more(self._in_all, now)
        self._failures[name] = _more(self._failures.pop(name, _Failures(0, 0.0)), now)
        while len(self._failures) > MOST_NAMES:
            del self._failures[next(iter(self._failures))]

    def passed(self, name: str) -> None:
        """Forget a name's failures."""
        self._failures.pop(name, None)


def _more(before: _Failures, now: float) -> _Failures:
    return _Failures(1 + (0 if now - before.last > FORGOTTEN else before.times), now)


def _left(found: _Failures, free: int, now: float) -> float:
    """Give the seconds left of a wait, which doubles with each failure: 1, 2, 4, ... to LONGEST."""
    if found.times < free or now - found.last > FORGOTTEN:
        return 0.0
    return max(0.0, found.last + min(LONGEST, 2.0 ** min(10, found.times - free)) - now)
