"""Random numbers of simulated users: counted, not drawn in turn.

A number is named by (seed, user, occasion, purpose), so that a user meets the same luck under every arm,
whatever was asked before, and blocks of users can be simulated in any order.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from armlift.hashing import MASK, Keys, mix, mix_many, uniforms

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_STEP = 0x9E3779B97F4A7C15


class Purpose(IntEnum):
    """What a number is drawn for."""

    SESSIONS_OF_USER = 0
    ROWS_OF_USER = 1
    READINESS = 2
    TASTE = 3
    SESSIONS = 4
    START = 5
    MINUTE = 6
    TAB = 7
    DRIFT = 8
    DRIFTED = 9
    CATEGORY = 10
    VIDEO = 11
    CLICK = 12
    LONG_VIEW = 13
    PLAY = 14
    ACTION = 15
    EVOLUTION = 16
    LEAVE = 17
    PAUSE = 18


def keys_of_users(seed: int, first: int, count: int) -> Keys:
    """Give the keys of users `first`, `first` + 1, ...: uint64 [count]."""
    salt = np.uint64(mix((seed + _STEP) & MASK))
    return mix_many(np.arange(first, first + count, dtype=np.uint64) * np.uint64(_STEP) ^ salt)


def occasion(day: int, session: int = 0, page: int = 0, slot: int = 0) -> int:
    """Number an occasion; days may be negative, down to -1,000; slots, pages and sessions below 1,024."""
    return (((day + 1_000) << 10 | session) << 10 | page) << 10 | slot


def draw(keys: Keys, purpose: Purpose, when: int = 0) -> Floats:
    """Draw one number in [0, 1) for each user key [n], on one occasion for one purpose."""
    return uniforms(keys ^ np.uint64(mix(when << 6 | purpose)))


def draw_slots(keys: Keys, purpose: Purpose, when: int, slots: int) -> Floats:
    """Draw for each user key [n] and each of the occasions from `when` on: float64 [n, slots]."""
    salts = np.array([mix((when + slot) << 6 | purpose) for slot in range(slots)], dtype=np.uint64)
    return uniforms(keys[:, None] ^ salts)
