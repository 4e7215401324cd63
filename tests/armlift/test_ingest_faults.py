"""A broker that goes away, or a topic made again, amid ingest: the tables are those of a clean run.

The broker and the databases are real.
"""

import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from brokers import Broker
from kafka import KafkaAdminClient
from sqlalchemy import Engine, select

from armlift.days import DAY_MS, Calendar
from armlift.errors import StreamError
from armlift.events import (
    KINDS,
    Codec,
    Exposure,
    Feedback,
    Impression,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import Ingester
from armlift.metric import METRICS
from armlift.rollup_rows import Subject
from armlift.settings import KafkaSettings, kafka_address
from armlift.store import tables
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.kafka import KafkaStream
from armlift.streams.stream import EventStream

START = 1_650_000_000_000
PATIENCE = 40.0
SETTINGS = KafkaSettings(partitions=2)
METRIC = METRICS.validate_python({"clicks": {"kind": "mean", "of": {"event": "click"}}})
COMPARED = (tables.exposures, tables.impressions, tables.feedback, tables.unit_days)


def messages(count: int) -> list[tuple[str, bytes]]:
    rng, codec, made = random.Random(3), Codec(KINDS), []
    for number in range(count):
        unit, ts = f"u{rng.randrange(20)}", START + rng.randrange(3 * DAY_MS)
        request = request_identity(ts, f"{unit}|{number}")
        shown = (request, unit, "a", "v", "item", 0, 0, None, None)
        click = feedback_identity(request, "item", "click", 0)
        made.append(
            (
                unit,
                codec.encode(
                    [
                        Exposure(
                            exposure_identity(ts, "r", unit, "e", "a"), "r", ts, unit, "e", 0, 0, "a", "v"
                        ),
                        Impression(impression_identity(request, "item"), "r", ts, *shown),
                        Feedback(click, "r", ts + 1, request, unit, "item", "click", 1.0),
                    ]
                ),
            )
        )
    return made


def ingester(engine: Engine, stream: EventStream) -> Ingester:
    subject = Subject("r", "e", METRIC, False)
    return Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), lambda *_: [subject], batch=25)


def publish(stream: EventStream, sent: list[tuple[str, bytes]]) -> None:
    for key, value in sent:
        stream.publish(key, value)
    stream.flush()


def content(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table))) for table in COMPARED
        }


@pytest.fixture
def clean(engine: Engine, tmp_path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Give the tables of a run in which nothing happened, and leave them empty."""
    with EmbeddedStream(tmp_path / "stream", 2) as stream:
        publish(stream, messages(200))
        ingester(engine, stream).drain(wait=10)
    found = content(engine)
    with engine.begin() as connection:
        for table in COMPARED:
            connection.execute(table.delete())
    assert all(found.values())
    return found


@pytest.mark.parametrize("clean_stop", [True, False])
def test_a_broker_that_goes_away_and_comes_back(
    engine: Engine, durable: Broker, clean: dict[str, list[tuple[Any, ...]]], clean_stop: bool
) -> None:
    with KafkaStream(durable.url(f"away-{uuid4().hex}"), SETTINGS) as stream:
        publish(stream, messages(200))
        one, deadline = ingester(engine, stream), time.monotonic() + PATIENCE
        while one.total["records"] < 50:
            assert time.monotonic() < deadline
            one.step(timeout=0.2)
        (durable.stop if clean_stop else durable.kill)()
        for _ in range(5):
            one.step(timeout=0.1)
        durable.start()
        one.drain(wait=PATIENCE)
    assert content(engine) == clean


def test_a_topic_deleted_and_made_again(
    engine: Engine, durable: Broker, clean: dict[str, list[tuple[Any, ...]]]
) -> None:
    """What had been stored is sent again, with all the rest: nothing is lost, nothing doubled."""
    url, deadline = durable.url(f"again-{uuid4().hex}"), time.monotonic() + PATIENCE
    stream = KafkaStream(url, SETTINGS)
    publish(stream, messages(120))
    one = ingester(engine, stream)
    while one.total["records"] < 50:
        assert time.monotonic() < deadline
        one.step(timeout=0.2)
    admin = KafkaAdminClient(bootstrap_servers=kafka_address(url)[0])
    admin.delete_topics([kafka_address(url)[1]])
    admin.close()
    with open_again(url, deadline) as again:
        with pytest.raises(StreamError, match="deleted and made again"):
            step_until(one, deadline)
        with suppress(StreamError):
            stream.close()  # as the process ends that met the error: until then its member holds partitions
        publish(again, messages(200))
        ingester(engine, again).drain(wait=PATIENCE)
    assert content(engine) == clean


def open_again(url: str, deadline: float) -> KafkaStream:
    while True:
        assert time.monotonic() < deadline
        try:
            return KafkaStream(url, SETTINGS)
        except StreamError:
            time.sleep(0.1)


def step_until(one: Ingester, deadline: float) -> None:
    while time.monotonic() < deadline:
        one.step(timeout=0.2)
