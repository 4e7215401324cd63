"""Ingesters say that they live: while they do, when they fail, and no longer once they are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import OperationalError

from armlift import ingesters
from armlift.days import DAY_MS
from armlift.ingest import Ingested
from armlift.ingest_metrics import IngestMetrics
from armlift.ingesters import SILENT, Heartbeat, State, states
from armlift.store import tables
from armlift.store.clock import DatabaseTime
from armlift.store.database import writing
from armlift.streams.embedded import EmbeddedStream


def read(engine: Engine, stream_id: str = "s1") -> list[State]:
    with engine.connect() as connection:
        return states(connection, stream_id)


def age(engine: Engine, milliseconds: int) -> None:
    """Let the given time pass since every sign of life."""
    with writing(engine) as connection:
        connection.execute(update(tables.ingesters).values(seen=tables.ingesters.c.seen - milliseconds))


@pytest.fixture
def metrics() -> IngestMetrics:
    return IngestMetrics(CollectorRegistry())


def test_the_database_tells_the_time(engine: Engine) -> None:
    with engine.connect() as connection:
        told = connection.execute(select(DatabaseTime())).scalar_one()
    assert isinstance(told, int)
    assert abs(told - time.time() * 1000) < 5000


def test_an_ingester_is_there_while_it_runs(engine: Engine, metrics: IngestMetrics) -> None:
    metrics.batch(Ingested(1, 10, 0), {"feedback": 10}, 10, 1.0)  # what was before is not of its first rate
    with Heartbeat(engine, "s1", metrics, interval=0.05) as heartbeat:
        assert not heartbeat.beat()
        (one,) = read(engine)
        assert (one.pid, one.gone) == (os.getpid(), False)
        assert set(one.rates().values()) == {0.0, 1.0}
        metrics.batch(Ingested(100, 1200, 3), {"impressions": 200, "feedback": 1000}, 900, 0.5)
        metrics.batch(Ingested(50, 600, 0), {"feedback": 600}, 600, 0.1)
        time.sleep(0.06)
        assert heartbeat.beat()
        assert read(engine, "another stream") == []
        (one,) = read(engine)
    assert read(engine) == []
    assert one.figures == metrics.figures()
    seconds = one.recent["seconds"]
    assert 0.05 < seconds < 5
    rates = one.rates()
    assert rates["records_per_second"] == pytest.approx(150 / seconds)
    assert rates["events_per_second"] == pytest.approx(1800 / seconds)
    assert rates["seconds_per_batch"] == pytest.approx(0.3)
    assert rates["mean_seconds_per_batch"] == pytest.approx(1.6 / 3)
    assert rates["mean_events_per_second"] == pytest.approx(1810 / (one.age - one.silent))


def test_an_ingester_that_fails_leaves_why(engine: Engine, metrics: IngestMetrics) -> None:
    error = OperationalError("SELECT", None, Exception("the server is gone"))

    def run() -> None:
        with Heartbeat(engine, "s1", metrics, interval=60):
            metrics.failed(error)
            raise error

    with pytest.raises(OperationalError):
        run()
    (one,) = read(engine)
    assert one.figures.last_error == "OperationalError: the server is gone"
    assert one.figures.failures["database"] == 1
    age(engine, SILENT * 1000 + 1000)
    (one,) = read(engine)
    assert one.gone
    assert one.silent == pytest.approx(SILENT + 1, abs=5)


def test_a_failure_is_not_hidden_by_the_database_failing_too(
    engine: Engine, metrics: IngestMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Engine) -> None:
        raise OperationalError("BEGIN", None, Exception("gone"))

    def run() -> None:
        with Heartbeat(engine, "s1", metrics):
            monkeypatch.setattr(ingesters, "writing", fail)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def test_the_gone_are_forgotten_after_a_day(engine: Engine, metrics: IngestMetrics) -> None:
    with pytest.raises(ZeroDivisionError), Heartbeat(engine, "s1", metrics):
        raise ZeroDivisionError
    age(engine, DAY_MS - 60_000)
    with Heartbeat(engine, "s1", metrics):
        assert [one.gone for one in read(engine)] == [True, False]
    age(engine, 120_000)
    with Heartbeat(engine, "s1", metrics):
        assert [one.gone for one in read(engine)] == [False]


INGEST = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from armlift import runs
from armlift.days import Calendar
from armlift.events import KINDS, Codec
from armlift.ingest import Ingester
from armlift.ingest_metrics import IngestMetrics
from armlift.ingesters import Heartbeat
from armlift.store.database import connect
from armlift.streams.embedded import EmbeddedStream

engine, metrics = connect(sys.argv[2], Path()), IngestMetrics(CollectorRegistry())
with EmbeddedStream(Path(sys.argv[1])) as stream:
    codec = Codec(KINDS)
    one = Ingester(engine, stream, codec, Calendar("UTC"), runs.Subjects(), batch=7, metrics=metrics)
    with Heartbeat(engine, stream.stream_id, metrics, interval=0.05) as heartbeat:
        while True:
            one.step(timeout=0.02)
            if heartbeat.beat():
                print("beat", flush=True)
"""


def test_a_killed_ingester_stays_and_is_gone(engine: Engine, tmp_path: Path) -> None:
    with EmbeddedStream(tmp_path / "stream", 1) as stream:
        for _ in range(40):
            stream.publish("u1", b'{"schema": 1, "events": [3]}')
        stream.flush()
        stream_id = stream.stream_id
    url = engine.url.render_as_string(hide_password=False)
    engine.dispose()
    command = [sys.executable, "-c", INGEST, str(tmp_path / "stream"), url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(100):
        assert process.stdout.readline() == "beat\n"
        (one,) = read(engine, stream_id)
        assert not one.gone
        if one.figures.records == 40:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    (one,) = read(engine, stream_id)
    assert (one.pid, one.figures.records, one.figures.bad) == (process.pid, 40, 40)
    assert one.figures.batches >= 6
    age(engine, 1000 * SILENT + 500)
    (one,) = read(engine, stream_id)
    assert one.gone
