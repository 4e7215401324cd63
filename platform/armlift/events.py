"""Events, their identity, and their form on the wire.

One message carries the events of one request as msgspec JSON:

    {"schema": 1, "events": [{"type": "exposure", ...}, {"type": "impression", ...}, ...]}

A `request_id` is a UUIDv7 in hexadecimal: it begins with the request's time. An `event_id` begins with the
same time and hashes what happened, so that a redelivery or a client's retry is the same event, and all
events of a request live in the partition of its day.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from armlift.days import DAY_MS, utc_day, utc_text
from armlift.hashing import digest

SCHEMA = 1
Plain = dict[str, Any]
OLDER: Mapping[int, Callable[[Plain], Plain]] = {}
"""Earlier schemas, and how an event of each becomes one of today's, both as plain data; 1 is the first.

What comes out is checked as any event is, so a conversion need not; one that raises makes a bad event.
"""
IMPRESSION_KIND = "impression"
"""What metrics call an item shown; no feedback may bear this name."""

KINDS = (
    "click", "like", "follow", "comment", "forward", "hate",
    "long_view", "play", "profile_enter", "purchase", "rating",
)  # fmt: skip
"""The preset feedback kinds; `play` is in seconds, `rating` in its own scale, the rest count 1 each."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Identity = Annotated[str, Meta(min_length=32, max_length=32)]
"""32 hexadecimal digits; that they are digits is looked at for all events of a message at once."""
LATEST = 253_402_214_400_000 - 1
Millis = Annotated[int, Meta(ge=0, le=LATEST)]
"""UTC milliseconds before 9999-12-31: the last that have a day everywhere, and fit the 48 bits of an id."""
Count = Annotated[int, Meta(ge=0, lt=1 << 31)]


class Exposure(msgspec.Struct, frozen=True, tag="exposure", tag_field="type", forbid_unknown_fields=True):
    """An assigned unit meets its arm; the analysis counts from the first one of a unit."""

    event_id: Identity
    run: Name
    ts: Millis
    unit_id: Name
    experiment: Name
    generation: Count
    phase: Count
    arm: Name
    arm_version: Name
    forced: bool = False
    fallback: bool = False


class Impression(msgspec.Struct, frozen=True, tag="impression", tag_field="type", forbid_unknown_fields=True):
    """An item of a slate was shown at a position (0 is the first), recalled in a step (0 is the first)."""

    event_id: Identity
    run: Name
    ts: Millis
    request_id: Identity
    unit_id: Name
    arm: Name
    arm_version: Name
    item_id: Name
    position: Count
    step: Count
    score: float | None
    propensity: Annotated[float, Meta(gt=0, le=1)] | None
    fallback: bool = False


class Feedback(msgspec.Struct, frozen=True, tag="feedback", tag_field="type", forbid_unknown_fields=True):
    """A unit did something (kind, value) with an item; the n-th time has ordinal n, from 0."""

    event_id: Identity
    run: Name
    ts: Millis
    request_id: Identity
    unit_id: Name
    item_id: Name
    kind: Name
    value: float
    ordinal: Count = 0


class Alias(msgspec.Struct, frozen=True, tag="alias", tag_field="type", forbid_unknown_fields=True):
    """An anonymous id turns out to be a unit; from its first event on, what it did is the unit's."""

    event_id: Identity
    run: Name
    ts: Millis
    unit_id: Name
    anonymous_id: Name


Event = Exposure | Impression | Feedback | Alias

