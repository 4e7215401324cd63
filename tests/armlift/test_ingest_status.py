"""The status of ingest: partitions, ingesters and dead letters, for people and for programs."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, insert, update

from armlift import runs
from armlift.days import Calendar
from armlift.errors import StreamError
from armlift.events import KINDS, Codec
from armlift.ingest import Ingester
from armlift.ingest_metrics import FAILURES, IngestMetrics
from armlift.ingest_status import Progress, Status, render, status
from armlift.ingesters import Heartbeat
from armlift.store import tables
from armlift.store.database import writing
from armlift.streams.embedded import EmbeddedStream


def look(engine: Engine, stream: EmbeddedStream) -> Status:
    with engine.connect() as connection:
        return status(connection, stream)


def test_nothing_yet(engine: Engine, tmp_path: Path) -> None:
    with EmbeddedStream(tmp_path, 2) as stream:
        stream.publish("u1", b"no message")
        stream.flush()
        found = look(engine, stream)
        ends = stream.end_offsets()
    assert found.partitions == [Progress(one, 0, ends[one], ends[one]) for one in (0, 1)]
    assert (found.lag, found.dead, found.ingesters) == (1, 0, [])
    lines = render(found).splitlines()
    assert lines[2:] == ["no ingester is running", "0 marks wait for the rollup", "0 dead letters"]
    assert sorted(lines[:2])[0].endswith("records stored, lag 0 records") or "lag 1 records" in lines[0]


def test_what_retention_took_is_no_lag(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedStream(tmp_path, 1) as stream:
        monkeypatch.setattr(stream, "beginning_offsets", lambda: {0: 90})
        monkeypatch.setattr(stream, "end_offsets", lambda: {0: 100})
        assert look(engine, stream).partitions == [Progress(0, 0, 100, 10)]
        with writing(engine) as connection:
            row = {"stream_id": stream.stream_id, "partition": 0, "next": 97}
            connection.execute(insert(tables.stream_offsets).values(row))
        assert look(engine, stream).partitions == [Progress(0, 97, 100, 3)]


def test_ingesters_and_dead_letters_are_shown(engine: Engine, tmp_path: Path) -> None:
    metrics, gone = IngestMetrics(CollectorRegistry()), IngestMetrics(CollectorRegistry())
    with EmbeddedStream(tmp_path, 1) as stream:
        gone.failed(StreamError("torn \x1b[31m"))
        with pytest.raises(StreamError), Heartbeat(engine, stream.stream_id, gone):
            raise StreamError("torn")
        with writing(engine) as connection:
            c = tables.ingesters.c
            an_hour_ago = {"seen": c.seen - 3_600_000, "started": c.started - 3_600_000}
            connection.execute(update(tables.ingesters).values(an_hour_ago))
        for number in range(13):
            stream.publish("u1", b'{"schema": %d, "events": []}' % (number if number < 12 else 5))
        stream.flush()
        with Heartbeat(engine, stream.stream_id, metrics, interval=0) as heartbeat:
            codec = Codec(KINDS)
            one = Ingester(engine, stream, codec, Calendar("UTC"), runs.Subjects(), metrics=metrics)
            one.drain(wait=5)
            heartbeat.beat()
            found = look(engine, stream)
    lines = render(found).splitlines()
    assert lines[0] == "partition 0: 13 of 13 records stored, lag 0 records"
    assert [one.gone for one in found.ingesters] == [True, False]
    assert ": gone, started " in lines[1]
    assert lines[4] == r"  failures: 1 stream; the last: StreamError: torn \x1b[31m"
    assert lines[6] == "  13 records, 0 events (0 new), 12 dead letters, 1 batches"
    assert lines[7].startswith("  lately   ")
    assert lines[7].endswith(" s a batch")
    assert lines[9] == "  failures: none"
    assert lines[11:13] == ["12 dead letters", "  2 × schema must be 1, is 5"]
    assert lines[-1] == "  1 with other reasons; see `armlift dead-letters list`"
    assert len(lines) == 23
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["partitions"] == [{"partition": 0, "stored": 13, "end": 13, "lag": 0}]
    assert (document["lag"], document["dead_letters"], len(document["reasons"])) == (0, 12, 10)
    first, second = document["ingesters"]
    assert (first["state"], first["failures"]["stream"]) == ("gone", 1)
    assert (second["state"], second["records"], second["bad"]) == ("running", 13, 12)
    assert set(second["failures"]) == set(FAILURES)
    assert second["records_per_second"] > 0
    assert second["seconds_per_batch"] == pytest.approx(second["batch_seconds"])


def test_without_its_stream_the_database_tells_what_it_knows(engine: Engine, tmp_path: Path) -> None:
    metrics = IngestMetrics(CollectorRegistry())
    with Heartbeat(engine, "one", metrics), Heartbeat(engine, "two", metrics), engine.connect() as connection:
        found = status(connection, None)
    assert (found.stream_id, found.partitions, found.lag, len(found.ingesters)) == ("", [], 0, 2)
