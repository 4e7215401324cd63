"""A forgotten unit is nowhere any more, in no table and no file, and does not come back; others stay."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from armlift import dead_letters, forgotten, prompts, running
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.days import DAY_MS, Calendar, utc_day
from armlift.erasure import PLACES, count, ids_of
from armlift.events import (
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
from armlift.lab import Lab, init_lab
from armlift.prompts import StoredPrompt, Told
from armlift.runs import Subjects
from armlift.segments import tell
from armlift.serving.spill import Spill, SpillReader
from armlift.store import tables
from armlift.store.database import writing
from armlift.streams.opening import open_stream
from armlift_pipelines import forgetting
from armlift_pipelines.dataset import DATASETS, Span
from armlift_pipelines.dataset_build import build_from_sql
from armlift_pipelines.forgetting import Forgetting

NOW = time.time_ns() // 1_000_000
BEGIN = (utc_day(NOW) - 4) * DAY_MS
WHO, ANONYMOUS, COOKIE = "unit-ZQ", "anonymous-ZQ", "cookie-ZQ"
"""One person, and two ids that were merged into the first."""
OURS = (WHO, ANONYMOUS, COOKIE)
OTHERS = tuple(f"other{number}" for number in range(6))
KINDS = ("click", "play")


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Lab:
    """Make a lab with a started experiment, on a database."""
    init_lab(tmp_path / "lab")
    settings = tmp_path / "lab" / "armlift.toml"
    settings.write_text(settings.read_text().replace('"Asia/Shanghai"', '"UTC"'))
    made = Lab(tmp_path / "lab", database=engine.url.render_as_string(hide_password=False))
    with writing(engine) as connection:
        running.start(connection, made, "demo", reason="now", by="me", at=BEGIN)
    return made


def request(unit: str, ts: int, arm: str = "popularity") -> list[Event]:
    """Give the events of one request: an exposure, an item shown, and a click on it."""
    asked = request_identity(ts, f"{unit}{ts}")
    return [
        Exposure(exposure_identity(ts, "live", unit, "demo", arm), "live", ts, unit, "demo", 0, 0, arm, "v"),
        Impression(impression_identity(asked, "i"), "live", ts, asked, unit, arm, "v", "i", 0, 0, None, None),
        Feedback(feedback_identity(asked, "i", "click", 0), "live", ts + 5, asked, unit, "i", "click", 1.0),
    ]


def merged(anonymous: str, unit: str, ts: int) -> list[Event]:
    return [Alias(alias_identity(ts, "live", anonymous, unit), "live", ts, unit, anonymous)]


def history() -> list[tuple[str, bytes]]:
    """Give messages of four days, of all units, some of them bad."""
    codec = Codec(KINDS)
    sent = [
        (unit, codec.encode(request(unit, BEGIN + day * DAY_MS + hour * 3_600_000 + place)))
        for day in range(4)
        for hour in (8, 16)
        for place, unit in enumerate((*OURS, *OTHERS))
    ]
    sent += [(WHO, codec.encode(merged(other, WHO, BEGIN + DAY_MS))) for other in (ANONYMOUS, COOKIE)]
    for unit in (WHO, COOKIE, "other1"):
        bad = json.loads(codec.encode(request(unit, BEGIN + 77)))
        bad["events"][2]["kind"] = "wink"
        sent.append((unit, json.dumps(bad).encode()))
        sent.append((unit, json.dumps(bad | {"schema": 9}).encode()))
        sent.append((unit, f'{{"unit_id": "{unit}", '.encode()))
    return sent


def publish(lab: Lab, sent: Sequence[tuple[str, bytes]]) -> None:
    with open_stream(lab) as stream:
        for key, value in sent:
            stream.publish(key, value)
        stream.flush()


def ingest(lab: Lab, engine: Engine) -> Ingested:
    with open_stream(lab) as stream:
        one = Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), Subjects(), batch=20)
        return one.drain(wait=20)


def fill(lab: Lab, engine: Engine) -> None:
    """Let units leave something everywhere."""
    publish(lab, history())
    ingest(lab, engine)
    said = {
        unit: Told("0" * 32, [StoredPrompt(0, step, "i", 0.5, "i", BEGIN) for step in range(2)])
        for unit in (*OURS, *OTHERS)
    }
    with writing(engine) as connection:
        tell(connection, "live", "country", [(unit, BEGIN, "de") for unit in (*OURS, *OTHERS)])
        prompts.write(connection, "recgpt", "v", said, written=NOW)
        for unit in (WHO, "other1"):
            row = {
                "arm": "recgpt",
                "version": "v",
                "run": "live",
                "unit_id": unit,
                "rater": "me",
                "rating": 3,
            }
            row |= {"source": "model", "position": 0, "items": ["i"], "at": NOW}
            connection.execute(insert(tables.prompt_ratings).values(row))
    archive_closed(engine, archive(lab), NOW, after=0)
    span = Span("live", BEGIN, BEGIN + 3 * DAY_MS, BEGIN + 4 * DAY_MS)
    build_from_sql(engine, span, lab.folder / DATASETS / "2026-01-01")


def archive(lab: Lab) -> Archive:
    return Archive(lab.resolve(lab.settings.archive_url))


def everything(engine: Engine) -> dict[str, list[str]]:
    """Give every row of every table, as text."""
    found = {}
    with engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            rows = connection.execute(select(table)).all()
            found[table.name] = sorted(
                str([bytes(one) if isinstance(one, memoryview) else one for one in row]) for row in rows
            )
    return found


def of_others(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leave out what names the person, and what changes with every erasure."""
    return {
        name: [row for row in some if "-ZQ" not in row]
        for name, some in rows.items()
        if name not in ("forgotten", "audit_log")
    }


