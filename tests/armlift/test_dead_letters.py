"""Dead letters: each bad event is one, harms no other, and comes in once it can be read, exactly once."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, select

from armlift import dead_letters, runs
from armlift.days import Calendar
from armlift.dead_letters import DeadLetter, Listing, Replayed, excerpt, listing, render, replay
from armlift.events import KINDS, Codec, Plain
from armlift.ingest import Ingester
from armlift.store import tables
from armlift.store.database import writing
from armlift.streams.embedded import EmbeddedStream

UTC = Calendar("UTC")
FEW = tuple(kind for kind in KINDS if kind != "click")
EVENTS = (tables.exposures, tables.impressions, tables.feedback, tables.unit_days)


def good(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "type": "feedback",
        "event_id": f"01802ba9f47b{number:020x}",
        "run": "r1",
        "ts": 1_650_000_000_123,
        "request_id": f"01802ba9f47b{number:020x}",
        "unit_id": f"u{number % 5}",
        "item_id": "v1",
        "kind": "like",
        "value": 1.0,
    } | changed


def message(*parts: bytes | dict[str, Any], schema: int = 1) -> bytes:
    written = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    return b'{"schema": %d, "events": [' % schema + b", ".join(written) + b"]}"


def ingest(engine: Engine, folder: Path, sent: Sequence[bytes], codec: Codec) -> str:
    """Publish messages to a stream of one partition, ingest them, and give the stream's id."""
    with EmbeddedStream(folder, 1, claim_seconds=0.02) as stream:
        for raw in sent:
            stream.publish("u1", raw)
        stream.flush()
        Ingester(engine, stream, codec, UTC, runs.Subjects()).drain(wait=5)
        return stream.stream_id


def stored(engine: Engine) -> set[str]:
    """Give the ids of the stored feedback."""
    with engine.connect() as connection:
        return set(connection.execute(select(tables.feedback.c.event_id)).scalars())


def dead(engine: Engine) -> dict[tuple[int, int], tuple[str, bytes, int | None]]:
    """Give reason, bytes and schema of every dead letter, by its offset and index."""
    c = tables.dead_letters.c
    with engine.connect() as connection:
        rows = connection.execute(select(c.offset, c.index, c.reason, c.bytes, c.schema)).all()
    return {(row[0], row[1]): (row[2], bytes(row[3]), row[4]) for row in rows}


def again(engine: Engine, codec: Codec, **options: Any) -> Replayed:
    return replay(engine, codec, UTC, runs.Subjects(), **options)


def poison(rng: random.Random, number: int) -> bytes:
    """Give the bytes of a bad event that leave its message readable: a wrong type or a huge value."""
    field = rng.choice(["event_id", "run", "ts", "unit_id", "item_id", "kind", "value", "type"])
    wrong: Any = rng.choice(
        [None, [], {}, [[1]], True, "", -1, 10**30, -1e308, "x" * 3000, "\0", {"a": {}}, 1e-300]
    )
    if field == "kind" and wrong == "x" * 3000:
        wrong = "wink"
    return json.dumps(good(number, **{field: wrong})).encode()