SMALLEST, LARGEST = 1e-100, 1e100
"""The size of values other than 0: their squares and the squares' sums must be numbers in every database."""
MOST_DAYS_AFTER, MOST_DAYS_BEFORE = 31, 1
"""How long after its request an impression or feedback may be, and before it, for clocks that differ."""
_MOST_AFTER, _MOST_BEFORE = MOST_DAYS_AFTER * DAY_MS, -MOST_DAYS_BEFORE * DAY_MS
REASON = 500
"""Characters of a reason that are kept; it may quote the event."""
_NUL = b"\\u0000"
_DIGITS = b"0123456789abcdef"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading bytes that nobody vouches for may raise; the last is for nesting without end."""


class _Message(msgspec.Struct):
    schema: int
    events: list[Event]


class _Envelope(msgspec.Struct):
    """A message whose events are not yet looked at; names of later schemas are let through."""

    schema: int
    events: list[msgspec.Raw]


class _Parts(msgspec.Struct):
    """An envelope read by a parser that lets more pass."""

    schema: int
    events: list[Any]


class BadEvent(NamedTuple):
    """One event that cannot be stored: its place in the message (-1: the message itself), why, its bytes.

    The bytes are those of the message; of one that is not strict JSON, the event's, written anew. `schema` is
    that of the message the event stood in, without which its bytes cannot be read again.
    """

    place: int
    reason: str
    raw: bytes
    schema: int | None = None


class Codec:
    """Encode and decode messages; not safe to share between threads.

    `older` are the earlier schemas that are still read.
    """

    def __init__(
        self, kinds: Sequence[str], *, older: Mapping[int, Callable[[Plain], Plain]] = OLDER
    ) -> None:
        self._kinds = frozenset(kinds)
        self._older = older
        self.oldest_day = 0
        """The first request day (days since 1970-01-01, UTC) whose impressions and feedback are taken in."""
        self._encoder = msgspec.json.Encoder()
        self._message = msgspec.json.Decoder(_Message)
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

    @property
    def schemas(self) -> list[int]:
        """List the schemas that are read, the oldest first."""
        return sorted({SCHEMA, *self._older})

    def encode(self, events: Sequence[Event]) -> bytes:
        """Write the events of one request as one message."""
        return self._encoder.encode({"schema": SCHEMA, "events": events})

    def decode(self, raw: bytes, latest: int = LATEST) -> tuple[list[Event], list[BadEvent]]:
        """Read a message; every event that is not valid is returned beside the good ones, with its reason.

        An event of a time after `latest` (UTC milliseconds) is not valid.
        """
        try:
            message = self._message.decode(raw)
        except _UNREADABLE:
            return self._decode_one_by_one(raw, latest)
        events = message.events
        if (
            message.schema != SCHEMA
            or _NUL in raw
            or "".join(map(_identities, events)).encode().translate(None, _DIGITS)
            or any(map(self.objection, events, repeat(latest)))
        ):
            return self._decode_one_by_one(raw, latest)
        return events, []

    def decode_event(
        self, raw: bytes, schema: int, place: int, latest: int = LATEST
    ) -> tuple[list[Event], list[BadEvent]]:
        """Read the bytes of one event that stood at `place` of a message; gives what `decode` gives of it."""
        read = self._unknown(schema) or self._read_event(raw, schema, latest)
        return ([], [BadEvent(place, read, raw, schema)]) if isinstance(read, str) else ([read], [])

    def objection(self, event: Event, latest: int = LATEST) -> str | None:
        """Say what is wrong with an event of the right form, or None.

        One of a time after `latest` (UTC milliseconds) is not valid.
        """
        if event.ts > latest:
            return f"ts {event.ts} is in the future, must be at most {latest}, a day after it arrived"
        if type(event) is Exposure:
            return None
        requested = request_time(event.event_id)
        if requested < self.oldest_day * DAY_MS:
            first = utc_text(self.oldest_day * DAY_MS)[:10]
            return f"its request is before {first} (UTC): retention has deleted its days"
        after = event.ts - requested
        if not _MOST_BEFORE <= after <= _MOST_AFTER:
            return (
                f"ts {event.ts} is {after / DAY_MS:.1f} days after the request that event_id tells, "
                f"must be -{MOST_DAYS_BEFORE} to {MOST_DAYS_AFTER}"
            )
        if type(event) is Feedback:
            if event.kind not in self._kinds:
                return f"kind {event.kind!r} is not declared in armlift.toml [kinds]"
            if event.value and not SMALLEST <= abs(event.value) <= LARGEST:
                return f"value {event.value!r}, must be 0 or {SMALLEST} to {LARGEST} in size"
        elif type(event) is Alias and event.anonymous_id == event.unit_id:
            return f"anonymous_id {event.anonymous_id!r} must not be the unit_id it is merged into"
        return None

    def _unknown(self, schema: int) -> str | None:
        """Say which schemas are read when this one is not, or None."""
        if schema in self.schemas:
            return None
        return _reason(f"schema must be {' or '.join(map(str, self.schemas))}, is {schema}")

    def _decode_one_by_one(self, raw: bytes, latest: int) -> tuple[list[Event], list[BadEvent]]:
        try:
            envelope = self._split(raw)
        except _UNREADABLE as error:
            return [], [BadEvent(-1, _reason(f"not a message: {error}"), raw)]
        if unknown := self._unknown(envelope.schema):
            return [], [BadEvent(-1, unknown, raw)]
        good: list[Event] = []
        bad: list[BadEvent] = []
        for index, part in enumerate(envelope.events):
            read = self._read_event(part, envelope.schema, latest)
            if isinstance(read, str):
                bad.append(BadEvent(index, read, bytes(part), envelope.schema))
            else:
                good.append(read)
        return good, bad

    def _read_event(self, part: bytes | msgspec.Raw, schema: int, latest: int) -> Event | str:
        """Read one event of a schema that is known, or say what is wrong with it."""
        try:
            event = self._event.decode(part) if schema == SCHEMA else self._convert(part, schema)
        except _UNREADABLE as error:
            return _reason(str(error))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            return _reason(f"cannot be read as schema {schema}: {error!r}")
        return _nul(event) or _no_identity(event) or self.objection(event, latest) or event

    def _convert(self, part: bytes | msgspec.Raw, schema: int) -> Event:
        plain = msgspec.json.decode(part)
        today = self._older[schema](plain) if isinstance(plain, dict) else plain
        event: Event = msgspec.convert(today, Event)
        return event

    def _split(self, raw: bytes) -> _Envelope:
        """Give the bytes of each event.

        NaN, or half of a surrogate pair, which clients do write, make the whole message unreadable to the
        strict parser; the lenient one tells whose fault it is.
        """
        try:
            return self._envelope.decode(raw)
        except _UNREADABLE as error:
            try:
                message = msgspec.convert(json.loads(raw.decode()), _Parts)
                parts = [msgspec.Raw(json.dumps(event).encode()) for event in message.events]
            except (ValueError, RecursionError):  # msgspec's errors are ValueErrors too
                raise error from None
            return _Envelope(message.schema, parts)


def _nul(event: Event) -> str | None:
    """Say which text holds a NUL, which PostgreSQL cannot store, or None."""
    for name, value in msgspec.structs.asdict(event).items():
        if isinstance(value, str) and "\0" in value:
            return f"{name} {value!r} holds a NUL"
    return None


def _identities(event: Event) -> str:
    """Give the names an event bears, one behind the other."""
    if type(event) is Impression or type(event) is Feedback:
        return event.event_id + event.request_id
    return event.event_id


def _no_identity(event: Event) -> str | None:
    """Say which name of an event is none, or None."""
    for name in ("event_id", "request_id"):
        value = getattr(event, name, "")
        if value.encode().translate(None, _DIGITS):
            return f"{name} {value!r}, must be 32 digits of 0-9 and a-f"
    return None


def _reason(text: str) -> str:
    return text[:REASON].replace("\0", "\\0")


def request_identity(ts: int, content: str) -> str:
    """Name a request: a UUIDv7 in hexadecimal whose random bits are a hash of `content`.

    `ts` is in UTC milliseconds. The same time and content give the same name.
    """
    bits = digest(content)
    variant = "89ab"[int(bits[3], 16) & 3]
    return f"{ts:012x}7{bits[:3]}{variant}{bits[4:19]}"


def event_identity(prefix: str, content: str) -> str:
    """Name an event: the 12 digits of its request's time, then 20 of the hash of what happened."""
    return prefix + digest(content)[:20]


