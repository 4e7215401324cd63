"""What other processes accept is seen soon, also after the stream was away."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker

from armlift.errors import StreamError
from armlift.events import KINDS, Codec, Event, Feedback, feedback_identity, request_identity
from armlift.serving.follower import Follower, FollowerFigures
from armlift.settings import KafkaSettings
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.kafka import KafkaStream
from armlift.streams.stream import EventStream

START = 1_700_000_000_000
PATIENCE = 20.0


def sent(number: int) -> Feedback:
    request = request_identity(START + number, "r")
    identity = feedback_identity(request, f"{number}", "click", 0)
    return Feedback(identity, "live", START + number, request, f"u{number % 5}", f"{number}", "click", 1.0)


def publish(stream: EventStream, *numbers: int) -> None:
    for number in numbers:
        stream.publish(f"u{number % 5}", Codec(KINDS).encode([sent(number)]))
    stream.flush()


def wait_until(true: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < PATIENCE, "nothing happened"
        time.sleep(0.005)
    return time.monotonic() - began


class Seen:
    """What a follower applied, and how often it had missed something."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.missed = 0

    def apply(self, events: list[Event]) -> None:
        self.events += events

    def miss(self) -> None:
        self.missed += 1

    @property
    def numbers(self) -> set[int]:
        return {one.ts - START for one in self.events}


def follow(seen: Seen, open_stream: Callable[[], EventStream], **options: object) -> Follower:
    return Follower(open_stream, KINDS, seen.apply, missed=seen.miss, **options)  # type: ignore[arg-type]


def test_it_begins_at_the_end_and_sees_what_comes_within_a_second(tmp_path: Path) -> None:
    seen, folder = Seen(), tmp_path / "stream"
    with EmbeddedStream(folder, 3) as stream:
        publish(stream, *range(20))
        with follow(seen, lambda: EmbeddedStream(folder)) as follower:
            wait_until(lambda: follower.figures.up)
            publish(stream, *range(20, 40))
            assert wait_until(lambda: len(seen.events) == 20) < 1
            stream.publish("u", b"no message")
            stream.flush()
            wait_until(lambda: follower.figures.records == 21 and follower.figures.behind < 0.5)
            assert follower.figures[:5] == (True, 21, 1, 0, None)
            wait_until(lambda: follower.figures.behind > 0.5)
            wait_until(lambda: follower.figures.behind < 0.5)
    assert seen.numbers == {*range(20, 40)}
    assert seen.missed == 1
    assert not follower.figures.up
    assert [*(folder / "groups").iterdir()] == [], "nothing is left of its group"
    assert "armlift-follower" not in {thread.name for thread in threading.enumerate()}


def test_it_begins_where_the_database_ends(tmp_path: Path) -> None:
    seen, folder = Seen(), tmp_path / "stream"
    with EmbeddedStream(folder, 1) as stream:
        publish(stream, *range(20))
        with follow(seen, lambda: EmbeddedStream(folder), ingested=lambda _: {0: 15}):
            wait_until(lambda: len(seen.events) == 5)
        with follow(seen, lambda: EmbeddedStream(folder), ingested=lambda _: {0: 99}) as follower:
            wait_until(lambda: follower.figures.up)
            publish(stream, 20)
            wait_until(lambda: len(seen.events) == 6)
    assert seen.numbers == {*range(15, 21)}


def test_it_begins_anew_after_a_failure_and_says_that_it_was_away(tmp_path: Path) -> None:
    seen, folder, broken = Seen(), tmp_path / "stream", threading.Event()

    def reopen() -> EventStream:
        if broken.is_set():
            raise StreamError("the stream is\naway")
        return EmbeddedStream(folder)

    def apply(events: list[Event]) -> None:
        if broken.is_set():
            raise ValueError("cannot")
        seen.apply(events)

    with EmbeddedStream(folder) as stream:
        follower = Follower(reopen, KINDS, apply, missed=seen.miss, retry_after=0.05)
        assert follower.figures == FollowerFigures(False, 0, 0, 0, None, 0.0)
        with follower:
            wait_until(lambda: follower.figures.up)
            broken.set()
            publish(stream, 1)
            wait_until(lambda: follower.figures.failures > 2)
            figures = follower.figures
            assert (figures.up, figures.records, figures.error) == (
                False,
                0,
                "StreamError: the stream is away",
            )
            wait_until(lambda: follower.figures.behind > 0.3)
            broken.clear()
            wait_until(lambda: follower.figures.up)
            assert seen.missed == 2
            publish(stream, 2)
            wait_until(lambda: seen.numbers == {2})
            wait_until(lambda: follower.figures.behind < 0.3)
        follower.start()
        wait_until(lambda: follower.figures.up)
        follower.stop()
        follower.stop()
    assert [*(folder / "groups").iterdir()] == []


def test_followers_and_ingesters_do_not_take_from_each_other(tmp_path: Path) -> None:
    first, second, folder = Seen(), Seen(), tmp_path / "stream"
    with EmbeddedStream(folder, 2) as stream:
        stream.subscribe("ingest", lambda _: None, lambda _: None)
        with (
            follow(first, lambda: EmbeddedStream(folder)) as one,
            follow(second, lambda: EmbeddedStream(folder)) as other,
        ):
            wait_until(lambda: one.figures.up and other.figures.up)
            publish(stream, *range(10))
            wait_until(lambda: len(first.events) == len(second.events) == 10)
            assert len(stream.poll(100, 5.0)) == 10
    assert sorted(path.name for path in (folder / "groups" / "ingest").iterdir()) == ["0.lock", "1.lock"]


def test_it_follows_kafka(broker: Broker) -> None:
    if not broker.durable:
        pytest.skip(f"{broker.name} counts ends by batches")
    seen, url = Seen(), broker.url(f"follower-{uuid4().hex}")

    def reopen() -> EventStream:
        return KafkaStream(url, KafkaSettings(partitions=3))

    with reopen() as stream:
        publish(stream, *range(20))
        with follow(seen, reopen) as follower:
            wait_until(lambda: follower.figures.up)
            publish(stream, *range(20, 40))
            assert wait_until(lambda: len(seen.events) == 20) < 1
            wait_until(lambda: follower.figures.behind < 0.9)
    assert seen.numbers == {*range(20, 40)}
    assert follower.figures.failures == 0