def test_poison_messages_block_nothing(engine: Engine, tmp_path: Path) -> None:
    """Fuzzed bytes, wrong types, huge values and unknown schemas among good events of the same messages."""
    rng, codec = random.Random(3), Codec(KINDS)
    sent: list[bytes] = []
    expected: dict[tuple[int, int], bytes] = {}
    fine: set[str] = set()
    for offset in range(150):
        if offset % 5 == 4:
            whole = [rng.randbytes(rng.randrange(1, 200)), message(good(offset), schema=9), message()[:-1]]
            sent.append(rng.choice(whole))
            expected[offset, -1] = sent[-1]
            continue
        parts: list[bytes | dict[str, Any]] = []
        for index in range(4):
            number = offset * 4 + index
            bad = poison(rng, number)
            is_bad = rng.random() < 0.5 and bool(codec.decode(message(bad))[1])
            parts.append(bad if is_bad else good(number))
            if is_bad:
                expected[offset, index] = bad
            else:
                fine.add(good(number)["event_id"])
        sent.append(message(*parts))
    stream_id = ingest(engine, tmp_path, sent, codec)
    found = dead(engine)
    assert stored(engine) == fine
    assert {place: raw for place, (_, raw, _) in found.items()} == expected
    assert all(reason and "\0" not in reason for reason, _, _ in found.values())
    assert {(index >= 0, schema) for (_, index), (_, _, schema) in found.items()} == {
        (True, 1),
        (False, None),
    }
    with engine.connect() as connection:
        seen = listing(connection, limit=1000)
    assert {(one.stream_id, one.partition) for one in seen.letters} == {(stream_id, 0)}
    assert {(one.offset, one.index): one.size for one in seen.letters} == {
        place: len(raw) for place, raw in expected.items()
    }
    before = dead(engine)
    assert again(engine, codec) == Replayed(len(expected), 0, 0, len(expected))
    assert (dead(engine), stored(engine)) == (before, fine)


def test_events_come_in_once_their_kind_is_declared(engine: Engine, tmp_path: Path) -> None:
    sent = [message(good(n), good(n + 100, kind="click"), good(n + 200, kind="wink")) for n in range(7)]
    ingest(engine, tmp_path, sent, Codec(FEW))
    assert len(dead(engine)) == 14
    assert again(engine, Codec(KINDS)) == Replayed(14, 7, 7, 7)
    assert stored(engine) == {good(n + more)["event_id"] for n in range(7) for more in (0, 100)}
    assert {index for _, index in dead(engine)} == {2}
    assert again(engine, Codec(KINDS)) == Replayed(7, 0, 0, 7)
    assert again(engine, Codec([*KINDS, "wink"])) == Replayed(7, 7, 7, 0)
    assert not dead(engine)
    assert again(engine, Codec(KINDS)) == Replayed(0, 0, 0, 0)


def test_a_replay_gives_the_tables_of_a_clean_run(engine: Engine, tmp_path: Path) -> None:
    """The rollup counts the events that came in late, and one that was there already changes nothing."""
    definition: dict[str, Any] = {
        "experiment": {
            "name": "demo", "arms": {"a": 1, "b": 1}, "control": "a", "metrics": {"primary": ["clicks"]},
        },
        "metrics": {"clicks": {"kind": "mean", "of": {"event": "click"}}},
    }  # fmt: skip
    row: dict[str, Any] = {
        "run": "r1",
        "number": 1,
        "experiment": "demo",
        "mode": "rerank",
        "k": 1,
        "seed": 0,
    }
    row |= {"paired": False, "state": "running", "synthetic": True, "definition": definition}
    row |= {"arms": {}, "log": {}, "resolution": {}, "dropped": {}}
    with writing(engine) as connection:
        connection.execute(insert(tables.runs).values(row))
    exposure = {name: good(1)[name] for name in ("event_id", "run", "ts", "unit_id")}
    exposure |= {"type": "exposure", "experiment": "demo", "generation": 0, "phase": 0}
    exposure |= {"arm": "a", "arm_version": "1"}
    sent = [message(exposure)] + [message(good(n, kind="click"), good(n + 50)) for n in range(20)]
    ingest(engine, tmp_path / "late", sent, Codec(FEW))
    assert content(engine)["unit_days"] == []
    # One of the events has come in already, from another stream.
    ingest(engine, tmp_path / "twice", sent[5:6], Codec(KINDS))
    assert again(engine, Codec(KINDS)) == Replayed(20, 20, 20, 0)
    late = content(engine)
    assert len(late["feedback"]) == 40
    with writing(engine) as connection:
        for table in EVENTS:
            connection.execute(table.delete())
    ingest(engine, tmp_path / "clean", sent, Codec(KINDS))
    assert content(engine) == late
    assert len(late["unit_days"]) == 1


def content(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table))) for table in EVENTS
        }