def feedback_identity(request_id: str, item_id: str, kind: str, ordinal: int) -> str:
    """Name a feedback: the n-th of a kind on an item of a request is one event, however often it is sent."""
    return event_identity(request_id[:12], f"{request_id}|{item_id}|{kind}|{ordinal}")


def impression_identity(request_id: str, item_id: str) -> str:
    """Name an impression: an item of a request."""
    return event_identity(request_id[:12], f"{request_id}|{item_id}|{IMPRESSION_KIND}|0")


def exposure_identity(ts: int, run: str, unit_id: str, experiment: str, arm: str) -> str:
    """Name an exposure at a time (UTC milliseconds) of its request."""
    return event_identity(f"{ts:012x}", f"{run}|{unit_id}|{experiment}|{arm}|{ts}|exposure")


def alias_identity(ts: int, run: str, anonymous_id: str, unit_id: str) -> str:
    """Name an alias: a merge of an id into a unit at a time (UTC milliseconds)."""
    return event_identity(f"{ts:012x}", f"{run}|{anonymous_id}|{unit_id}|{ts}|alias")


def request_time(identity: str) -> int:
    """Read the request's time (UTC milliseconds) off a request's or an event's name."""
    return int(identity[:12], 16)


def request_day(identity: str) -> int:
    """Read the UTC day (days since 1970-01-01) off a request's or an event's name."""
    return utc_day(request_time(identity))


def happened(event: Event) -> list[tuple[str, int]]:
    """Give the ids an event names, each with when it happened (UTC milliseconds): then, or at its request."""
    at = min(event.ts, request_time(event.event_id))
    ids = (event.unit_id, event.anonymous_id) if type(event) is Alias else (event.unit_id,)
    return [(unit, at) for unit in ids]
