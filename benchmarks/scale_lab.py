"""A lab of so many events: users who come twice a day for three days, in PostgreSQL and in a topic."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from brokers import Broker
from databases import Server
from sqlalchemy import Engine, create_engine, text

from armlift import running
from armlift.days import DAY_MS, utc_day, utc_now
from armlift.events import (
    KINDS,
    Codec,
    Event,
    Exposure,
    Feedback,
    Impression,
    exposure_identity,
    feedback_identity,
    impression_identity,
    request_identity,
)
from armlift.ingest import BATCH
from armlift.lab import Lab, init_lab
from armlift.runs import LIVE
from armlift.settings import KafkaSettings
from armlift.store.database import open_database, writing
from armlift.streams.kafka import KafkaStream

NAME = "scale"
ARMS = ("random", "popularity")
VERSION = "0123456789ab"
DAYS, REQUESTS_A_DAY, A_REQUEST = 3, 2, 12
AHEAD = BATCH
"""Messages more than are measured: what is ingested first, while processes and pages are cold."""
ITEMS = 100_000
_EXPERIMENT = f"""
name: {NAME}
arms: {{random: 1, popularity: 1}}
control: popularity
layer: {{name: scale, slice: [0, 1]}}
metrics: {{primary: [click_rate], secondary: [long_view_rate, clicks, active_days]}}
"""


class ScaleLab(NamedTuple):
    """A lab, its database and its topic; `events` are measured, from `first` (UTC ms) on for DAYS days."""

    lab: Lab
    engine: Engine
    stream_url: str
    events: int
    first: int

    @property
    def messages(self) -> int:
        """Give the messages of the topic."""
        return AHEAD + self.events // A_REQUEST

    @property
    def all_events(self) -> int:
        """Give the events of the topic, with those that come ahead of the measurement."""
        return self.messages * A_REQUEST


@contextmanager
def scale_lab(folder: Path, server: Server, broker: Broker, events: int) -> Iterator[ScaleLab]:
    """Make a lab with a database and a topic of its own, its experiment started before its events."""
    name = f"scale_{events}"
    with administering(server.url) as run:
        run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        run(f"CREATE DATABASE {name}")
    urls = {"ARMLIFT_DATABASE_URL": server.url.rpartition("/")[0] + f"/{name}"}
    urls["ARMLIFT_STREAM_URL"] = broker.url(name)
    os.environ.update(urls)
    init_lab(folder)
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    (folder / "experiments" / f"{NAME}.yaml").write_text(_EXPERIMENT, encoding="utf-8")
    lab = Lab(folder)
    engine = open_database(lab, create=True)
    first = (utc_day(utc_now()) - DAYS) * DAY_MS
    with writing(engine) as connection:
        running.start(connection, lab, NAME, reason="measured", by="scale", at=first)
    try:
        yield ScaleLab(lab, engine, urls["ARMLIFT_STREAM_URL"], events, first)
    finally:
        engine.dispose()
        for key in urls:
            del os.environ[key]
        with administering(server.url) as run:
            run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def administering(url: str) -> Iterator[Callable[[str], object]]:
    """Give a function that runs a statement which may not stand in a transaction."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield lambda statement: connection.execute(text(statement))
    engine.dispose()


def produce(lab: ScaleLab) -> None:
    """Publish all messages."""
    with KafkaStream(lab.stream_url, KafkaSettings(partitions=4)) as stream:
        for key, value in messages(lab):
            stream.publish(key, value)
        stream.flush()


def messages(lab: ScaleLab) -> Iterator[tuple[str, bytes]]:
    """Make messages of a request each, evenly over the days: an exposure, six items shown, five feedbacks."""
    rng, codec = random.Random(lab.events), Codec(KINDS)
    units = max(1, lab.messages // (DAYS * REQUESTS_A_DAY))
    for number in range(lab.messages):
        ts, who = lab.first + number * DAYS * DAY_MS // lab.messages, rng.randrange(units)
        unit, arm = f"u{who}", ARMS[who % 2]
        request = request_identity(ts, f"{unit}|{number}")
        name = exposure_identity(ts, LIVE, unit, NAME, arm)
        events: list[Event] = [Exposure(name, LIVE, ts, unit, NAME, 0, 0, arm, VERSION)]
        start = rng.randrange(ITEMS)
        for place in range(6):
            # Another item each time: an item stands once in a slate.
            item = f"v{(start + place * 977) % ITEMS}"
            name = impression_identity(request, item)
            shown = (LIVE, ts, request, unit, arm, VERSION, item, place, 0, rng.random(), 0.5)
            events.append(Impression(name, *shown))
            if place:
                kind = ("click", "long_view")[place % 2]
                name = feedback_identity(request, item, kind, 0)
                events.append(Feedback(name, LIVE, ts + 1, request, unit, item, kind, 1.0, 0))
        yield unit, codec.encode(events)