def named_in(lab: Lab, engine: Engine) -> list[str]:
    """Name the tables and files in which the person stands."""
    found = [name for name, rows in everything(engine).items() if any("-ZQ" in row for row in rows)]
    for path in sorted((lab.folder / "stream").rglob("*.log")):
        found += [str(path)] if b"-ZQ" in path.read_bytes() else []
    return found


def forget(lab: Lab, engine: Engine, unit: str = WHO, at: int = NOW) -> forgetting.Found:
    return Forgetting(lab, engine, by="me", at=at).forget(unit)


def test_every_column_that_names_units_is_known_to_erasure() -> None:
    named = {(place.table.name, place.column) for place in PLACES} | {("dead_letters", "bytes")}
    nameless = {"units", "unit"}  # of `forgotten`: hashes
    there = {
        (table.name, column.name)
        for table in tables.metadata.sorted_tables
        for column in table.c
        if "unit" in column.name or "anonymous" in column.name or column.name == "bytes"
    }
    assert {one for one in there if one[1] not in nameless} == named
    without = {table.name for table in tables.metadata.sorted_tables} - {table for table, _ in named}
    assert without == {
        "runs", "expired", "arrivals", "stream_offsets", "ingesters", "models", "experiments", "phases",
        "job_runs", "scheduled_jobs", "alerts", "snapshots", "decisions", "audit_log", "api_keys", "items",
        "forgotten",
    }, "a new table: does it name units? erasure must know it"  # fmt: skip


def test_a_forgotten_unit_is_nowhere(lab: Lab, engine: Engine) -> None:
    fill(lab, engine)
    before = everything(engine)
    found = Forgetting(lab, engine, by="me", at=NOW).find(WHO)
    assert found.ids == [WHO, ANONYMOUS, COOKIE]
    assert set(found.counts) == {
        "exposures", "impressions", "feedback", "unit_attributes", "prompts", "prompt_ratings", "unit_days",
        "aliases", "dead_letters", "stream", "archive", "datasets",
    }  # fmt: skip
    assert {name: found.counts[name] for name in ("impressions", "feedback", "dead_letters", "aliases")} == {
        "impressions": 26, "feedback": 24, "dead_letters": 6, "aliases": 2,
    }  # fmt: skip
    assert everything(engine) == before, "looking changes nothing"
    gone = forget(lab, engine, COOKIE)
    assert gone.counts == found.counts
    assert named_in(lab, engine) == []
    assert of_others(everything(engine)) == of_others(before)
    assert Forgetting(lab, engine, by="me", at=NOW).find(WHO).counts == {}
    with engine.connect() as connection:
        assert forgotten.all_records(connection)[0].by == "me"
        a = tables.audit_log.c
        details = connection.scalar(select(a.details).where(a.action == "forget"))
    assert details == {"ids": 3, "erased": gone.counts}


