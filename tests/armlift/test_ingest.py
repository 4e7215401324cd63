"""Ingest has the effect of exactly once: under redelivery, failure, loss of a partition, and kill -9."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from databases import postgresql
from sqlalchemy import Engine, Table, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from armlift import ingest, rollup, runs
from armlift.batch import TABLES
from armlift.days import DAY_MS, Calendar
from armlift.errors import StreamError
from armlift.events import (
    KINDS,
    Alias,
    Codec,
    Event,
    Exposure,
    Feedback,
    Impression,
    alias_identity,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import Ingested, Ingester
from armlift.store import tables
from armlift.store.database import connect, upgrade, writing
from armlift.store.partitions import expire
from armlift.streams.embedded import EmbeddedStream

START = 1_650_000_000_000
DATA = (tables.exposures, tables.impressions, tables.feedback, tables.unit_days, tables.dead_letters)
METRICS = {
    "ctr": {"kind": "ratio", "numerator": {"event": "click"}, "denominator": {"event": "impression"}},
    "play": {"kind": "mean", "of": {"event": "play", "aggregate": "sum"}},
}
DEMO = {
    "name": "demo",
    "arms": {"a": 1, "b": 1},
    "control": "a",
    "metrics": {"primary": ["play"], "secondary": ["ctr"]},
}
BAD_PART = b'{"type": "feedback", "value": "much"}'

Message = tuple[str, bytes]


def messages(count: int, seed: int = 0, units: int = 9) -> list[Message]:
    """Give messages of one request each; every seventh holds a bad event, every fortieth is none at all."""
    rng, codec = random.Random(seed), Codec(KINDS)
    made = []
    for number in range(count):
        unit = f"u{rng.randrange(units)}"
        ts = START + rng.randrange(3 * DAY_MS)
        request = request_identity(ts, f"r1|{unit}|{number}")
        arm = "ab"[int(unit[1:]) % 2]
        events: list[Event] = []
        if rng.random() < 0.3:
            identity = exposure_identity(ts, "r1", unit, "demo", arm)
            events.append(Exposure(identity, "r1", ts, unit, "demo", 0, 0, arm, "1"))
        for place in range(rng.randrange(4)):
            item = f"v{place}"
            what = (request, unit, arm, "1", item, place, 0, 0.5, None)
            events.append(Impression(impression_identity(request, item), "r1", ts + place, *what))
            for kind in rng.sample(("click", "play", "like"), 2):
                identity = feedback_identity(request, item, kind, 0)
                value = rng.lognormvariate(0, 2)
                events.append(Feedback(identity, "r1", ts + place, request, unit, item, kind, value))
        raw = codec.encode(events)
        if number % 7 == 3:
            raw = raw.replace(b'"events":[', b'"events":[' + BAD_PART + (b"," if events else b""))
        made.append((unit, b"no message" if number % 40 == 39 else raw))
    return made


def publish(folder: Path, sent: Sequence[Message], partitions: int = 3) -> None:
    with EmbeddedStream(folder, partitions) as stream:
        for unit, raw in sent:
            stream.publish(unit, raw)


def begin_run(engine: Engine) -> None:
    """Store the run whose events these are, so that they count in its metrics."""
    with writing(engine) as connection:
        row: dict[str, Any] = {
            "run": "r1",
            "number": 1,
            "experiment": "demo",
            "mode": "rerank",
            "paired": False,
            "k": 1,
            "seed": 0,
            "state": "running",
            "synthetic": True,
            "definition": {"experiment": DEMO, "metrics": METRICS},
            "arms": {},
            "log": {},
            "resolution": {},
            "dropped": {},
        }
        connection.execute(insert(tables.runs).values(row))


@contextmanager
def ingester(engine: Engine, folder: Path, *, batch: int = 1000) -> Iterator[Ingester]:
    with EmbeddedStream(folder, claim_seconds=0.02) as stream:
        yield Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=batch)


def drain(engine: Engine, folder: Path, *, batch: int = 1000) -> Ingested:
    with ingester(engine, folder, batch=batch) as one:
        return one.drain(wait=5)


def content(engine: Engine, among: Sequence[Table] = DATA) -> dict[str, list[tuple[Any, ...]]]:
    """Read whole tables, leaving out which stream dead letters and offsets are of."""
    found = {}
    with engine.connect() as connection:
        for table in among:
            columns = [column for column in table.c if column.name != "stream_id"]
            found[table.name] = sorted(tuple(row) for row in connection.execute(select(*columns)))
    return found


def events_of(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: rows for name, rows in found.items() if name != "dead_letters"}


def offsets(engine: Engine) -> dict[int, int]:
    return {row[0]: row[1] for row in content(engine, [tables.stream_offsets])["stream_offsets"]}


def ends(folder: Path) -> dict[int, int]:
    with EmbeddedStream(folder) as stream:
        return {partition: end for partition, end in stream.end_offsets().items() if end}


@pytest.fixture
def database(engine: Engine) -> Engine:
    begin_run(engine)
    return engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stream"


def clear(engine: Engine) -> None:
    with writing(engine) as connection:
        for table in (*DATA, tables.aliases, tables.stream_offsets):
            connection.execute(delete(table))


def test_what_is_published_is_in_the_tables(database: Engine, folder: Path) -> None:
    sent = messages(80)
    publish(folder, sent)
    done = drain(database, folder)
    read = [Codec(KINDS).decode(raw) for _, raw in sent]
    events = [event for good, _ in read for event in good]
    bad = [tuple(one) for _, some in read for one in some]
    assert done == Ingested(80, len(events), len(bad))
    found = content(database)
    for kind, name in ((Exposure, "exposures"), (Impression, "impressions"), (Feedback, "feedback")):
        assert {row[2] for row in found[name]} == {e.event_id for e in events if isinstance(e, kind)}
    assert sorted(row[2:] for row in found["dead_letters"]) == sorted(bad)
    assert {row[0] for row in bad} == {0, -1}
    assert found["unit_days"]
    assert offsets(database) == ends(folder)
    click = next(e for e in events if isinstance(e, Feedback))
    day = click.ts // DAY_MS
    head = (int(click.event_id[:12], 16) // DAY_MS, day, click.event_id, "r1", click.ts, click.request_id)
    assert (*head, click.unit_id, click.item_id, click.kind, click.value, 0) in found["feedback"]


@pytest.mark.parametrize(("event", "table"), TABLES.items())
def test_columns_are_the_fields_of_their_event(event: type[Event], table: Table) -> None:
    assert ["request_day", "day", *event.__struct_fields__] == table.c.keys()


def test_a_second_drain_adds_nothing(database: Engine, folder: Path) -> None:
    publish(folder, messages(30))
    drain(database, folder)
    before = content(database)
    assert drain(database, folder) == Ingested(0, 0, 0)
    assert content(database) == before


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_redelivery_in_any_order_and_batches_gives_the_same_tables(
    database: Engine, folder: Path, batch: int
) -> None:
    sent = messages(60)
    publish(folder, sent)
    drain(database, folder)
    expected = events_of(content(database))
    clear(database)
    again = [*sent, *sent]
    random.Random(batch).shuffle(again)
    other = folder.with_name("other")
    publish(other, again, partitions=2)
    drain(database, other, batch=batch)
    assert events_of(content(database)) == expected
    publish(folder, sent[:20])
    drain(database, folder, batch=batch)
    assert events_of(content(database)) == expected


def test_a_batch_is_one_transaction(database: Engine, folder: Path) -> None:
    publish(folder, messages(20), partitions=1)
    seen = []
    with ingester(database, folder, batch=8) as one:
        for _ in range(3):
            one.step(timeout=1)
            with database.connect() as other:
                seen.append(other.execute(select(tables.stream_offsets.c.next)).scalar_one())
    assert seen == [8, 16, 20]


class BrokenError(Exception):
    pass


def broken(*_: object) -> None:
    raise BrokenError


@pytest.mark.parametrize("place", ["_read", "_move_offsets", "write", "commit"])
def test_a_failure_leaves_nothing_and_the_next_step_brings_it_all(
    database: Engine, folder: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(folder, messages(60))
    drain(database, folder)
    expected, reached = content(database), offsets(database)
    clear(database)

    with ingester(database, folder, batch=25) as one:
        one.step(timeout=1)
        before = content(database), offsets(database)
        with monkeypatch.context() as patch:
            if place == "write":
                patch.setattr(ingest, "write", broken)
            elif place == "commit":
                patch.setattr(database.dialect, "do_commit", broken)
            else:
                patch.setattr(one, place, broken)
            with pytest.raises(BrokenError):
                one.step(timeout=1)
            if place == "_read":  # of the batch behind; what was read before it is stored
                assert offsets(database) != before[1]
                assert one.total["records"] == sum(offsets(database).values()), "and counted"
                before = content(database), offsets(database)
            with pytest.raises(BrokenError):
                one.step(timeout=1)
        assert (content(database), offsets(database)) == before
        one.drain(wait=5)
    assert (content(database), offsets(database)) == (expected, reached)


def test_a_failure_inside_the_database_leaves_nothing(database: Engine, folder: Path) -> None:
    """The last row of a batch is refused by the database itself."""
    publish(folder, messages(40))
    with ingester(database, folder) as one:
        with writing(database) as connection:
            connection.execute(text("ALTER TABLE touched_cells RENAME TO hidden"))
        with pytest.raises(Exception, match="touched_cells"):
            one.step(timeout=1)
        with writing(database) as connection:
            connection.execute(text("ALTER TABLE hidden RENAME TO touched_cells"))
        found = content(database, [*DATA, tables.stream_offsets])
        assert not any(found.values())
        one.drain(wait=5)
    assert offsets(database) == ends(folder)


def test_a_rollup_that_fails_is_computed_later(
    database: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(folder, messages(60))
    drain(database, folder)
    expected = content(database)
    clear(database)
    with ingester(database, folder) as one:
        with monkeypatch.context() as patch:
            patch.setattr(rollup, "_compute", broken)
            with pytest.raises(BrokenError):
                one.step(timeout=1)
        found = content(database)
        assert {name: rows for name, rows in found.items() if name != "unit_days"} == {
            name: rows for name, rows in expected.items() if name != "unit_days"
        }, "what was stored stays"
        assert not found["unit_days"]
        one.drain(wait=5)
    assert content(database) == expected


def test_marks_that_another_process_left_are_computed_by_one_that_is_idle(
    database: Engine, folder: Path
) -> None:
    publish(folder, messages(60))
    drain(database, folder)
    expected = content(database)
    with ingester(database, folder) as idle:
        idle.step(timeout=0)
        with writing(database) as connection:
            cells = select(
                tables.unit_days.c.run, tables.unit_days.c.unit_id, tables.unit_days.c.day
            ).distinct()
            left = [row._asdict() for row in connection.execute(cells)]
            connection.execute(delete(tables.unit_days))
            connection.execute(insert(tables.touched_cells), left)
        deadline = time.monotonic() + 20
        while content(database) != expected:
            assert time.monotonic() < deadline
            idle.step(timeout=0.1)
    assert not content(database, [tables.touched_cells])["touched_cells"]


def test_a_transaction_of_one_that_is_silent_is_given_up_with_its_locks(
    database: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.dialect.name != "postgresql":
        pytest.skip("SQLite takes the locks of processes that end, and no other machine has any")
    publish(folder, messages(40), partitions=1)
    monkeypatch.setattr(ingest, "SILENT_SECONDS", 0.2)
    with ingester(database, folder, batch=10) as one:
        one.step(timeout=1)
        with monkeypatch.context() as patch:
            patch.setattr(ingest, "write", lambda *_: time.sleep(1.0))
            with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
                one.step(timeout=1)
        assert offsets(database) == {0: 10}
        one.drain(wait=5)
    assert offsets(database) == {0: 40}


def test_who_lost_a_partition_cannot_commit(database: Engine, folder: Path) -> None:
    publish(folder, messages(60), partitions=1)
    drain(database, folder)
    expected = content(database)
    clear(database)
    with ingester(database, folder, batch=10) as slow:
        assert slow.step(timeout=1).records == 10
        # Its lock was taken from it, as a broker does with one that is silent for too long.
        with another(database, folder, batch=25) as quick:
            assert quick.step(timeout=1).records == 25
            assert slow.step(timeout=1) == Ingested(0, 0, 0)
            assert offsets(database) == {0: 35}
            assert slow.step(timeout=1).records == 10
            assert quick.step(timeout=1) == Ingested(0, 0, 0)
            assert slow.drain(wait=5).records == 15
            assert quick.step(timeout=0) == Ingested(0, 0, 0)
    assert content(database) == expected
    assert offsets(database) == {0: 60}


@contextmanager
def another(engine: Engine, folder: Path, *, batch: int) -> Iterator[Ingester]:
    """Open a second owner of the same partitions: the first one does not know it has lost them."""
    with EmbeddedStream(folder) as stream:
        subscribe = stream.subscribe
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "subscribe", lambda _, *callbacks: subscribe("usurper", *callbacks))
            one = Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=batch)
        yield one


def test_who_lost_a_partition_before_its_first_commit_cannot_commit(database: Engine, folder: Path) -> None:
    publish(folder, messages(12), partitions=1)
    with EmbeddedStream(folder) as stream, another(database, folder, batch=12) as quick:
        slow = Ingester(database, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=5)
        assert stream.poll(1, 1)[0].offset == 0
        stream.seek(0, 0)
        assert quick.step(timeout=1).records == 12
        before = content(database)
        assert slow.step(timeout=1) == Ingested(0, 0, 0)
        assert slow.step(timeout=0) == Ingested(0, 0, 0)
    assert content(database) == before
    assert offsets(database) == {0: 12}


def test_a_lost_partition_takes_no_other_with_it(
    database: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two partitions is lost, and the database fails while the ingester asks where to go on."""
    sent = messages(60)
    publish(folder, sent[:40], partitions=2)
    drain(database, folder)
    first, before = tables.stream_offsets.c.partition == 0, content(database)

    def fail() -> None:
        raise ConnectionError

    with ingester(database, folder) as one:
        one.step(timeout=0)
        publish(folder, sent[40:], partitions=2)
        with writing(database) as connection:
            connection.execute(update(tables.stream_offsets).where(first).values(next=0))
        with monkeypatch.context() as patch:
            patch.setattr(one, "stored", fail)
            with pytest.raises(ConnectionError):
                one.step(timeout=1)
        assert content(database) == before
        one.drain(wait=5)
    assert offsets(database) == ends(folder)
    found = content(database)
    clear(database)
    drain(database, folder)
    assert content(database) == found


