"""Soak: an ingester killed again and again, at chosen points, loses no event and counts none twice.

Kafka and PostgreSQL are real. A child ingests and says when it is at the point where it is to die; it is then
killed with SIGKILL, and the next one goes on. In the end the tables must equal those of a run that nobody
killed. With `--bug` offsets are moved in a transaction of their own: the soak must then fail.

    python benchmarks/soak_ingest.py [--kills 65] [--bug]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench_ingest import A_MESSAGE, begin, messages, produce, settings
from brokers import kafka
from databases import postgresql
from sqlalchemy import Connection, Engine, Table, select

from armlift import batch, ingest, runs
from armlift.days import Calendar
from armlift.events import KINDS, Codec
from armlift.ingest import Ingester
from armlift.store import tables
from armlift.store.database import connect, upgrade, writing
from armlift.streams.kafka import KafkaStream

ROOT = Path(__file__).resolve().parents[1]
POINTS = ("poll", "copy", "before commit", "after commit", "rollup")
MESSAGES = 20_000
BATCH = 40
SESSION_SECONDS = 6.0
"""The shortest a broker allows: a killed child's partitions are free after it."""
COMPARED = (tables.exposures, tables.impressions, tables.feedback, tables.unit_days, tables.dead_letters)


def child(url: str, database: str, point: str, count: int, bug: bool) -> None:
    """Ingest to the end, or stop and wait to be killed when a point is reached for the `count`-th time."""
    left = [count]

    def after(owner: Any, name: str, where: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def hooked(*arguments: Any, **named: Any) -> Any:
            answer = original(*arguments, **named)
            if where == point:
                left[0] -= 1
                if not left[0]:
                    os.write(1, f"at {point}\n".encode())
                    signal.pause()
            return answer

        setattr(owner, name, hooked)

    after(Ingester, "_read", "poll")
    after(batch, "insert_new", "copy")
    after(batch, "append", "before commit")
    after(Ingester, "_store", "after commit")
    after(ingest, "roll_up", "rollup")
    engine = connect(database, Path())
    if bug:
        move = Ingester._move_offsets

        def apart(self: Ingester, _: Connection, *offsets: Mapping[int, int]) -> None:
            with writing(engine) as own:
                move(self, own, *offsets)

        setattr(Ingester, "_move_offsets", apart)  # noqa: B010 (mypy: a method is not to be assigned)
    quick = settings().model_copy(update={"session_seconds": SESSION_SECONDS})
    with KafkaStream(url, quick) as stream:
        one = Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects(), batch=BATCH)
        one.drain(wait=120)
    os.write(1, b"done\n")


def content(engine: Engine) -> dict[str, Counter[tuple[Any, ...]]]:
    """Read the tables whole, as bags of rows."""

    def rows(table: Table) -> Counter[tuple[Any, ...]]:
        columns = [column for column in table.c if column.name != "stream_id"]
        with engine.connect() as connection:
            return Counter(tuple(row) for row in connection.execute(select(*columns)))

    return {table.name: rows(table) for table in COMPARED}


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=65)
    parser.add_argument("--bug", action="store_true", help="move offsets outside the transaction")
    parser.add_argument("--child", nargs=4, metavar=("URL", "DATABASE", "POINT", "COUNT"))
    asked = parser.parse_args()
    if asked.child:
        url, database, point, count = asked.child
        child(url, database, point, int(count), asked.bug)
        return
    with kafka(ROOT) as broker, postgresql() as server:
        if broker is None or server is None:
            sys.exit("the soak needs a Kafka broker and PostgreSQL's programs")
        print(f"{broker.name}, {server.name}", flush=True)
        sys.exit(soak(broker.url("soak"), server.url, asked.kills, asked.bug))


def soak(url: str, database: str, kills: int, bug: bool) -> int:
    """Ingest the same messages without kills, then with; gives 0 where the tables are equal."""
    engine = connect(database, Path())
    upgrade(engine)
    sent = messages(MESSAGES)
    with KafkaStream(url, settings()) as stream:
        produce(stream, sent)
    begin(engine, counted=True)
    with KafkaStream(url, settings()) as stream:
        Ingester(engine, stream, Codec(KINDS), Calendar("UTC"), runs.Subjects()).drain(wait=60)
    expected = content(engine)
    begin(engine, counted=True)
    rng, done = random.Random(0), Counter[str]()
    for number in range(kills):
        point = POINTS[number % len(POINTS)]
        killed = _kill(url, database, point, rng.randrange(1, 4), bug)
        done[point] += killed
        print(f"{number + 1:3} of {kills}: {'killed' if killed else 'ended'} at {point}", flush=True)
    _kill(url, database, "none", 1, bug)
    found = content(engine)
    lost = sum(sum((expected[name] - found[name]).values()) for name in expected)
    doubled = sum(sum((found[name] - expected[name]).values()) for name in expected)
    figures: dict[str, object] = {
        "soak": "ingest",
        "kills": done.total(),
        "events": A_MESSAGE * len(sent),
        "lost": lost,
        "duplicated": doubled,
    }
    print(f"kills by point: {dict(done)}")
    print(json.dumps(figures))
    engine.dispose()
    return int(bool(lost or doubled))


def _kill(url: str, database: str, point: str, count: int, bug: bool) -> bool:
    """Run a child and kill it at the point; gives whether it came there before it had done everything."""
    command = [sys.executable, __file__, *["--bug"] * bug, "--child", url, database, point, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline().strip()
        if line == f"at {point}":
            time.sleep(0.01)
            process.kill()
            return True
        if line != "done":
            raise RuntimeError(f"the child ended with {process.wait()}: {line!r}")
    return False


if __name__ == "__main__":
    main()
