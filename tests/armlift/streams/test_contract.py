"""What every event stream promises; an implementation joins by a function in `STREAMS`."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker

from armlift.errors import InputError, StreamError
from armlift.settings import KafkaSettings
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.kafka import KafkaStream
from armlift.streams.stream import EventStream, Partition, Record, partition_of

PATIENCE = 30.0
MIB = 1024 * 1024

Opener = Callable[[], EventStream]
NewStream = Callable[[int], Opener]


def embedded(request: pytest.FixtureRequest, name: str, partitions: int) -> EventStream:
    folder: Path = request.getfixturevalue("tmp_path")
    return EmbeddedStream(folder / name, partitions, claim_seconds=0.02)


TANSU_CANNOT = {
    "test_offsets_tell_where_a_partition_begins_and_ends",
    "test_seek_reads_on_from_any_offset",
    "test_a_batch_can_be_read_again_from_where_it_began",
    "test_an_offset_out_of_range_is_an_error_until_mended",
    "test_a_member_comes_back_to_its_own_positions",
    "test_a_partition_has_one_owner_and_passes_on_at_close",
}
"""It counts a partition's end by batches, and is slow to hand a partition on."""


def kafka(request: pytest.FixtureRequest, name: str, partitions: int) -> EventStream:
    broker: Broker = request.getfixturevalue("broker")
    if not broker.durable and request.node.originalname in TANSU_CANNOT:
        pytest.skip(f"{broker.name} counts ends by batches and is slow to hand partitions on")
    return KafkaStream(broker.url(name), KafkaSettings(partitions=partitions))


STREAMS = {"embedded": embedded, "kafka": kafka}


@pytest.fixture(params=sorted(STREAMS))
def new_stream(request: pytest.FixtureRequest) -> Iterator[NewStream]:
    """Give `new_stream(partitions)`, which gives a function that opens an object on that same stream."""
    with ExitStack() as opened:

        def make(partitions: int) -> Opener:
            name = f"stream-{uuid4().hex}"
            return lambda: opened.enter_context(STREAMS[request.param](request, name, partitions))

        yield make


class Member:
    """A reader that keeps its own positions, as the ingester does."""

    def __init__(
        self, stream: EventStream, group: str = "ingest", positions: dict[Partition, int] | None = None
    ) -> None:
        self.stream = stream
        self.positions = positions or {}
        self.assigned: list[Partition] = []
        self.revoked: list[Partition] = []
        stream.subscribe(group, self.on_assign, self.revoked.extend)

    def on_assign(self, partitions: list[Partition]) -> None:
        self.assigned += partitions
        for partition in partitions:
            if partition in self.positions:
                self.stream.seek(partition, self.positions[partition])

    def join(self, partitions: int) -> None:
        until = time.monotonic() + PATIENCE
        while len(self.assigned) < partitions and time.monotonic() < until:
            assert self.stream.poll(1, 0.05) == []
        assert sorted(self.assigned) == list(range(partitions))

    def read(self, count: int) -> list[Record]:
        records: list[Record] = []
        until = time.monotonic() + PATIENCE
        while len(records) < count and time.monotonic() < until:
            records += self.stream.poll(count - len(records), 0.5)
        assert len(records) == count
        self.positions |= {record.partition: record.offset + 1 for record in records}
        return records


def publish(stream: EventStream, count: int, start: int = 0) -> list[tuple[str, bytes]]:
    pairs = [(f"unit-{number % 40}", b"%d" % number) for number in range(start, start + count)]
    for key, value in pairs:
        stream.publish(key, value)
    stream.flush()
    return pairs


def test_each_record_comes_back_once_in_the_order_of_its_partition(new_stream: NewStream) -> None:
    stream = new_stream(3)()
    pairs = publish(stream, 1000)
    records = Member(stream).read(1000)
    for partition in range(3):
        mine = [record for record in records if record.partition == partition]
        assert [(r.key, r.value) for r in mine] == [p for p in pairs if partition_of(p[0], 3) == partition]
        assert [record.offset for record in mine] == list(range(len(mine)))
    assert stream.poll(10, 0.05) == []