def test_what_waits_in_the_spill_and_what_is_being_built_goes(lab: Lab, engine: Engine) -> None:
    fill(lab, engine)
    spill = Spill(lab.folder / "spill")
    spill.write(history())
    unfinished = lab.folder / DATASETS / f".2026-01-02-{'0' * 32}"
    unfinished.mkdir()
    (unfinished / "runs").write_text(WHO)
    once = Forgetting(lab, engine, by="me", at=NOW).find(WHO).counts["stream"]
    assert forget(lab, engine).counts["stream"] == once
    assert not unfinished.exists()
    generation = spill.oldest()
    assert generation is not None
    reader = SpillReader(generation)
    records = reader.read(1 << 20)
    reader.close()
    spill.close()
    assert len(records) == len(history())
    assert sum("other" in one.key for one in records) > 40
    assert not any("-ZQ" in one.key or b"-ZQ" in one.value for one in records)


def test_the_archive_has_what_the_database_has(lab: Lab, engine: Engine) -> None:
    fill(lab, engine)
    forget(lab, engine)
    done = archive_closed(engine, archive(lab), NOW, after=0, deep=True)
    assert (done.written, done.short, done.lost) == ([], [], [])
    assert done.skipped == 4


def test_what_comes_late_is_dropped_and_counted(lab: Lab, engine: Engine) -> None:
    fill(lab, engine)
    sent = history()
    gone = forget(lab, engine)
    left = everything(engine)
    publish(lab, sent)
    done = ingest(lab, engine)
    ours = sum(gone.counts[name] for name in ("exposures", "impressions", "feedback", "aliases"))
    assert (done.forgotten, done.bad) == (ours + 6, 3), "6 bad events name the person"
    assert named_in(lab, engine) == [
        str(path) for path in sorted((lab.folder / "stream").rglob("*.log"))[-1:]
    ]
    changing = ("stream_offsets", "dead_letters", "arrivals", "forgotten", "audit_log")
    after = everything(engine)
    assert {n: r for n, r in after.items() if n not in changing} == {
        n: r for n, r in left.items() if n not in changing
    }
    with engine.connect() as connection:
        assert forgotten.dropped_events(connection) == ours + 6
        codec = Codec((*KINDS, "wink"))
    assert dead_letters.replay(engine, codec, Calendar("UTC"), Subjects()).bad == 4
    assert "-ZQ" not in str(everything(engine))


def test_who_comes_back_is_a_new_unit(lab: Lab, engine: Engine) -> None:
    fill(lab, engine)
    forget(lab, engine, at=NOW)
    codec = Codec(KINDS)
    publish(lab, [(WHO, codec.encode(request(WHO, NOW + 10))), (WHO, codec.encode(request(WHO, NOW - 10)))])
    assert ingest(lab, engine).forgotten == 3
    with engine.connect() as connection:
        assert ids_of(connection, WHO) == [WHO]
        assert {name: rows for name, rows in count(connection, [WHO]).items() if name != "unit_days"} == {
            "exposures": 1, "impressions": 1, "feedback": 1,
        }  # fmt: skip
    new = everything(engine)
    again = Forgetting(lab, engine, by="me", at=NOW + 20).again()
    assert (again.recorded, again.counts) == (3, {"stream": 1}), "what was sent late"
    assert of_unit(everything(engine)) == of_unit(new), "the new unit stays"
    forget(lab, engine, at=NOW + 30)
    assert named_in(lab, engine) == []


def of_unit(rows: dict[str, list[str]]) -> list[str]:
    return [row for some in rows.values() for row in some if "-ZQ" in row]


