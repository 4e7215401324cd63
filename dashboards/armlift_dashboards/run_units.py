"""Units of a run: whom there is to look at, and what one of them did, by bounded look-ups."""

import string
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Select, select

from armlift.aliases import merged_into
from armlift.arm import Behaviour
from armlift.hashing import key_of, uniforms
from armlift.runs import Run
from armlift.store.tables import aliases, exposures, feedback, runs

ALPHABETS = (string.digits, string.digits + "abcdef", string.digits + string.ascii_letters)
"""What ids are told apart by, the fewest characters first."""
_PLACES = 12
_LONGEST = 200


class Unit(NamedTuple):
    """A unit of a run: its id, the one that was asked for, and its first exposure in the experiment, if any.

    `history` is what it did, oldest first; `ts` of the exposure is in UTC milliseconds.
    """

    unit: str
    asked: str
    arm: str | None
    ts: int | None
    history: Sequence[Behaviour]

    @property
    def known(self) -> bool:
        """Tell whether anything is known of it."""
        return self.arm is not None or bool(self.history)


class Met(NamedTuple):
    """An item that a unit met: when first (UTC milliseconds), and what it did with it."""

    item: str
    ts: int
    did: Sequence[str]


def runs_of(connection: Connection) -> list[Run]:
    """Read all runs, the newest first."""
    return [Run(*row) for row in connection.execute(select(runs).order_by(runs.c.number.desc()))]


def label_of(run: Run) -> str:
    """Name a run for people; no two runs have the same name."""
    return f"{run.experiment}, {run.mode}, run {run.number}"


def find_unit(connection: Connection, run: Run, asked: str, limit: int) -> Unit:
    """Read what is known of a unit: its last `limit` behaviours, those of ids merged into it too."""
    if "\0" in asked or len(asked) > _LONGEST:
        return Unit(asked, asked, None, None, ())
    a, e, f = aliases.c, exposures.c, feedback.c
    into = select(a.unit_id).where(a.run == run.run, a.anonymous_id == asked).order_by(a.ts, a.unit_id)
    unit = connection.execute(into.limit(1)).scalar() or asked
    naming = select(a.anonymous_id).distinct().where(a.run == run.run, a.unit_id == unit)
    merged = connection.execute(naming.where(merged_into(a.run, a.anonymous_id) == unit)).scalars()
    ids = [unit, *merged]
    met = select(e.arm, e.ts).where(
        e.run == run.run, e.experiment == run.experiment, e.unit_id.in_(ids)
    )  # fmt: skip
    first = connection.execute(met.order_by(e.ts, e.arm).limit(1)).first()
    did = select(f.item_id, f.kind, f.value, f.ts).where(f.run == run.run, f.unit_id.in_(ids))
    latest = did.order_by(f.ts.desc(), f.item_id.desc(), f.kind.desc(), f.value.desc()).limit(limit)
    history = [Behaviour(*row) for row in connection.execute(latest)][::-1]
    arm, ts = (None, None) if first is None else (first.arm, first.ts)
    return Unit(unit, asked, arm, ts, history)


def met_items(history: Iterable[Behaviour], kinds: Container[str] | None = None) -> list[Met]:
    """Put what a unit did with one item in a row together, oldest first.

    With `kinds`, only items that the unit did something of these kinds with.
    """
    found = []
    for item, group in groupby(history, key=lambda one: one.item):
        did = list(group)
        if kinds is not None and not any(one.kind in kinds for one in did):
            continue
        found.append(Met(item, did[0].ts, list(dict.fromkeys(_did(one) for one in did))))
    return found


def _did(one: Behaviour) -> str:
    if one.kind == "play":
        return f"play {one.value:,.0f} s"
    return one.kind if one.value == 1.0 else f"{one.kind} {one.value:g}"


def examples(connection: Connection, run: Run, count: int) -> list[str]:
    """Name some units of an experiment, spread over all of them; each costs one look-up in the index."""
    shares = [(place + 0.5) / count for place in range(count)]
    return list(dict.fromkeys(_at_shares(connection, run, shares)))


def sampled(connection: Connection, run: Run, seed: int, most: int) -> Iterator[str]:
    """Draw units of an experiment, at most so often; the same seed draws the same ones, each once.

    The draw is even where ids are numbers or hashes; where they are words, some come more easily.
    """
    keys = np.arange(most, dtype=np.uint64) ^ np.uint64(key_of(f"{seed}|{run.run}|{run.experiment}"))
    seen: set[str] = set()
    for unit in _at_shares(connection, run, uniforms(keys).tolist()):
        if unit not in seen:
            seen.add(unit)
            yield unit


def _at_shares(connection: Connection, run: Run, shares: Iterable[float]) -> Iterator[str]:
    """Give the unit at each share of the way from the lowest id to the highest."""
    e = exposures.c
    ids = select(e.unit_id).where(e.run == run.run, e.experiment == run.experiment)
    low = connection.execute(ids.order_by(e.unit_id).limit(1)).scalar()
    high = connection.execute(ids.order_by(e.unit_id.desc()).limit(1)).scalar()
    if low is None or high is None:
        return
    for share in shares:
        yield _next(connection, ids, between(low, high, share)) or high


def _next(connection: Connection, ids: Select[Any], least: str) -> str | None:
    u = exposures.c.unit_id
    found: str | None = connection.execute(ids.where(u >= least).order_by(u).limit(1)).scalar()
    return found


def between(low: str, high: str, share: float) -> str:
    """Give a text at a share of the way between two others, read as numbers of the fewest characters."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    prefix = low[:same]
    ends = [end[len(prefix) :][:_PLACES] for end in (low, high)]
    alphabet = next((one for one in ALPHABETS if set("".join(ends)) <= set(one)), ALPHABETS[-1])
    order = sorted(alphabet)
    first, last = (_number(end, order) for end in ends)
    number, written = first + round(share * (last - first)), ""
    for _ in range(_PLACES):
        number, place = divmod(number, len(order))
        written = order[place] + written
    return prefix + written


def _number(text: str, order: Sequence[str]) -> int:
    """Read the first places of a text as a number whose digits are in `order`; others count as the next."""
    number = 0
    for place in range(_PLACES):
        digit = sum(one < text[place] for one in order) if place < len(text) else 0
        number = number * len(order) + min(digit, len(order) - 1)
    return number