def test_the_partition_of_a_key_is_pinned_and_shares_are_even() -> None:
    assert [partition_of(key, 8) for key in ("", "unit-0", "unit-1", "用户-7")] == [2, 3, 5, 0]
    parts = [partition_of(f"unit-{number}", 3) for number in range(3000)]
    assert all(900 < parts.count(partition) < 1100 for partition in range(3))


def test_offsets_tell_where_a_partition_begins_and_ends(new_stream: NewStream) -> None:
    stream = new_stream(2)()
    assert stream.beginning_offsets() == stream.end_offsets() == {0: 0, 1: 0}
    pairs = publish(stream, 50)
    counts = {part: sum(partition_of(key, 2) == part for key, _ in pairs) for part in range(2)}
    assert stream.end_offsets() == counts
    assert stream.beginning_offsets() == {0: 0, 1: 0}


def test_what_is_flushed_is_readable_by_another_object(new_stream: NewStream) -> None:
    open_stream = new_stream(1)
    writer, reader = open_stream(), Member(open_stream())
    reader.join(1)
    for round_ in range(3):
        pairs = publish(writer, 20, start=20 * round_)
        assert [(record.key, record.value) for record in reader.read(20)] == pairs


def test_close_flushes(new_stream: NewStream) -> None:
    open_stream = new_stream(1)
    with open_stream() as writer:
        writer.publish("unit", b"last words")
    assert [record.value for record in Member(open_stream()).read(1)] == [b"last words"]


