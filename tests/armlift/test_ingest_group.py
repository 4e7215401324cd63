"""Ingesters share a topic: however many, and whatever becomes of them, each event is stored and counted once.

Broker, database and `armlift ingest` are real, the last in processes of their own.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from bench_ingest import RUN, Message, begin, messages, produce
from brokers import Broker
from kafka import KafkaAdminClient
from serving_lab import wait_for
from sqlalchemy import Engine, delete, func, select

from armlift import runs
from armlift.batch import TABLES
from armlift.events import KINDS, Codec
from armlift.ingest import stored_offsets
from armlift.lab import init_lab
from armlift.rollup import marked, rebuild
from armlift.settings import KafkaSettings, kafka_address
from armlift.store import tables
from armlift.store.database import writing
from armlift.streams.kafka import KafkaStream

PARTITIONS = 8
PATIENCE = 90.0

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


class Group:
    """A topic, a database, and the processes between them."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine, self.url, self._folder = engine, url, folder
        self.sent: list[Message] = []
        self.running: list[subprocess.Popen[str]] = []
        self._source = messages(6_000)
        self._opened = ExitStack()
        kafka = KafkaSettings(partitions=PARTITIONS)
        self.stream = self._opened.enter_context(KafkaStream(url, kafka))
        self._admin: Any = KafkaAdminClient(bootstrap_servers=kafka_address(url)[0])
        self._opened.callback(self._admin.close)
        init_lab(folder)
        text = (folder / "armlift.toml").read_text()
        assert "\nsession_seconds = 10 " in text
        text = text.replace("Asia/Shanghai", "UTC").replace("session_seconds = 10", "session_seconds = 2")
        (folder / "armlift.toml").write_text(text)

    def start(self) -> subprocess.Popen[str]:
        """Begin an ingester; returns when it has joined in."""
        database = self.engine.url.render_as_string(hide_password=False)
        words = ["ingest", "--lab", str(self._folder), "--database", database, "--stream", self.url, "--json"]
        program = [sys.executable, "-c", "from armlift.cli import main; main()", *words]
        begun = self._opened.enter_context(
            subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        self._opened.callback(begun.kill)
        assert begun.stderr is not None
        assert begun.stderr.readline() == "ingesting; stop with Ctrl-C\n"
        self.running.append(begun)
        return begun

    def stop(self, one: subprocess.Popen[str]) -> dict[str, int]:
        """End an ingester in order; gives what it stored."""
        self.running.remove(one)
        one.terminate()
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
        done: dict[str, int] = json.loads(out)
        return done

    def kill(self, one: subprocess.Popen[str]) -> None:
        """End an ingester as a power cut would."""
        self.running.remove(one)
        one.kill()
        one.wait()

    def publish(self, number: int) -> None:
        """Publish some more messages."""
        some = self._source[len(self.sent) :][:number]
        produce(self.stream, some)
        self.sent += some

    def settle(self) -> None:
        """Wait until all that was published is stored and counted."""
        ends = {partition: end for partition, end in self.stream.end_offsets().items() if end}

        def done() -> bool:
            assert [one.poll() for one in self.running if one.poll() is not None] == []
            with self.engine.connect() as connection:
                return stored_offsets(connection, self.stream.stream_id) == ends and not marked(connection)

        wait_for(done, PATIENCE)

    def shares(self) -> list[int]:
        """Ask the broker how many partitions each member has; nothing while the group changes."""
        name = f"{kafka_address(self.url)[1]}.ingest"
        found = self._admin.describe_groups([name])[name]
        if found["group_state"] != "Stable":
            return []
        parts = [one["member_assignment"]["assigned_partitions"] for one in found["members"]]
        return sorted(sum(len(topic["partitions"]) for topic in some) for some in parts)

    def add_partitions(self, number: int) -> None:
        """Let the topic have so many partitions."""
        self._admin.create_partitions({kafka_address(self.url)[1]: number})

    def check(self) -> None:
        """Check that every event is there, that none arrived twice, that the rollup counted each once."""
        events = [event for _, raw in self.sent for event in Codec(KINDS).decode(raw)[0]]
        with self.engine.connect() as connection:
            for kind, table in TABLES.items():
                stored = connection.execute(select(table.c.event_id)).scalars().all()
                assert sorted(stored) == sorted(e.event_id for e in events if type(e) is kind)
            arrived = connection.execute(select(func.sum(tables.arrivals.c.events))).scalar()
            assert arrived == len(events)
            assert not connection.execute(select(tables.dead_letters)).all()
        counted = self._counted()
        with writing(self.engine) as connection:
            connection.execute(delete(tables.unit_days))
            for subject in runs.Subjects()(connection, {RUN}):
                rebuild(connection, subject)
        assert counted
        assert counted == self._counted()

    def close(self) -> None:
        """End what runs."""
        self._opened.close()

    def _counted(self) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return sorted(tuple(row) for row in connection.execute(select(tables.unit_days)))


@pytest.fixture
def group(engine: Engine, durable: Broker, tmp_path: Path) -> Iterator[Group]:
    """Give a group without members, over a topic and a run that are empty."""
    begin(engine, counted=True)
    made = Group(engine, durable.url(f"group-{uuid4().hex}"), tmp_path / "lab")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_each_event_is_stored_once_by_however_many(group: Group, number: int) -> None:
    group.publish(500)
    members = [group.start() for _ in range(number)]
    for _ in range(4):
        group.publish(200)
    group.settle()
    wait_for(lambda: group.shares() == [PARTITIONS // number] * number, PATIENCE)
    group.publish(500)
    group.settle()
    done = [group.stop(one) for one in members]
    assert all(one["records"] for one in done), "each took part"
    assert sum(one["records"] for one in done) == len(group.sent) == 1_800
    group.check()


def test_members_that_die_and_come_lose_and_double_nothing(group: Group) -> None:
    members = [group.start() for _ in range(3)]
    group.publish(600)
    group.kill(members[0])
    group.publish(600)
    members.append(group.start())
    group.publish(600)
    group.stop(members[1])
    group.publish(600)
    group.kill(members[2])
    group.publish(600)
    group.settle()
    assert group.running == members[3:]
    group.check()


def test_one_that_was_away_for_longer_than_its_session_comes_back(group: Group) -> None:
    paused, other = group.start(), group.start()
    group.publish(600)
    wait_for(lambda: group.shares() == [4, 4], PATIENCE)
    group.publish(600)
    group.settle()  # not amid a transaction, whose locks the other one would wait for
    paused.send_signal(signal.SIGSTOP)
    try:
        group.publish(600)
        wait_for(lambda: group.shares() == [PARTITIONS], PATIENCE)
        group.settle()
    finally:
        paused.send_signal(signal.SIGCONT)
    wait_for(lambda: group.shares() == [4, 4], PATIENCE)
    group.publish(600)
    group.settle()
    done = [group.stop(one) for one in (paused, other)]
    assert sum(one["records"] for one in done) == len(group.sent)
    group.check()


def test_partitions_that_are_added_are_taken_by_who_runs(group: Group) -> None:
    def grown() -> bool:
        group.publish(1)
        return len(group.stream.end_offsets()) == PARTITIONS + 2

    members = [group.start() for _ in range(2)]
    group.publish(600)
    group.add_partitions(PARTITIONS + 2)
    wait_for(lambda: group.shares() == [5, 5], PATIENCE)
    wait_for(grown, PATIENCE)
    group.publish(600)
    group.settle()
    assert all(group.stream.end_offsets().values())
    assert sum(group.stop(one)["records"] for one in members) == len(group.sent)
    group.check()
