"""Ingest: events a second from Kafka into PostgreSQL, beside plain COPY of the same rows, and `executemany`.

ARMLIFT_BENCH_EVENTS says how many events are produced and ingested (default 540,000); 10,000,000 shows
whether the cost of an event stays the same as the tables grow. Ways to store are compared on 480,000 at most,
and on a batch less than there are: the ingester reads ahead, and must not run out of records while timed.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from brokers import Broker, kafka
from databases import postgresql
from figures import Figure, show
from sqlalchemy import BigInteger, Boolean, Connection, Engine, Float, Integer, String, Table, insert, text

from armlift import runs
from armlift.batch import Batch
from armlift.days import DAY_MS, Calendar
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
from armlift.ingest import BATCH, Ingester
from armlift.rollup import roll_up_all
from armlift.settings import KafkaSettings
from armlift.store import tables
from armlift.store.database import connect, upgrade, writing
from armlift.store.partitions import Partitions
from armlift.store.sink import Rows, insert_new
from armlift.streams.kafka import KafkaStream

ROOT = Path(__file__).resolve().parents[1]
A_MESSAGE = 12
COMPARED = 480_000
"""Events that the ways to store are compared with, at most."""
EVENTS = int(os.environ.get("ARMLIFT_BENCH_EVENTS", COMPARED + A_MESSAGE * BATCH))
PARTITIONS = 4
START = 1_790_000_000_000
UNITS = 50_000
RUN = "benchrun00000000"
METRICS = {
    "clicks": {"kind": "mean", "of": {"event": "click"}},
    "watch_time": {"kind": "mean", "of": {"event": "play", "aggregate": "sum"}},
    "click_rate": {
        "kind": "ratio",
        "numerator": {"event": "click"},
        "denominator": {"event": "impression"},
    },
}
DEFINITION = {"name": "bench", "arms": {"a": 1, "b": 1}, "control": "a", "metrics": {"primary": ["clicks"]}}

FILLED = (
    *("exposures", "impressions", "feedback", "unit_days", "runs"),
    *("stream_offsets", "dead_letters", "touched_cells", "arrivals"),
)
"""The tables that are emptied before each measurement."""

TYPES = {String: "varchar", Integer: "int4", BigInteger: "int8", Float: "float8", Boolean: "bool"}
"""What PostgreSQL calls the columns' types."""
Message = tuple[str, bytes]


def messages(number: int, *, seed: int = 0) -> list[Message]:
    """Make messages of one request each: an exposure, six impressions, five of feedback; one every 10 ms."""
    rng, codec, made = random.Random(seed), Codec(KINDS), []
    for count in range(number):
        ts, unit = START + 10 * count, f"u{rng.randrange(UNITS)}"
        request, arm = request_identity(ts, f"{unit}|{count}"), "ab"[int(unit[1:]) % 2]
        name = exposure_identity(ts, RUN, unit, "bench", arm)
        events: list[Event] = [Exposure(name, RUN, ts, unit, "bench", 0, 0, arm, "0123456789ab")]
        for place in range(6):
            item = f"v{rng.randrange(100_000)}"
            name = impression_identity(request, item)
            shown = (RUN, ts, request, unit, arm, "0123456789ab", item, place, 0, rng.random(), 0.5)
            events.append(Impression(name, *shown))
            if place:
                kind = KINDS[place % 2]
                name = feedback_identity(request, item, kind, 0)
                events.append(Feedback(name, RUN, ts + 1000, request, unit, item, kind, rng.random() + 0.1))
        made.append((unit, codec.encode(events)))
    return made


def produce(stream: KafkaStream, sent: Sequence[Message]) -> float:
    """Publish messages and wait until the broker has them; gives the seconds."""
    start = time.perf_counter()
    for key, value in sent:
        stream.publish(key, value)
    stream.flush()
    return time.perf_counter() - start


def begin(engine: Engine, *, counted: bool) -> None:
    """Empty the tables; with `counted` the events are of a run that has metrics."""
    with writing(engine) as connection:
        connection.execute(text(f"TRUNCATE {', '.join(FILLED)}"))
        if counted:
            empty: dict[str, object] = {}
            run = runs.Run(
                RUN,
                1,
                "bench",
                "live",
                False,
                6,
                0,
                "running",
                True,
                {"experiment": DEFINITION, "metrics": METRICS},
                {},
                empty,
                empty,
                {},
            )
            connection.execute(insert(tables.runs).values(run._asdict()))


def ingest(engine: Engine, stream: KafkaStream, number: int) -> list[tuple[int, float]]:
    """Move all messages of a topic with armlift's ingester; gives (messages, seconds) after each batch."""
    one = Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects())
    points, start = [(0, 0.0)], None
    while one.total["records"] < number:
        done = one.step(timeout=5)
        if start is None:  # the first batch waits for the group to form
            start = time.perf_counter()
            first = done.records
            continue
        points.append((one.total["records"] - first, time.perf_counter() - start))
    return points


def rows_of(sent: Sequence[Message]) -> list[Batch]:
    """Decode messages into batches of rows, outside any timing."""
    codec, calendar, made = Codec(KINDS), Calendar("UTC"), []
    for first in range(0, len(sent), BATCH):
        batch = Batch(calendar)
        for _, raw in sent[first : first + BATCH]:
            batch.add(codec.decode(raw)[0])
        made.append(batch)
    return made


Insert = Callable[[Connection, Table, Rows], object]


def seconds_of(engine: Engine, batches: Sequence[Batch], insert_rows: Insert) -> float:
    """Time storing rows that are there already decoded, a transaction a batch, and nothing else."""
    start = time.perf_counter()
    for batch in batches:
        with writing(engine) as connection:
            for table, rows in batch.rows.items():
                if rows:
                    insert_rows(connection, table, rows)
    return time.perf_counter() - start