def test_seek_reads_on_from_any_offset(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    publish(stream, 300)
    reader = Member(stream)
    reader.read(300)
    for offset in (299, 0, 150, 151, 7):
        stream.seek(0, offset)
        count = min(3, 300 - offset)
        assert [record.offset for record in reader.read(count)] == list(range(offset, offset + count))
    stream.seek(0, 300)
    assert stream.poll(10, 0.05) == []
    publish(stream, 1)
    assert reader.read(1)[0].offset == 300


def test_a_batch_can_be_read_again_from_where_it_began(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    publish(stream, 100)
    reader = Member(stream)
    reader.read(40)
    batch = reader.read(20)
    stream.seek(0, 40)
    assert reader.read(20) == batch


@pytest.mark.parametrize("offset", [101, 10**12, -1])
def test_an_offset_out_of_range_is_an_error_until_mended(new_stream: NewStream, offset: int) -> None:
    stream = new_stream(1)()
    publish(stream, 100)
    reader = Member(stream)
    reader.read(1)
    stream.seek(0, offset)
    for _ in range(2):
        with pytest.raises(StreamError, match=rf"offset {offset} is out of range, must be 0 to 100"):
            reader.read(1)
    stream.seek(0, 99)
    assert reader.read(1)[0].offset == 99


def test_a_stored_offset_out_of_range_is_an_error_in_the_first_poll(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    publish(stream, 5)
    with pytest.raises(StreamError, match="offset 6 is out of range"):
        Member(stream, positions={0: 6}).read(1)


def test_groups_are_independent(new_stream: NewStream) -> None:
    open_stream = new_stream(2)
    publish(open_stream(), 100)
    first, second = Member(open_stream(), "first"), Member(open_stream(), "second")
    assert sorted(first.read(100)) == sorted(second.read(100))


def test_a_member_comes_back_to_its_own_positions(new_stream: NewStream) -> None:
    open_stream = new_stream(2)
    publish(open_stream(), 100)
    with open_stream() as stream:
        member = Member(stream)
        before = member.read(60)
    assert sorted(member.revoked) == [0, 1]
    after = Member(open_stream(), positions=member.positions).read(40)
    assert len({(record.partition, record.offset) for record in before + after}) == 100


def test_without_a_seek_a_member_begins_at_the_beginning_again(new_stream: NewStream) -> None:
    open_stream = new_stream(1)
    publish(open_stream(), 10)
    with open_stream() as stream:
        Member(stream).read(10)
    assert [record.offset for record in Member(open_stream()).read(10)] == list(range(10))


def test_a_partition_has_one_owner_and_passes_on_at_close(new_stream: NewStream) -> None:
    open_stream = new_stream(2)
    publish(open_stream(), 10)
    with open_stream() as stream:
        first = Member(stream)
        first.read(10)
        second = Member(open_stream(), positions=first.positions)
        second.stream.poll(10, 0.1)
        stream.poll(10, 0.1)
        assert not (set(first.assigned) - set(first.revoked)) & set(second.assigned)
    second.join(2)


def test_an_empty_poll_respects_its_timeout(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    Member(stream).join(1)
    for timeout in (0.0, 0.2):
        start = time.perf_counter()
        assert stream.poll(10, timeout) == []
        assert timeout <= time.perf_counter() - start < timeout + 0.5


def test_poll_gives_no_more_than_asked_for(new_stream: NewStream) -> None:
    stream = new_stream(2)()
    publish(stream, 100)
    reader = Member(stream)
    reader.read(1)
    for limit in (1, 7):
        assert 1 <= len(stream.poll(limit, PATIENCE)) <= limit


def test_any_key_and_value_comes_back_as_it_was(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    pairs = [
        ("用户-7", b""),
        ("", b"no key"),
        ("🙂\x00\n", bytes(range(256))),
        ("large", bytes(range(256)) * (2 * MIB // 256)),
        ("after", b"x"),
    ]
    for key, value in pairs:
        stream.publish(key, value)
    stream.flush()
    assert [(record.key, record.value) for record in Member(stream).read(5)] == pairs


def test_a_key_without_utf8_form_is_refused(new_stream: NewStream) -> None:
    with pytest.raises(InputError, match=r"key: '\\ud800'"):
        new_stream(1)().publish("\ud800", b"")


def test_flush_of_nothing_and_second_close_do_nothing(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    stream.flush()
    assert stream.end_offsets() == {0: 0}
    stream.close()
    stream.close()


def test_a_stream_keeps_its_id_and_no_two_have_the_same(new_stream: NewStream) -> None:
    open_stream, other = new_stream(1), new_stream(1)
    assert open_stream().stream_id == open_stream().stream_id != other().stream_id


def test_misuse_is_an_error(new_stream: NewStream) -> None:
    stream = new_stream(1)()
    with pytest.raises(StreamError, match="poll without subscribe"):
        stream.poll(1, 0)
    with pytest.raises(StreamError, match="seek in partition 0"):
        stream.seek(0, 0)
    with pytest.raises(InputError, match="group: 'a/b'"):
        Member(stream, "a/b")
    Member(stream)
    with pytest.raises(StreamError, match="already subscribed as group 'ingest'"):
        Member(stream)
    with pytest.raises(InputError, match="at least 1 record"):
        stream.poll(0, 0)
    stream.close()
    for use in (stream.flush, stream.end_offsets, stream.beginning_offsets, lambda: stream.publish("a", b"")):
        with pytest.raises(StreamError, match="is closed"):
            use()


def test_what_a_callback_raises_poll_raises(new_stream: NewStream) -> None:
    def refuse(partitions: list[Partition]) -> None:
        raise LookupError(f"no place for {partitions}")

    stream = new_stream(1)()
    publish(stream, 1)
    stream.subscribe("ingest", refuse, refuse)
    until = time.monotonic() + PATIENCE
    with pytest.raises(LookupError, match=r"no place for \[0\]"):  # noqa: PT012 - a group may take several polls
        while time.monotonic() < until:
            assert stream.poll(1, 0.1) == []
    try:
        stream.close()
    except LookupError:
        stream.close()
