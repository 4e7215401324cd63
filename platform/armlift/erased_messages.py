"""Messages without the events of some units, each as long as it was."""

from collections.abc import Callable
from typing import Any

import msgspec

from armlift.events import request_time
from armlift.naming import names_in
from armlift.streams.blanking import Pieces, padded

Covers = Callable[[str, int], bool]
"""Tells whether what happened to an id at a time (UTC ms) is to go; at 0, whether anything of it is."""
EMPTY = b'{"schema":1,"events":[]}'


class _Message(msgspec.Struct):
    schema: int
    events: list[msgspec.Raw]


_read = msgspec.json.Decoder(_Message).decode


def without_units(covers: Covers) -> Callable[[bytes, bytes], Pieces | None]:
    """Give what takes the place of a message (key, value), None where it stays: see `Blank`."""

    def blank(key: bytes, value: bytes) -> Pieces | None:
        try:
            message = _read(value)
        except (msgspec.DecodeError, RecursionError):
            ours, named = covers(key.decode(errors="replace"), 0), _named(value, covers)
            left = padded(EMPTY, len(value)) if named else value
            return (b"-" * len(key) if ours else key, left) if ours or named else None
        kept = [part for part in message.events if not _covered(bytes(part), covers)]
        if len(kept) == len(message.events):
            return None
        written = b'{"schema":%d,"events":[%s]}' % (message.schema, b",".join(map(bytes, kept)))
        return key if kept else b"-" * len(key), padded(written, len(value))

    return blank


def _covered(part: bytes, covers: Covers) -> bool:
    """Tell whether an event is to go: by its units and when it happened, where that can be told."""
    try:
        event: dict[str, Any] = msgspec.json.decode(part, type=dict[str, Any])
        at = min(int(event["ts"]), request_time(event["event_id"]))
        units = [event[name] for name in ("unit_id", "anonymous_id") if name in event]
        return any(covers(str(unit), at) for unit in units)
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, ValueError):
        return _named(part, covers)


def _named(raw: bytes, covers: Covers) -> bool:
    return any(covers(name, 0) for name in names_in(raw))