def test_what_came_back_goes_again_and_nothing_later(lab: Lab, engine: Engine) -> None:
    """As after a restore: the database has the old rows and no record; records are beside the archive."""
    fill(lab, engine)
    restored = everything(engine)
    noon = BEGIN + 2 * DAY_MS + DAY_MS // 2
    forget(lab, engine, at=noon)
    with writing(engine) as connection:
        connection.execute(tables.forgotten.delete())
        connection.execute(tables.stream_offsets.delete())
    publish(lab, history())
    ingest(lab, engine)
    assert of_unit(everything(engine)) != []
    done = Forgetting(lab, engine, by="me", at=NOW).again()
    assert (done.recorded, done.ids) == (3, 3)
    after = everything(engine)
    assert of_others(after).keys() == of_others(restored).keys()
    with engine.connect() as connection:
        for table in (tables.exposures, tables.impressions):
            times = connection.execute(select(table.c.ts).where(table.c.unit_id.in_(OURS))).scalars().all()
            assert len(times) == 9
            assert min(times) > noon
        days = connection.execute(
            select(tables.unit_days.c.day).where(tables.unit_days.c.unit_id.in_(OURS)).distinct()
        ).scalars()
        assert {*days} == {utc_day(noon), utc_day(noon) + 1}


def test_ids_are_one_unit_however_they_were_merged(engine: Engine) -> None:
    rows = [
        ("live", "a", 5, "b"), ("live", "a", 3, "c"), ("live", "d", 1, "c"), ("live", "c", 9, "e"),
        ("other", "x", 1, "d"), ("live", "y", 1, "b"),
    ]  # fmt: skip
    with writing(engine) as connection:
        connection.execute(
            insert(tables.aliases), [dict(zip(tables.aliases.c.keys(), row, strict=True)) for row in rows]
        )
        for one in "acdex":
            assert ids_of(connection, one) == [one, *sorted({*"acdex"} - {one})], (
                "the first merge of `a` counts"
            )
        assert ids_of(connection, "b") == ["b", "y"]
        assert ids_of(connection, "nobody") == ["nobody"]


def test_a_hash_tells_no_id(lab: Lab, engine: Engine) -> None:
    fill(lab, engine)
    forget(lab, engine)
    (secret,) = {one.secret for one in _records(engine)}
    forget(lab, engine, "other1", at=NOW + 1)
    assert {one.secret for one in _records(engine)} == {secret}
    with writing(engine) as connection:
        connection.execute(tables.forgotten.delete())
    forget(lab, engine, "other2", at=NOW + 2)
    assert {one.secret for one in _records(engine)} == {secret}, "a new database takes the lab's own"
    assert len(_records(engine)) == 1
    files = list((lab.folder / "archive" / "forgotten").iterdir())
    assert len(files) == 5
    assert all("other" not in path.read_text() and "ZQ" not in path.read_text() for path in files)


def _records(engine: Engine) -> list[forgotten.Record]:
    with engine.connect() as connection:
        return forgotten.all_records(connection)


KILLED = """
import sys, time
from pathlib import Path
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift_pipelines.forgetting import Forgetting
lab = Lab(Path(sys.argv[1]), database=sys.argv[2])
import sqlalchemy
engine, left = open_database(lab), [int(sys.argv[3])]
def slow(connection):
    left[0] -= 1
    if left[0] == 0:
        print("there", flush=True)
        time.sleep(60)
sqlalchemy.event.listen(engine, "commit", slow)
Forgetting(lab, engine, by="me", at=int(sys.argv[4])).forget("unit-ZQ")
print("done", flush=True)
"""


@pytest.mark.parametrize("commits", [2, 5, 14, 18])
def test_killed_anywhere_and_done_again_it_is_complete(lab: Lab, engine: Engine, commits: int) -> None:
    fill(lab, engine)
    before = of_others(everything(engine))
    url = engine.url.render_as_string(hide_password=False)
    words = [sys.executable, "-c", KILLED, str(lab.folder), url, str(commits), str(NOW)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGKILL)
    with engine.connect() as connection:
        assert {*connection.execute(select(tables.forgotten.c.erased)).scalars()} <= {None}
    if commits % 2:
        forget(lab, engine, at=NOW + 1)
    else:
        Forgetting(lab, engine, by="me", at=NOW + 1).again()
    assert named_in(lab, engine) == []
    assert Forgetting(lab, engine, by="me", at=NOW).find(WHO).counts == {}
    assert of_others(everything(engine)) == before
    with engine.connect() as connection:
        assert None not in connection.execute(select(tables.forgotten.c.erased)).scalars().all()
