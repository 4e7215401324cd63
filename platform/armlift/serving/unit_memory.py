"""The memory of units: what was read of them and what was told of them since, bounded.

An entry is of one id. What was told of an id stays with it until it is found in what was read, so that it is
seen whatever is read, when, and as whose. What was read is of a unit, and stands with the entry of its name;
the entries of ids that were merged into it are looked at with it. Not safe to share between threads.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from armlift.serving.unit_rows import Did, Merge, Met, Stored

YOUNG_SECONDS = 60.0
"""An event that was told so lately may not be in the database yet."""
Key = tuple[str, str]
"""A run, and an id of it."""
NOTHING: Mapping[str, Met] = {}

_encode = msgspec.msgpack.Encoder().encode
_told: msgspec.msgpack.Decoder[list[Did]] = msgspec.msgpack.Decoder(list[Did])
_stored: msgspec.msgpack.Decoder[Stored] = msgspec.msgpack.Decoder(Stored)


def pack(stored: Stored) -> bytes:
    """Write what is stored of a unit as compact bytes; a history takes a tenth of what its tuples would."""
    return _encode(stored)


class Parts(NamedTuple):
    """All that is known of a unit: what was read, and what was told of each id that counts as it."""

    unit: str
    read: bytes
    told: Sequence[bytes]
    met: Sequence[Mapping[str, Met]]

    def join(self, limit: int) -> Stored:
        """Give what was read with what was told; where both have an event, as it was read."""
        stored = _stored.decode(self.read)
        did, met = stored.did, stored.met
        if any(self.told):
            events = {one.event: one for some in self.told if some for one in _told.decode(some)}
            events.update((one.event, one) for one in did)
            did = sorted(events.values())[-limit:]
        for some in self.met:
            met = earliest(met, some)
        return Stored(stored.ids, did, met, stored.attributes)


class Lost(NamedTuple):
    """Entries that made room for others, and how many of them held what may not be stored yet."""

    evicted: int
    evicted_young: int


class _Entry:
    __slots__ = ("heard", "ids", "into", "met", "read", "told")

    def __init__(self) -> None:
        self.told = b""
        self.met = NOTHING
        self.into: tuple[int, str] | None = None
        self.heard = 0.0
        self.read: bytes | None = None
        self.ids: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Tell whether it holds what was told."""
        return bool(self.told or self.met or self.into)

    def settle(self, events: Container[bytes]) -> None:
        """Let go of behaviours that were told and are in the database."""
        if self.told:
            left = [one for one in _told.decode(self.told) if one.event not in events]
            self.told = _encode(left) if left else b""