def copy_and_upsert(connection: Connection, table: Table, rows: Rows) -> None:
    """Copy rows into a temporary table, and insert from there what is new."""
    staged, driver = f"plain_{table.name}", connection.connection.driver_connection
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {table.name}) ON COMMIT DELETE ROWS"
    )
    assert driver is not None
    with driver.cursor() as cursor, cursor.copy(f"COPY {staged} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([TYPES[type(column.type)] for column in table.c])
        for row in rows:
            copy.write_row(row)
    connection.exec_driver_sql(f"INSERT INTO {table.name} SELECT * FROM {staged} ON CONFLICT DO NOTHING")


def executemany(engine: Engine, stream: KafkaStream, number: int) -> float:
    """Time a consumer that decodes as armlift does and inserts by one `executemany` a table and poll."""
    codec, calendar = Codec(KINDS), Calendar("UTC")

    def placed(partitions: list[int]) -> None:
        for partition in partitions:
            stream.seek(partition, 0)

    stream.subscribe("plain", placed, lambda _: None)
    moved, first, start = 0, 0, None
    while moved < number:
        records = stream.poll(BATCH, 5)
        batch = Batch(calendar)
        for record in records:
            batch.add(codec.decode(record.value)[0])
        with writing(engine) as connection:
            for table, rows in batch.rows.items():
                many(connection, table.name, rows)
        moved += len(records)
        if start is None:
            start, first = time.perf_counter(), moved
    assert start is not None
    return (time.perf_counter() - start) * number / max(1, moved - first)


def many(connection: Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows as the driver's `executemany` does."""
    if rows:
        marks = ", ".join(["%s"] * len(rows[0]))
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO NOTHING", list(rows))


def settings() -> KafkaSettings:
    """Say what the topics are like."""
    return KafkaSettings(partitions=PARTITIONS)


def main() -> None:
    """Measure and print."""
    with kafka(ROOT) as broker, postgresql(fsync=True) as server:
        if broker is None or server is None:
            sys.exit("bench ingest needs a Kafka broker and PostgreSQL's programs")
        print(f"{broker.name}, {server.name}, {EVENTS:,} events", flush=True)
        engine = connect(server.url, Path())
        upgrade(engine)
        show(measure(engine, broker))
        engine.dispose()


def measure(engine: Engine, broker: Broker) -> list[Figure]:
    """Measure one thing after another on the same messages."""
    sent = messages(EVENTS // A_MESSAGE)
    some = sent[: min(COMPARED // A_MESSAGE, len(sent) - BATCH)]
    events = A_MESSAGE * len(some)
    Partitions(engine).ensure(range(START // DAY_MS, (START + 10 * len(sent)) // DAY_MS + 1))
    url = broker.url("bench")
    with KafkaStream(url, settings()) as stream:
        produced = A_MESSAGE * len(sent) / produce(stream, sent)
    begin(engine, counted=False)
    with KafkaStream(url, settings()) as stream:
        points = ingest(engine, stream, len(sent))
    begin(engine, counted=False)
    with KafkaStream(url, settings()) as stream:
        stored = rate(ingest(engine, stream, len(some)))
    begin(engine, counted=True)
    with KafkaStream(url, settings()) as stream:
        start = time.perf_counter()
        ingest(engine, stream, len(some))
        roll_up_all(engine, runs.Subjects())
        counted = events / (time.perf_counter() - start)
    begin(engine, counted=False)
    batches = rows_of(some)
    copied = events / seconds_of(engine, batches, copy_and_upsert)
    begin(engine, counted=False)
    alone = events / seconds_of(engine, batches, insert_new)
    begin(engine, counted=False)
    with KafkaStream(url, settings()) as stream:
        plain = events / executemany(engine, stream, len(some))
    return figures(produced, stored, counted, alone, copied, plain, points)


def rate(points: Sequence[tuple[int, float]]) -> float:
    """Give the events a second over all points."""
    done, seconds = points[-1]
    return A_MESSAGE * done / seconds


def figures(
    produced: float,
    stored: float,
    counted: float,
    alone: float,
    copied: float,
    plain: float,
    points: Sequence[tuple[int, float]],
) -> list[Figure]:
    """Compare the rates, in events a second; `points` are those of `ingest`."""
    early, late = _cost(points, 0.1, 0.3), _cost(points, 0.8, 1.0)
    unit = "events/s"
    plain_copy = ("COPY and upsert", copied)
    return [
        Figure(
            "produce", produced, unit, "ingest", stored, produced / stored, ">= 200,000/s", produced >= 2e5
        ),
        Figure("ingest", stored, unit, *plain_copy, stored / copied, ">= 0.65 x", stored >= 0.65 * copied),
        Figure("ingest", stored, unit, "executemany", plain, stored / plain, ">= 2 x", stored >= 2 * plain),
        Figure("ingest", stored, unit, "its own sink alone", alone, stored / alone, "none", True),
        Figure("ingest with rollup", counted, unit, *plain_copy, counted / copied, "none", True),
        Figure(
            "late event", late, "us", "early event", early, late / early, "<= 1.25 x", late <= 1.25 * early
        ),
    ]


def _cost(points: Sequence[tuple[int, float]], low: float, high: float) -> float:
    """Give the microseconds an event took between two shares of all messages."""
    total = points[-1][0]
    within = [(done, at) for done, at in points if low * total <= done <= high * total]
    (first, began), (last, ended) = within[0], within[-1]
    return (ended - began) / max(1, last - first) / A_MESSAGE * 1e6


if __name__ == "__main__":
    main()
