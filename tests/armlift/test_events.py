"""Events: their identities, and a codec that never lets one bad event harm another."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.days import Calendar
from armlift.events import (
    IMPRESSION_KIND,
    KINDS,
    LARGEST,
    REASON,
    SMALLEST,
    Alias,
    BadEvent,
    Codec,
    Event,
    Exposure,
    Feedback,
    Impression,
    Plain,
    alias_identity,
    event_identity,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_day,
    request_identity,
    request_time,
)

DAY_MS = 86_400_000
END = 253_402_214_400_000
"""9999-12-31 in UTC milliseconds."""
REQUEST = request_identity(1_650_000_000_123, "r1|u1")

times = st.integers(0, END - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)
identities = st.text("0123456789abcdef", min_size=32, max_size=32)
counts = st.integers(0, 2**31 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.just(0.0) | st.floats(SMALLEST, LARGEST) | st.floats(-LARGEST, -SMALLEST)
head = {"event_id": identities, "run": texts, "ts": times, "unit_id": texts}
exposures = st.builds(
    Exposure, **head, experiment=texts, generation=counts, phase=counts, arm=texts, arm_version=texts
)
impressions = st.builds(
    Impression,
    **head,
    request_id=identities,
    arm=texts,
    arm_version=texts,
    item_id=texts,
    position=counts,
    step=counts,
    score=st.none() | finite,
    propensity=st.none() | st.floats(0, 1, exclude_min=True),
    fallback=st.booleans(),
)
feedback = st.builds(
    Feedback,
    **head,
    request_id=identities,
    item_id=texts,
    kind=st.sampled_from(KINDS),
    value=values,
    ordinal=counts,
)


def near(event: Event) -> Event:
    """Name the event as one of a request at its time."""
    return msgspec.structs.replace(event, event_id=f"{event.ts:012x}" + event.event_id[12:])


aliases = st.builds(Alias, **head, anonymous_id=texts).filter(lambda one: one.anonymous_id != one.unit_id)
events = st.lists(st.one_of(exposures, impressions, feedback, aliases).map(near), max_size=4)
TIME = 1_650_000_000_123
MINE = f"{TIME:012x}" + "0" * 20
"""The name of an event of a request at `TIME`."""


def good(form: str = "feedback", **changed: Any) -> dict[str, Any]:
    """Give a valid event as plain data, with some of its fields changed."""
    fields: dict[str, Any] = {
        "type": form,
        "event_id": MINE,
        "run": "r1",
        "ts": TIME,
        "unit_id": "u1",
    }
    if form == "exposure":
        fields |= {"experiment": "demo", "generation": 0, "phase": 0, "arm": "a", "arm_version": "1"}
    elif form == "alias":
        fields |= {"anonymous_id": "device"}
    else:
        fields |= {"request_id": REQUEST, "item_id": "v1"}
    if form == "feedback":
        fields |= {"kind": "click", "value": 1.0}
    if form == "impression":
        fields |= {"arm": "a", "arm_version": "1", "position": 0, "step": 0, "score": None, "propensity": 0.5}
    return {**fields, **changed}


def without(form: str, field: str) -> dict[str, Any]:
    return {name: value for name, value in good(form).items() if name != field}


def message(*parts: bytes | dict[str, Any]) -> bytes:
    """Write a message of events, some of them as raw bytes."""
    written = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    return b'{"schema": 1, "events": [' + b", ".join(written) + b"]}"


def decode(raw: bytes) -> tuple[list[Event], list[BadEvent]]:
    return Codec(KINDS).decode(raw)


@given(times, texts)
def test_a_request_is_a_uuid_version_7_that_tells_its_time(ts: int, content: str) -> None:
    name = request_identity(ts, content)
    read = uuid.UUID(hex=name)
    assert read.hex == name
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == ts
    assert request_time(name) == ts
    assert request_day(name) == ts // DAY_MS
    assert name == request_identity(ts, content)
    assert name != request_identity(ts, content + "x")


@given(times, texts, st.sampled_from(KINDS), counts)
def test_all_events_of_a_request_begin_with_its_time(ts: int, item: str, kind: str, ordinal: int) -> None:
    request = request_identity(ts, "r1|u1")
    names = [
        feedback_identity(request, item, kind, ordinal),
        feedback_identity(request, item, kind, ordinal + 1),
        feedback_identity(request, item + "x", kind, ordinal),
        impression_identity(request, item),
        impression_identity(request, item + "x"),
        exposure_identity(ts, "r1", "u1", "demo", "a"),
        exposure_identity(ts, "r1", "u1", "demo", "b"),
        exposure_identity(ts, "r2", "u1", "demo", "a"),
        alias_identity(ts, "r1", "device", "u1"),
        alias_identity(ts, "r1", "u1", "device"),
        alias_identity(ts, "r2", "device", "u1"),
    ]
    assert len(set(names)) == len(names)
    assert {name[:12] for name in names} == {request[:12]}
    assert {request_day(name) for name in names} == {ts // DAY_MS}
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
    assert names[0] == feedback_identity(request, item, kind, ordinal)


def test_identities_never_change() -> None:
    assert REQUEST == "01802ba9f47b715fa1b7d77b8020fe8e"
    assert feedback_identity(REQUEST, "v1", "click", 0) == "01802ba9f47bb9a077a5c6e78921fe93"
    assert impression_identity(REQUEST, "v1") == "01802ba9f47b65fb4f7fa1e9112cba85"
    assert exposure_identity(1_650_000_000_123, "r1", "u1", "demo", "a") == "01802ba9f47b714d98304e84af5dc959"
    assert alias_identity(1_650_000_000_123, "r1", "device", "u1") == "01802ba9f47be09b8fa8e7aa4aaf0604"
    assert event_identity("0" * 12, "x") == "0000000000005c7401c0ec22eeeeeaf0"


@given(events)
def test_what_is_encoded_is_decoded(sent: list[Event]) -> None:
    codec = Codec(KINDS)
    assert codec.decode(codec.encode(sent)) == (sent, [])


def test_the_last_times_have_a_day_everywhere() -> None:
    got, bad = decode(message(good(ts=END - 1, event_id=f"{END - 1:012x}" + "0" * 20)))
    assert not bad
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        last = datetime.fromtimestamp(got[0].ts // 1000, UTC).toordinal() - 719_163
        assert abs(Calendar(zone).day(got[0].ts) - last) <= 1


BAD: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "not an object": (b"3", "Expected `object`"),
    "null": (b"null", "Expected `object`"),
    "no type": (without("feedback", "type"), "required field `type`"),
    "unknown type": (good(type="purchase"), "`$.type`"),
    "type of another kind": (good(type=1), "`$.type`"),
    "missing field": (without("feedback", "unit_id"), "required field `unit_id`"),
    "missing run": (without("exposure", "run"), "required field `run`"),
    "missing score": (without("impression", "score"), "required field `score`"),
    "unknown field": (good(colour="red"), "unknown field `colour`"),
    "number for a name": (good(unit_id=7), "`$.unit_id`"),
    "text for a number": (good(value="1"), "`$.value`"),
    "text for a time": (good(ts="2022-04-15"), "`$.ts`"),
    "fraction of a millisecond": (good(ts=1.5), "`$.ts`"),
    "boolean for a count": (good("exposure", phase=True), "`$.phase`"),
    "number for a boolean": (good("exposure", forced=1), "`$.forced`"),
    "undeclared kind": (good(kind="wink"), "kind 'wink' is not declared"),
    "reserved kind": (good(kind=IMPRESSION_KIND), "is not declared"),
    "alias of itself": (good("alias", anonymous_id="u1"), "anonymous_id 'u1' must not be the unit_id"),
    "alias of nobody": (without("alias", "unit_id"), "missing required field `unit_id`"),
    "empty unit": (good(unit_id=""), "length >= 1"),
    "long name": (good(item_id="x" * 201), "length <= 200"),
    "negative time": (good(ts=-1), "`$.ts`"),
    "time beyond 48 bits": (good(ts=1 << 48), "`$.ts`"),
    "time without a day": (good(ts=END), "`$.ts`"),
    "huge time": (good(ts=10**40), "`$.ts`"),
    "time of 5,000 digits": (json.dumps(good()).replace("1650", "1" * 5000).encode(), "out of range"),
    "huge count": (good("impression", position=1 << 31), "`$.position`"),
    "negative ordinal": (good(ordinal=-1), "`$.ordinal`"),
    "infinite value": (json.dumps(good()).replace("1.0", "1e999").encode(), "out of range"),
    "infinite score": (json.dumps(good("impression")).replace("null", "-1e999").encode(), "out of range"),
    "no number": (json.dumps(good(value=float("nan"))).encode(), "malformed"),
    "literal infinity": (json.dumps(good(value=float("inf"))).encode(), "malformed"),
    "large value": (good(value=1e101), "value 1e+101, must be"),
    "small value": (good(value=-1e-101), "value -1e-101, must be"),
    "null value": (good(value=None), "`$.value`"),
    "short id": (good(event_id="0" * 31), "event_id"),
    "long id": (good(event_id="0" * 33), "event_id"),
    "id with a line end": (good(event_id=MINE + "\n"), "event_id"),
    "id in upper case": (good(event_id="A" * 32), "event_id"),
    "id that is no hexadecimal": (good(request_id="g" * 32), "request_id"),
    "propensity 0": (good("impression", propensity=0), "propensity"),
    "propensity over 1": (good("impression", propensity=1.0001), "propensity"),
    "half of a surrogate pair": (good(item_id="\ud83d"), "malformed"),
    "the other half in an unknown field": ({**good(), "\udc00": 1}, "malformed"),
    "invalid UTF-8": (json.dumps(good()).encode().replace(b"u1", b"\xff1"), "utf-8"),
    "a surrogate in UTF-8": (json.dumps(good()).encode().replace(b"u1", b"\xed\xa0\xbd"), "utf-8"),
    "NUL": (good(item_id="a\0b"), r"item_id 'a\x00b' holds a NUL"),
    "NUL in a field's name": ({**good(), "a\0b": 1}, r"unknown field `a\0b`"),
}


@pytest.mark.parametrize(("part", "reason"), BAD.values(), ids=BAD)
def test_a_bad_event_is_returned_alone(part: bytes | dict[str, Any], reason: str) -> None:
    before, after = good("impression", event_id=MINE[:31] + "1"), good("exposure", event_id=MINE[:31] + "2")
    got, bad = decode(message(before, part, after))
    assert [event.event_id for event in got] == [MINE[:31] + "1", MINE[:31] + "2"]
    assert len(bad) == 1
    assert bad[0].place == 1
    assert reason in bad[0].reason
    assert "\0" not in bad[0].reason
    written = part if isinstance(part, bytes) else json.dumps(part).encode()
    assert bad[0].raw == written


def test_several_bad_events_keep_their_places_in_any_mixture() -> None:
    odd = ("invalid UTF-8", "a surrogate in UTF-8", "time of 5,000 digits")  # no parser takes them with NaN
    parts = [part for name, (part, _) in BAD.items() if name not in odd]
    got, bad = decode(message(*(part for one in parts for part in (one, good()))))
    assert len(got) == len(parts)
    assert [one.place for one in bad] == list(range(0, 2 * len(parts), 2))
    assert [json.loads(one.raw) for one in bad[:5]] == [
        json.loads(part) if isinstance(part, bytes) else part for part in parts[:5]
    ]


def test_a_long_reason_is_cut() -> None:
    _, bad = decode(message(good(type="x" * 100_000)))
    assert len(bad[0].reason) == REASON
    assert len(bad[0].raw) > 100_000


def test_an_escaped_backslash_is_no_nul() -> None:
    got, bad = decode(message(good(item_id=r"a\u0000b")))
    assert not bad
    assert isinstance(got[0], Feedback)
    assert got[0].item_id == r"a\u0000b"


def test_values_of_every_stored_size_pass() -> None:
    sizes = [0.0, -0.0, SMALLEST, -SMALLEST, LARGEST, -LARGEST, 5]
    got, bad = decode(message(*(good(value=size) for size in sizes)))
    assert not bad
    assert [event.value for event in got if isinstance(event, Feedback)] == sizes


WHOLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a message"),
    "text": (b"hello", "not a message"),
    "cut short": (message(good())[:-3], "not a message"),
    "list": (b"[]", "not a message"),
    "no events": (b'{"schema": 1}', "required field `events`"),
    "events of another type": (b'{"schema": 1, "events": {}}', "`$.events`"),
    "no schema": (b'{"events": []}', "required field `schema`"),
    "schema in text": (b'{"schema": "1", "events": []}', "`$.schema`"),
    "later schema": (b'{"schema": 2, "events": [], "more": 1}', "schema must be 1, is 2"),
    "huge schema": (b'{"schema": 1' + b"0" * 4000 + b', "events": []}', "schema must be 1"),
    "two messages": (message(good()) * 2, "not a message"),
    "UTF-16": (message(good()).decode().encode("utf-16"), "not a message"),
    "nested without end": (b'{"schema": 1, "events": [' + b"[" * 100_000, "recursion"),
    "nested in a field": (b'{"schema": 1, "x": ' + b'{"x": ' * 100_000, "recursion"),
}


@pytest.mark.parametrize(("raw", "reason"), WHOLE.values(), ids=WHOLE)
def test_what_is_no_message_is_returned_whole(raw: bytes, reason: str) -> None:
    got, bad = decode(raw)
    assert not got
    assert len(bad) == 1
    assert (bad[0].place, bad[0].raw) == (-1, raw)
    assert reason in bad[0].reason
    assert len(bad[0].reason) <= REASON


@given(st.binary(max_size=300))
def test_decoding_never_raises(raw: bytes) -> None:
    got, bad = decode(raw)
    assert not got
    assert len(bad) == 1


@given(st.data())
def test_decoding_a_damaged_message_never_raises(data: st.DataObject) -> None:
    raw = bytearray(message(good(), good("impression"), good("exposure")))
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    got, bad = decode(bytes(raw))
    if any(one.place == -1 for one in bad):
        assert not got
        assert len(bad) == 1
    else:
        assert 1 <= len(got) + len(bad) <= 3
        assert [one.place for one in bad] == sorted({one.place for one in bad})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=4))
def test_any_json_as_an_event_is_bad_and_nothing_else(parts: list[Any]) -> None:
    written = [json.dumps(part).encode() for part in parts]
    got, bad = decode(message(good(), *written, good()))
    assert len(got) == 2
    assert [one.place for one in bad] == list(range(1, len(parts) + 1))


def to_today(event: Plain) -> Plain:
    """Convert an event of a schema that called the unit `user`, in a mapping."""
    rest = {name: value for name, value in event.items() if name != "user"}
    return rest | {"unit_id": event["user"]["id"]}


def in_older(**changed: Any) -> bytes:
    return json.dumps(without("feedback", "unit_id") | {"user": {"id": "u7"}} | changed).encode()


def test_an_older_schema_is_read_as_todays_events() -> None:
    codec = Codec(KINDS, older={0: to_today})
    assert codec.schemas == [0, 1]
    raw = message(in_older(), in_older(value=2)).replace(b'"schema": 1', b'"schema": 0')
    today = [
        Feedback(**{k: v for k, v in good(unit_id="u7", value=n).items() if k != "type"}) for n in (1, 2)
    ]
    assert codec.decode(raw) == (today, [])
    assert codec.decode(codec.encode(today)) == (today, [])
    assert codec.decode(message(in_older()))[1][0].schema == 1, "a message is of the schema it says"
    for number in (-1, 2, 10**30):
        (bad,) = codec.decode(b'{"schema": %d, "events": []}' % number)[1]
        assert (bad.place, bad.reason, bad.schema) == (-1, f"schema must be 0 or 1, is {number}", None)
    assert Codec(KINDS).schemas == [1]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (in_older(user={}), "cannot be read as schema 0: KeyError('id')"),
        (in_older(user=3), "cannot be read as schema 0: TypeError("),
        (b"3", "Expected `object`"),
        (b"{}", "KeyError('user')"),
        (in_older(user={"id": ""}), "length >= 1"),
        (in_older(user={"id": "a\0"}), "holds a NUL"),
        (in_older(kind="wink"), "kind 'wink' is not declared"),
        (in_older(value=1e300), "value 1e+300, must be"),
        (in_older(value=float("nan")), "malformed"),
        (in_older().replace(b"u7", b"\xff7"), "utf-8"),
    ],
)
def test_a_bad_event_of_an_older_schema_is_returned_alone(part: bytes, reason: str) -> None:
    codec = Codec(KINDS, older={0: to_today})
    got, bad = codec.decode(message(in_older(), part, in_older()).replace(b'"schema": 1', b'"schema": 0'))
    assert len(got) == 2
    assert [(one.place, one.raw, one.schema) for one in bad] == [(1, part, 0)]
    assert reason in bad[0].reason
    assert codec.decode_event(part, 0, 1) == ([], bad)


@given(json_values)
def test_one_event_is_read_as_in_its_message(value: Any) -> None:
    part = json.dumps(value).encode()
    got, bad = decode(message(good(), part))
    assert Codec(KINDS).decode_event(part, 1, 1) == (got[1:], bad)


def test_one_event_of_a_schema_that_is_not_known() -> None:
    part = json.dumps(good()).encode()
    assert Codec(KINDS).decode_event(part, 1, 3) == decode(message(good()))
    assert Codec(KINDS).decode_event(part, 2, 3) == ([], [BadEvent(3, "schema must be 1, is 2", part, 2)])


def test_an_empty_message_is_fine() -> None:
    assert decode(b'{"schema": 1, "events": []}') == ([], [])