def to_today(event: Plain) -> Plain:
    """Convert an event of a schema that called the unit `user` and counted seconds."""
    rest = {name: value for name, value in event.items() if name not in ("user", "seconds")}
    return rest | {"unit_id": event["user"], "ts": event["seconds"] * 1000}


def older(number: int, **changed: Any) -> dict[str, Any]:
    plain = {name: value for name, value in good(number).items() if name not in ("unit_id", "ts")}
    return plain | {"user": "u1", "seconds": 1_650_000_000} | changed


OLDER = {0: to_today}


def test_a_message_leaves_its_bad_events_at_their_own_index(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema becomes known later; each event is told apart by then, with the schema it was written in."""
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    sent = [
        message(older(n), older(n + 50, seconds="x"), older(n + 99, kind="click"), schema=0) for n in range(6)
    ]
    ingest(engine, tmp_path, [*sent, message(good(200), schema=7)], Codec(FEW))
    assert {reason for reason, _, _ in dead(engine).values()} == {
        "schema must be 1, is 0",
        "schema must be 1, is 7",
    }
    told: list[tuple[int, int]] = []
    done = again(engine, Codec(FEW, older=OLDER), progress=lambda *told_of: told.append(told_of))
    assert done == Replayed(7, 0, 6, 13)
    assert told == [(2, 7), (4, 7), (6, 7), (7, 7)]
    found = dead(engine)
    assert sorted(found) == [*((offset, index) for offset in range(6) for index in (1, 2)), (6, -1)]
    assert found[6, -1][0] == "schema must be 0 or 1, is 7"
    assert found[3, 1][1:] == (json.dumps(older(53, seconds="x")).encode(), 0)
    assert "ts" in found[3, 1][0]
    assert found[3, 2][0] == "kind 'click' is not declared in armlift.toml [kinds]"
    assert again(engine, Codec(KINDS, older=OLDER)) == Replayed(13, 6, 6, 7)
    assert stored(engine) == {good(n + more)["event_id"] for n in range(6) for more in (0, 99)}
    # An armlift that no longer reads the schema says so, and keeps the bytes.
    assert again(engine, Codec(KINDS), reason="ts").bad == 6
    assert dead(engine)[3, 1] == ("schema must be 1, is 0", found[3, 1][1], 0)


def test_letters_that_say_no_schema_are_of_the_first(engine: Engine, tmp_path: Path) -> None:
    ingest(engine, tmp_path, [message(good(1, kind="click"))], Codec(FEW))
    with writing(engine) as connection:
        connection.execute(tables.dead_letters.update().values(schema=None))
    assert again(engine, Codec(KINDS)) == Replayed(1, 1, 1, 0)


@pytest.mark.parametrize("place", ["commit", "write"])
def test_a_replay_that_fails_changes_nothing(
    engine: Engine, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(engine, tmp_path, [message(good(n, kind="click")) for n in range(5)], Codec(FEW))
    before = dead(engine)

    def fail(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        if place == "commit":
            patch.setattr(engine.dialect, "do_commit", fail)
        else:
            patch.setattr(dead_letters, "write", fail)
        with pytest.raises(ConnectionError):
            again(engine, Codec(KINDS))
    assert (dead(engine), stored(engine)) == (before, set())
    assert again(engine, Codec(KINDS)) == Replayed(5, 5, 5, 0)


REPLAY = """
import os, sys
from pathlib import Path
from armlift import dead_letters, runs
from armlift.days import Calendar
from armlift.events import KINDS, Codec
from armlift.store.database import connect

dead_letters.PAGE = 4
tell = lambda done, total: os.write(1, b"%d %d\\n" % (os.getpid(), done))
engine = connect(sys.argv[1], Path())
dead_letters.replay(engine, Codec(KINDS), Calendar("UTC"), runs.Subjects(), progress=tell)
"""


def test_two_replays_at_once_and_one_killed_double_nothing(engine: Engine, tmp_path: Path) -> None:
    sent = [message(good(n), good(n + 1000, kind="click")) for n in range(240)]
    ingest(engine, tmp_path, sent, Codec(FEW))
    command = [sys.executable, "-c", REPLAY, engine.url.render_as_string(hide_password=False)]
    engine.dispose()
    out, into = os.pipe()
    both = [subprocess.Popen(command, stdout=into) for _ in range(2)]
    os.close(into)
    with os.fdopen(out) as lines:
        first = next(line for line in lines if line.endswith(" 20\n"))
        os.kill(int(first.split()[0]), signal.SIGKILL)
        assert sorted(one.wait(60) for one in both) == [-signal.SIGKILL, 0]
    again(engine, Codec(KINDS))
    assert not dead(engine)
    assert len(stored(engine)) == 480


def test_a_replay_brings_back_nothing_that_another_has_settled(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with old settings has read the letters; one with new settings settles some before it stores."""
    ingest(
        engine,
        tmp_path,
        [message(good(n), good(n + 9, kind="click"), schema=0) for n in range(4)],
        Codec(FEW),
    )
    store, calls = dead_letters._store, []

    def overtaken(*arguments: Any) -> bool:
        calls.append(len(arguments[1]))
        if len(calls) == 1:
            assert again(engine, Codec(KINDS, older={0: dict})) == Replayed(4, 4, 8, 0)
            ingest(engine, tmp_path, [message(good(50), schema=0)], Codec(FEW))
        return store(*arguments)

    monkeypatch.setattr(dead_letters, "_store", overtaken)
    assert again(engine, Codec(FEW, older={0: dict})) == Replayed(1, 1, 1, 0)
    assert calls == [4, 4, 1]
    assert not dead(engine)
    assert len(stored(engine)) == 9


def test_the_listing_says_first_what_is_wrong(engine: Engine, tmp_path: Path) -> None:
    sent = [message(good(n, kind="wink"), good(n, kind="w\x1b[31m\n‮")) for n in range(3)]
    stream_id = ingest(engine, tmp_path, [*sent, b"\xff\xfe\x00\x1b[2J" + b"x" * 500], Codec(KINDS))
    with engine.connect() as connection:
        found = listing(connection, limit=2)
        only = listing(connection, reason="KIND 'wi")
        none = listing(connection, reason="100%")
    assert found.total == 7
    assert sum(found.reasons.values()) == 6
    assert list(found.reasons.values()) == [3, 3]
    assert [(one.offset, one.index) for one in found.letters] == [(0, 0), (0, 1)]
    assert (only.total, list(only.reasons.values()), len(only.letters)) == (3, [3], 3)
    assert none == Listing(0, {}, [])
    text = render(found)
    lines = text.splitlines()
    assert lines[0] == "7 dead letters"
    assert "  3 × kind 'wink' is not declared in armlift.toml [kinds]" in lines[1:3]
    assert lines[3] == "  1 with other reasons; --limit shows more"
    assert f"stream {stream_id}, partition 0, offset 0, event 0, {found.letters[0].size:,} bytes" in lines
    assert lines[-1] == "5 more; --limit shows them"
    assert text.replace("\n", "").isprintable()
    document = json.loads(json.dumps(found.document()))
    assert document["dead_letters"] == 7
    assert document["letters"][0]["stream_id"] == stream_id
    with engine.connect() as connection:
        (last,) = listing(connection, reason="not a message").letters
    assert isinstance(last, DeadLetter)
    assert (last.index, last.size) == (-1, 507)
    assert last.excerpt.startswith(r"\xff\xfe\x00\x1b[2Jxxx")


@given(st.binary(max_size=1200))
def test_an_excerpt_is_one_short_line_that_no_terminal_obeys(raw: bytes) -> None:
    shown = excerpt(raw[: 4 * dead_letters.EXCERPT + 4], len(raw))
    assert len(shown) <= dead_letters.EXCERPT
    assert shown.isprintable()
    assert shown.endswith("…") or Counter(shown) == Counter(excerpt(raw, len(raw)))