class UnitMemory:
    """Entries of at most `most` ids, those used last; `limit` behaviours of each, `clock` in seconds."""

    def __init__(self, limit: int, most: int, clock: Callable[[], float]) -> None:
        self._limit, self._most, self._clock = limit, most, clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._units: dict[Key, Key] = {}
        """The unit that an id of another name counts as, while what was read of that unit is here."""
        self._named: defaultdict[Key, set[str]] = defaultdict(set)
        """The ids that were told to be merged into a unit."""
        self.lost = Lost(0, 0)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key) -> Parts | None:
        """Give what is known of the unit that an id counts as; None where that was not read."""
        unit = self._units.get(key, key)
        entry = self._entries.get(unit)
        if entry is None or entry.read is None or key[1] not in entry.ids:
            return None
        return self.around(unit, entry.ids, entry.read)

    def around(self, unit: Key, ids: Iterable[str], read: bytes) -> Parts:
        """Put what was read of a unit together with what was told of its ids, and count all that as used."""
        entries = [self._entries[key] for key in self._here(unit[0], ids)]
        for key in (*self._here(unit[0], ids), unit):
            if key in self._entries:
                self._entries.move_to_end(key)
        return Parts(unit[1], read, [one.told for one in entries], [one.met for one in entries])

    def tell(self, key: Key, did: Sequence[Did], met: Mapping[str, Met]) -> None:
        """Note what an id did and met; what is known already changes nothing."""
        entry = self._entry(key)
        if did:
            events = {one.event: one for one in _told.decode(entry.told)} if entry.told else {}
            for one in did:
                events.setdefault(one.event, one)
            entry.told = _encode(sorted(events.values())[-self._limit :])
        entry.met = earliest(entry.met, met)
        entry.heard = self._clock()
        self.trim()

    def merge(self, run: str, told: Merge) -> bool:
        """Note that an id was merged into a unit; what was read of both is forgotten. False for old news."""
        key, into = (run, told.anonymous_id), (told.ts, told.unit_id)
        entry = self._entry(key)
        entry.heard = self._clock()
        news = entry.into is None or into < entry.into
        if news:
            self._set_into(key, entry, into)
            for one in (key, (run, told.unit_id)):
                self._forget(self._units.get(one, one))
                self._forget(one)
        self.trim()
        return news

    def merges(self, run: str, ids: Iterable[str]) -> Iterator[Merge]:
        """Give the merges that were told of some ids, and into them."""
        for one in ids:
            for anonymous in {one, *self._named.get((run, one), ())}:
                entry = self._entries.get((run, anonymous))
                if entry is not None and entry.into is not None:
                    yield Merge(anonymous, *entry.into)

    def keep(self, unit: Key, stored: Stored, read: bytes, *, settle: bool) -> None:
        """Keep what was read of a unit, unless there is such already.

        With `settle`, behaviours that were told and are in it are no longer kept apart. Call `trim` after the
        last unit.
        """
        entry = self._entry(unit)
        if entry.read is not None:
            return
        for one in stored.ids:
            self._claim((unit[0], one), unit)
        entry.read, entry.ids = read, stored.ids
        if settle:
            events = {did.event for did in stored.did}
            for key in self._here(unit[0], stored.ids):
                self._entries[key].settle(events)

    def trim(self) -> None:
        """Let go of those used longest ago."""
        while len(self._entries) > self._most:
            key, entry = self._entries.popitem(last=False)
            young = entry.partial and entry.heard > self._clock() - YOUNG_SECONDS
            self.lost = Lost(self.lost.evicted + 1, self.lost.evicted_young + young)
            self._unlink(key, entry)
            # The unit it counts as would be seen without what was told of it.
            if key in self._units:
                self._forget(self._units[key])
            self._set_into(key, entry, None)

    def keys(self) -> list[Key]:
        """Name the ids that entries are of."""
        return list(self._entries)

    def erase(self, key: Key, at: int) -> None:
        """Forget what was read of an id, and what it was told to do up to a time (UTC milliseconds)."""
        for one in (self._units.get(key, key), key):
            self._forget(one)
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.told:
            left = [one for one in _told.decode(entry.told) if one.ts > at]
            entry.told = _encode(left) if left else b""
        entry.met = {name: met for name, met in entry.met.items() if met.ts > at}
        if entry.into is not None and entry.into[0] <= at:
            self._set_into(key, entry, None)
        if not entry.partial:
            del self._entries[key]

    def forget_read(self) -> None:
        """Forget all that was read, and keep what was told."""
        self._units.clear()
        told = [(key, entry) for key, entry in self._entries.items() if entry.partial]
        self._entries = OrderedDict(told)
        for _, entry in told:
            entry.read, entry.ids = None, ()

    def _entry(self, key: Key) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
        else:
            self._entries.move_to_end(key)
        return entry

    def _here(self, run: str, ids: Iterable[str]) -> list[Key]:
        return [(run, one) for one in ids if (run, one) in self._entries]

    def _claim(self, key: Key, unit: Key) -> None:
        """Let an id count as a unit; what was read before it did is forgotten."""
        before = self._units.get(key, key)
        entry = self._entries.get(before)
        if before != unit and entry is not None and key[1] in entry.ids:
            self._forget(before)
        if key != unit:
            self._units[key] = unit

    def _forget(self, unit: Key) -> None:
        """Forget what was read of a unit."""
        entry = self._entries.get(unit)
        if entry is not None and entry.read is not None:
            self._unlink(unit, entry)
            entry.read, entry.ids = None, ()

    def _unlink(self, unit: Key, entry: _Entry) -> None:
        for one in entry.ids:
            if self._units.get((unit[0], one)) == unit:
                del self._units[unit[0], one]

    def _set_into(self, key: Key, entry: _Entry, into: tuple[int, str] | None) -> None:
        if entry.into is not None:
            before = (key[0], entry.into[1])
            self._named[before].discard(key[1])
            if not self._named[before]:
                del self._named[before]
        if into is not None:
            self._named[key[0], into[1]].add(key[1])
        entry.into = into


def earliest(some: Mapping[str, Met], others: Mapping[str, Met]) -> dict[str, Met]:
    """Give the first exposure of each experiment."""
    return {**some, **{name: min(met, some.get(name, met)) for name, met in others.items()}}