def test_two_owners_racing_for_one_stream_double_nothing(database: Engine, folder: Path) -> None:
    publish(folder, messages(150))
    drain(database, folder)
    expected = content(database)
    clear(database)
    moved = []

    def race(own: Callable[..., AbstractContextManager[Ingester]], batch: int) -> None:
        with own(database, folder, batch=batch) as one:
            moved.append(one.drain(wait=20).records)

    threads = [threading.Thread(target=race, args=args) for args in ((ingester, 3), (another, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(moved) == 150
    assert len(moved) == 2
    assert content(database) == expected
    assert offsets(database) == ends(folder)


def test_moving_the_stored_offset_moves_the_ingester(database: Engine, folder: Path) -> None:
    """Whoever sets it back reads again: no event and no dead letter is doubled."""
    publish(folder, messages(50), partitions=1)
    with ingester(database, folder, batch=50) as one:
        one.drain(wait=5)
        before = content(database)
        for target in (0, 20):
            with writing(database) as connection:
                connection.execute(update(tables.stream_offsets).values(next=target))
            publish(folder, messages(50)[:1], partitions=1)
            one.drain(wait=5)
    after = content(database)
    assert events_of(after) == events_of(before)
    assert after["dead_letters"] == before["dead_letters"]
    assert len(after["dead_letters"]) == len({row[:3] for row in after["dead_letters"]})
    assert offsets(database) == {0: 52}


def test_an_ingester_elsewhere_is_waited_for(database: Engine, folder: Path) -> None:
    publish(folder, messages(60))
    with ingester(database, folder, batch=6) as owner, ingester(database, folder) as waiting:
        while owner.step(timeout=1).records:  # owns everything from here on
            if sum(offsets(database).values()) > 20:
                break
        with pytest.raises(TimeoutError, match=r"no record of [0-9a-f]{32} was ingested for 0\.2 s"):
            waiting.drain(wait=0.2)
        thread = threading.Thread(target=lambda: done.append(waiting.drain(wait=20)))
        done: list[Ingested] = []
        thread.start()
        while owner.step(timeout=0.1).records:
            time.sleep(0.01)
        thread.join(20)
        assert done == [Ingested(0, 0, 0)]
    assert offsets(database) == ends(folder)


@pytest.mark.parametrize("kept", [0, 10])
@pytest.mark.parametrize("partitions", [1, 2])
def test_an_offset_beyond_the_stream_stops(
    database: Engine, folder: Path, partitions: int, kept: int
) -> None:
    """The stream was replaced by an older copy of itself, under the same database."""
    older, sent = folder.with_name("older"), messages(40)
    publish(folder, sent[:kept], partitions)
    shutil.copytree(folder, older)
    publish(folder, sent[kept:], partitions)
    drain(database, folder)
    before, reached = content(database), offsets(database)
    shutil.rmtree(folder)
    older.rename(folder)
    with ingester(database, folder) as one:
        any_of = "|".join(map(str, reached.values()))
        for _ in range(2):
            with pytest.raises(StreamError, match=rf"offset ({any_of}) is out of range"):
                one.step(timeout=1)
        with pytest.raises(StreamError, match=rf"offset {reached[0]} of partition 0 is out of range, must "):
            one.drain(wait=5)
    assert (content(database), offsets(database)) == (before, reached)


def test_a_new_stream_under_the_same_database_begins_at_its_beginning(database: Engine, folder: Path) -> None:
    sent = messages(30)
    publish(folder, sent)
    drain(database, folder)
    before = content(database)
    new = folder.with_name("new")
    publish(new, [*sent, *messages(31)[30:]])
    assert drain(database, new).records == 31
    assert set(before["feedback"]) <= set(content(database)["feedback"])
    assert len(before["exposures"]) <= len(content(database)["exposures"])


class Shortened(EmbeddedStream):
    """A stream whose first records are gone, as a broker's retention leaves it."""

    gone = 12

    def beginning_offsets(self) -> dict[int, int]:
        return dict.fromkeys(super().beginning_offsets(), self.gone)


def test_a_stream_that_has_lost_its_first_records_begins_where_it_does(
    database: Engine, folder: Path
) -> None:
    publish(folder, messages(20), partitions=1)
    with Shortened(folder) as stream:
        one = Ingester(database, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects())
        assert one.drain(wait=5).records == 8
    assert offsets(database) == {0: 20}
    clear(database)
    with Shortened(folder) as stream:
        stream.gone = 20
        one = Ingester(database, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects())
        assert one.drain(wait=0.2) == Ingested(0, 0, 0)


def test_a_stream_that_has_lost_records_never_stored_stops(database: Engine, folder: Path) -> None:
    publish(folder, messages(5), partitions=1)
    drain(database, folder)
    publish(folder, messages(20)[5:], partitions=1)
    for gone in (12, 20):
        with Shortened(folder) as stream:
            stream.gone = gone
            one = Ingester(database, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects())
            with pytest.raises(StreamError, match=rf"offset 5 of .* out of range, must be {gone} to 20$"):
                one.drain(wait=0.2)
    assert offsets(database) == {0: 5}


def test_names_of_any_size_and_script_fit(database: Engine, folder: Path) -> None:
    """What the codec lets through, every database stores: nothing may stop the stream for ever."""
    big, last = "😀" * 200, 253_402_214_400_000 - 1
    codec, request = Codec(KINDS), request_identity(last, "x")
    late, early = f"{last:012x}" + "f" * 19, "0" * 31
    head = (big, last, big)
    sent: list[Event] = [
        Exposure(late + "f", *head, big, 2**31 - 1, 2**31 - 1, big, big),
        Impression(late + "f", big, last, request, big, big, big, big, 2**31 - 1, 2**31 - 1, -1e308, 5e-324),
        Exposure(late + "e", "r1", last, big, "demo", 0, 0, big, big),
        Feedback(late + "e", "r1", last, request, big, big, "play", 1e100),
        Feedback(late + "d", "r1", last, request, big, big, "play", -1e-100, 2**31 - 1),
        Feedback(early + "c", "r1", 0, request, "'; --%s%%:x\\", "\x1f\ud7ff\U0010ffff", "play", 3),
    ]
    publish(folder, [(big, codec.encode(sent)), ("x", b"\x00\xff"), ("y", b'{"\\u0000": 1}')])
    with EmbeddedStream(folder) as stream:
        one = Ingester(database, stream, codec, Calendar("UTC"), runs.Subjects(), clock=lambda: last)
        assert one.drain(wait=5) == Ingested(3, 6, 2)
    found = content(database)
    assert [len(found[name]) for name in ("exposures", "impressions", "feedback")] == [2, 1, 3]
    assert [row[-1] for row in found["unit_days"] if row[4] == "play"] == [1e200]


def test_events_of_days_that_retention_took_are_dead_letters(database: Engine, folder: Path) -> None:
    begun = content(database)
    publish(folder, messages(30))
    drain(database, folder)
    expected = content(database)
    expire(database, START // DAY_MS + 10)
    assert content(database, [tables.unit_days]) == {"unit_days": expected["unit_days"]}, (
        "it keeps its counts"
    )
    request = request_identity(START + 5, "late")
    late = Feedback(
        feedback_identity(request, "v", "click", 0), "r1", START + 5, request, "u1", "v", "click", 1
    )
    publish(folder, [("u1", Codec(KINDS).encode([late]))])
    drain(database, folder)
    after = content(database)
    assert after["unit_days"] == expected["unit_days"]
    assert after["exposures"] == expected["exposures"]
    assert after["impressions"] == after["feedback"] == begun["feedback"] == []
    assert len(after["dead_letters"]) == len(expected["dead_letters"]) + 1
    with database.connect() as connection:
        reasons = connection.execute(select(tables.dead_letters.c.reason)).scalars().all()
    assert sum("retention has deleted its days" in reason for reason in reasons) == 1


def test_aliases_are_stored_and_move_what_their_ids_did(database: Engine, folder: Path) -> None:
    """In the partition of either id, before or after the events, and more than once."""
    codec = Codec(KINDS)
    merge = Alias(alias_identity(START, "r1", "u3", "u1"), "r1", START, "u1", "u3")
    again = Alias(alias_identity(START + 9, "r1", "u3", "u2"), "r1", START + 9, "u2", "u3")
    merges = [(key, codec.encode([one])) for key, one in (("u1", merge), ("u3", merge), ("u3", again))]
    sent, results = messages(120), []
    for place, order in enumerate(([*sent, *merges], [*merges, *sent], [*merges[1:], *sent, merges[0]])):
        publish(folder / str(place), order)
        drain(database, folder / str(place), batch=17)
        found = content(database, (*DATA[:-1], tables.aliases))
        assert found["aliases"] == [("r1", "u3", START, "u1"), ("r1", "u3", START + 9, "u2")]
        results.append(found)
        clear(database)
    assert results[0] == results[1] == results[2]
    units = {row[2] for row in results[0]["unit_days"]}
    assert "u1" in units
    assert "u3" not in units
    assert any(row[6] == "u3" for row in results[0]["impressions"])


def test_totals_count_what_this_ingester_moved(database: Engine, folder: Path) -> None:
    publish(folder, messages(40))
    with ingester(database, folder, batch=9) as one:
        done = one.drain(wait=5)
        publish(folder, messages(40))
        again = one.drain(wait=5)
        assert done == again
        assert done.records == 40
        assert one.total == {name: 2 * n for name, n in done._asdict().items()}


def test_a_database_that_crashes_and_comes_back_has_everything_once(tmp_path: Path) -> None:
    """A server of its own: the others are shared by all tests."""
    sent = messages(200)
    publish(tmp_path / "stream", sent)
    with postgresql(fsync=True) as server:
        if server is None:
            pytest.skip("PostgreSQL (initdb and postgres) is not installed")
        engine = connect(server.url, tmp_path)
        upgrade(engine)
        begin_run(engine)
        drain(engine, tmp_path / "stream")
        expected = content(engine)
        clear(engine)
        crashes = 0
        with ingester(engine, tmp_path / "stream", batch=20) as one:
            for place in range(40):
                if place in (2, 5):
                    server.stop(signal.SIGQUIT)
                    with pytest.raises(DBAPIError):
                        one.step(timeout=1)
                    server.start()
                    crashes += 1
                try:
                    one.step(timeout=0.1)
                except DBAPIError:  # a connection of the pool that the crash has cut
                    crashes += 1
            one.drain(wait=10)
        assert crashes >= 2
        assert content(engine) == expected
        engine.dispose()


INGEST = """
import os, sys
from pathlib import Path
from armlift import runs
from armlift.days import Calendar
from armlift.events import KINDS, Codec
from armlift.ingest import Ingester
from armlift.store.database import connect
from armlift.streams.embedded import EmbeddedStream

def work():
    folder = Path(sys.argv[1])
    engine = connect(sys.argv[2], folder)
    with EmbeddedStream(folder / "stream", claim_seconds=0.01) as stream:
        one = Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=2)
        done = 0
        while done < sum(stream.end_offsets().values()):
            one.step(timeout=0.01)
            done = sum(one.stored().values())
            os.write(1, b"%d\\n" % done)

for line in sys.stdin:  # one child a line, so that only the first must load the modules
    if not (child := os.fork()):
        work()
        os._exit(0)
    os.write(1, b"child %d\\n" % child)
    os.write(1, b"ended %d\\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kill_9_anywhere_loses_nothing_and_doubles_nothing(database: Engine, tmp_path: Path) -> None:
    rng = random.Random(5)
    sent = messages(400)
    publish(tmp_path / "clean", sent)
    drain(database, tmp_path / "clean")
    expected, kills, places = content(database), 0, set()
    clear(database)
    publish(tmp_path / "stream", sent)
    url = database.url.render_as_string(hide_password=False)
    database.dispose()
    command = [sys.executable, "-c", INGEST, str(tmp_path), url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        ended = ""
        while ended != "ended 0":
            print("go", file=process.stdin, flush=True)
            child = int(process.stdout.readline().removeprefix("child "))
            lines = rng.randrange(6) if kills < 14 else 10_000
            while lines and not ended.startswith("ended"):
                ended = process.stdout.readline().strip()
                lines -= 1
            if ended != "ended 0":
                time.sleep(rng.uniform(0, 0.015))
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(child, signal.SIGKILL)
                while not ended.startswith("ended"):
                    places.add(ended)
                    ended = process.stdout.readline().strip()
                kills += ended == f"ended {-signal.SIGKILL}"
                ended = "" if ended != "ended 0" else ended
        process.stdin.close()
    assert kills >= 12
    assert len(places) >= 8
    drain(database, tmp_path / "stream")  # what the last one stored, the rollup has yet to count
    assert content(database) == expected
    assert offsets(database) == ends(tmp_path / "stream")
