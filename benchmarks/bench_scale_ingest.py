"""Ingest by number: events a second of 1, 2 and 4 `armlift ingest` processes on one PostgreSQL and one topic.

    python benchmarks/bench_scale_ingest.py [--events 2400000] [--processes 1 2 4] [--partitions 8]

Broker and database run beside on the same cores: more processes pay only where there are more cores than
these two take. Measured are events whose run has no metrics, and events that the rollup counts, until the
last mark is computed; each from when all have begun, so that what their group takes to settle is in it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench_ingest import A_MESSAGE, START, begin, messages, produce
from brokers import kafka
from databases import postgresql
from figures import Figure, show
from sqlalchemy import Engine

from armlift.days import DAY_MS
from armlift.ingest import stored_offsets
from armlift.lab import init_lab
from armlift.rollup import marked
from armlift.settings import KafkaSettings
from armlift.store.database import connect, upgrade
from armlift.store.partitions import Partitions
from armlift.streams.kafka import KafkaStream

ROOT = Path(__file__).resolve().parents[1]
LOOK_SECONDS = 0.05


@contextmanager
def ingesting(number: int, words: Sequence[str]) -> Iterator[None]:
    """Run so many ingesters, each from when it has joined in."""
    program = [sys.executable, "-c", "from armlift.cli import main; main()", "ingest", *words]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
            for _ in range(number)
        ]
        try:
            for one in started:
                assert one.stderr is not None
                if not one.stderr.readline().startswith("ingesting"):
                    raise RuntimeError(one.stderr.read())
            yield
        finally:
            for one in started:
                one.terminate()


def rate(engine: Engine, stream: KafkaStream, *, counted: bool) -> float:
    """Wait until the topic is stored, and counted; gives the events a second from now on."""

    def stored() -> int:
        with engine.connect() as connection:
            return sum(stored_offsets(connection, stream.stream_id).values())

    def left() -> bool:
        with engine.connect() as connection:
            return marked(connection)

    end, first, began = sum(stream.end_offsets().values()), stored(), time.perf_counter()
    while stored() < end or (counted and left()):
        time.sleep(LOOK_SECONDS)
    return A_MESSAGE * (end - first) / (time.perf_counter() - began)


def measure(events: int, numbers: Sequence[int], partitions: int) -> None:
    """Fill a topic, and measure on it."""
    with kafka(ROOT) as broker, postgresql(fsync=True) as server, tempfile.TemporaryDirectory() as folder:
        if broker is None or server is None:
            sys.exit("bench scale_ingest needs a Kafka broker and PostgreSQL's programs")
        print(f"{broker.name}, {server.name}, {events:,} events, {os.cpu_count()} cores", flush=True)
        init_lab(Path(folder) / "lab")
        engine, url = connect(server.url, Path()), broker.url("scale")
        upgrade(engine)
        sent = messages(events // A_MESSAGE)
        Partitions(engine).ensure(range(START // DAY_MS, (START + 10 * len(sent)) // DAY_MS + 1))
        words = ["--lab", f"{folder}/lab", "--database", server.url, "--stream", url]
        with KafkaStream(url, KafkaSettings(partitions=partitions)) as stream:
            produce(stream, sent)
            for name, counted in (("ingest", False), ("ingest with rollup", True)):
                rates: dict[int, float] = {}
                for number in numbers:
                    begin(engine, counted=counted)
                    with ingesting(number, words):
                        rates[number] = rate(engine, stream, counted=counted)
                show(figures(name, rates))
        engine.dispose()


def figures(name: str, rates: Mapping[int, float]) -> list[Figure]:
    """Compare the rates of each number of processes with that of the first one."""
    first, alone = next(iter(rates.items()))
    return [
        Figure(
            f"{name} by {number}", value, "events/s", f"{name} by {first}", alone, value / alone, "none", True
        )
        for number, value in rates.items()
    ]


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_400_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--partitions", type=int, default=8)
    asked = parser.parse_args()
    measure(asked.events, asked.processes, asked.partitions)


if __name__ == "__main__":
    main()
