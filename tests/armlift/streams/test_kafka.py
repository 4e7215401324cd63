"""What the Kafka stream alone must show: groups over processes, brokers that go away, topics made again."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from brokers import ApacheKafka, Broker, find_broker
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource
from pydantic import SecretStr

from armlift.errors import InputError, StreamError
from armlift.settings import KafkaSettings, kafka_address
from armlift.streams.kafka import KafkaStream
from armlift.streams.stream import Partition, Record

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 40.0
SETTINGS = KafkaSettings(partitions=4)
QUICK = KafkaSettings(partitions=4, session_seconds=2.0)
MEMBER = """
import sys
from armlift.settings import KafkaSettings
from armlift.streams.kafka import KafkaStream
owned = set()
def tell(change):
    def told(partitions):
        change(partitions)
        print(*sorted(owned), flush=True)
    return told
with KafkaStream(sys.argv[1], KafkaSettings(session_seconds=2.0)) as stream:
    stream.subscribe("ingest", tell(owned.update), tell(owned.difference_update))
    while True:
        stream.poll(100, 0.1)
"""

Open = Callable[..., KafkaStream]


@pytest.fixture
def url(durable: Broker) -> str:
    """Give the URL of a topic that is not there yet."""
    return durable.url(f"topic-{uuid4().hex}")


@pytest.fixture
def open_stream(url: str) -> Iterator[Open]:
    """Give a function that opens a stream, which is closed at the end."""
    with ExitStack() as opened:
        yield lambda settings=SETTINGS, **options: opened.enter_context(
            KafkaStream(options.pop("url", url), settings, **options)
        )


@pytest.fixture
def admin(url: str) -> Iterator[Any]:
    """Give a client that administers the broker."""
    client = KafkaAdminClient(bootstrap_servers=kafka_address(url)[0])
    yield client
    client.close()


class Reader:
    """A member of a group that knows what it owns."""

    def __init__(self, stream: KafkaStream) -> None:
        self.stream = stream
        self.owned: set[Partition] = set()
        self.revoked: list[Partition] = []
        stream.subscribe("ingest", self.owned.update, self.revoke)

    def revoke(self, partitions: list[Partition]) -> None:
        self.owned -= set(partitions)
        self.revoked += partitions

    def until(self, done: Callable[[], bool]) -> list[Record]:
        records: list[Record] = []
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.owned
            records += self.stream.poll(1000, 0.05)
        return records

    def read(self, count: int) -> list[Record]:
        records: list[Record] = []
        deadline = time.monotonic() + PATIENCE
        while len(records) < count and time.monotonic() < deadline:
            records += self.stream.poll(1000, 0.1)
        return records


def names(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


def publish(stream: KafkaStream, values: list[bytes]) -> None:
    for value in values:
        stream.publish(f"unit-{int(value) % 40}", value)


def flush_at_last(stream: KafkaStream) -> None:
    """Flush until the broker takes everything: what it was told may need a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return stream.flush()
        except StreamError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_partitions_move_to_a_member_that_comes_and_back_from_one_that_is_killed(
    url: str, open_stream: Open
) -> None:
    first = Reader(open_stream(QUICK))
    first.until(lambda: len(first.owned) == 4)
    second = Reader(open_stream(QUICK))
    first_or_both = iter([first, second] * 10_000)
    deadline = time.monotonic() + PATIENCE
    while (len(first.owned), len(second.owned)) != (2, 2):
        assert time.monotonic() < deadline, (first.owned, second.owned)
        next(first_or_both).stream.poll(1, 0.05)
    assert first.owned | second.owned == {0, 1, 2, 3}
    # Cooperative: what stays was never revoked.
    assert len(first.revoked) == 2
    second.stream.close()
    first.until(lambda: len(first.owned) == 4)

    command = [sys.executable, "-c", MEMBER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        first.until(lambda: len(first.owned) == 2)
        assert len(other.stdout.readline().split()) == 2
        other.send_signal(signal.SIGKILL)
    start = time.monotonic()
    first.until(lambda: len(first.owned) == 4)
    assert time.monotonic() - start < 10


def test_members_that_are_busy_between_polls_come_to_share(open_stream: Open) -> None:
    readers, deadline = [Reader(open_stream()) for _ in range(3)], time.monotonic() + PATIENCE
    while sorted(len(reader.owned) for reader in readers) != [1, 1, 2]:
        assert time.monotonic() < deadline, [reader.owned for reader in readers]
        for reader in readers:
            reader.stream.poll(1, 0)
            time.sleep(0.2)
    assert set().union(*(reader.owned for reader in readers)) == {0, 1, 2, 3}
    assert generation(readers[0]) < 10, "nobody called the others together without need"


def generation(reader: Reader) -> int:
    inner: Any = reader.stream
    return int(inner._reader._consumer.group_metadata().generation_id)


def test_partitions_that_are_added_are_shared_and_written_to_by_who_runs(
    url: str, open_stream: Open, admin: Any
) -> None:
    writer, readers = open_stream(), [Reader(open_stream()) for _ in range(2)]
    found: list[Record] = []

    def until(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, [reader.owned for reader in readers]
            for reader in readers:
                found.extend(reader.stream.poll(1000, 0.05))

    def write(first: int) -> None:
        publish(writer, names(first, first + 40))
        writer.flush()
        until(lambda: len(found) == first + 40)

    until(lambda: sorted(len(reader.owned) for reader in readers) == [2, 2])
    admin.create_partitions({kafka_address(url)[1]: 6})
    until(lambda: sorted(len(reader.owned) for reader in readers) == [3, 3])
    deadline = time.monotonic() + PATIENCE
    while {record.partition for record in found} != set(range(6)):
        assert time.monotonic() < deadline, {record.partition for record in found}
        write(len(found))
    assert sorted(int(record.value) for record in found) == list(range(len(found)))
    assert set(writer.end_offsets()) == set(range(6))


def test_a_session_that_the_broker_does_not_allow_is_named(url: str, open_stream: Open) -> None:
    reader = Reader(open_stream(KafkaSettings(session_seconds=3_600)))
    with pytest.raises(StreamError, match=r"kafka.session_seconds: 3600 is refused, must be within the brok"):
        reader.until(lambda: False)


def test_a_topic_made_again_is_another_stream(url: str, open_stream: Open, admin: Any) -> None:
    stream = open_stream()
    publish(stream, names(0, 10))
    stream.flush()
    reader = Reader(stream)
    assert len(reader.read(10)) == 10
    admin.delete_topics([kafka_address(url)[1]])
    deadline = time.monotonic() + PATIENCE
    made_again = None
    while made_again is None:
        assert time.monotonic() < deadline
        try:
            made_again = open_stream()
        except StreamError:
            time.sleep(0.1)
    assert made_again.stream_id != stream.stream_id
    assert set(made_again.end_offsets().values()) == {0}
    with pytest.raises(StreamError, match="deleted and made again"):
        reader.until(lambda: False)


def test_a_killed_broker_loses_nothing_that_is_published(durable: Broker, open_stream: Open) -> None:
    stream = open_stream()
    reader = Reader(open_stream())
    publish(stream, names(0, 2000))
    durable.kill()
    publish(stream, names(2000, 4000))
    assert reader.stream.poll(1000, 0.1) is not None
    durable.start()
    publish(stream, names(4000, 6000))
    stream.flush()
    found = reader.read(6000)
    ordered = sorted(found, key=lambda record: (record.partition, record.offset))
    assert sorted({int(record.value) for record in found}) == list(range(6000))
    for partition in range(4):
        mine = [int(record.value) for record in ordered if record.partition == partition]
        # Idempotent, and in the order of publishing, across the fall.
        assert mine == sorted(set(mine))


def test_a_full_buffer_waits_and_then_refuses_while_the_broker_is_away(
    durable: Broker, open_stream: Open
) -> None:
    bound = 200_000
    stream = open_stream(buffer_bytes=bound, wait_seconds=1.0)
    stream.publish("first", b"0")
    stream.flush()
    durable.kill()
    taken = 0
    start = time.monotonic()
    with pytest.raises(StreamError, match="messages are not confirmed within 1 s; they stay buffered"):  # noqa: PT012
        while taken < 10_000:
            stream.publish("unit", b"%04d" % taken + bytes(996))
            taken += 1
    assert 150 < taken < bound / 1000
    with pytest.raises(StreamError, match=f"{taken} messages are not confirmed"):
        stream.flush()
    assert time.monotonic() - start < 6
    durable.start()
    flush_at_last(stream)
    reader = Reader(open_stream())
    found = [record.value[:4] for record in reader.read(taken + 1) if record.key == "unit"]
    assert found == [b"%04d" % number for number in range(taken)]


def test_close_gives_up_what_cannot_be_delivered_and_says_so(durable: Broker, open_stream: Open) -> None:
    stream = open_stream(wait_seconds=1.0)
    stream.publish("unit", b"0")
    stream.flush()
    durable.kill()
    stream.publish("unit", b"1")
    with pytest.raises(StreamError, match="1 messages are not confirmed"):
        stream.close()
    stream.close()


def test_what_the_broker_refuses_surfaces_and_stays_buffered(
    durable: Broker, url: str, open_stream: Open, admin: Any
) -> None:
    def allow(size: int) -> None:
        config = ConfigResource("TOPIC", kafka_address(url)[1], {"max.message.bytes": str(size)})
        admin.alter_configs([config])

    stream = open_stream(buffer_bytes=1000, wait_seconds=10.0)
    stream.publish("unit", b"small")
    stream.flush()
    allow(100)
    large = bytes(range(256)) * 4
    stream.publish("unit", large)
    for _ in range(2):
        with pytest.raises(StreamError, match=r"1 messages are refused: .*; they stay buffered"):
            stream.flush()
    with pytest.raises(StreamError, match="1 messages are refused"):
        stream.publish("unit", b"not taken")
    allow(1_000_000)
    flush_at_last(stream)
    assert [record.value for record in Reader(open_stream()).read(2)] == [b"small", large]


def test_a_topic_that_is_there_is_taken_as_it_is(url: str, open_stream: Open, admin: Any) -> None:
    admin.create_topics({kafka_address(url)[1]: {"num_partitions": 2, "replication_factor": 1}})
    stream = open_stream(KafkaSettings(partitions=7, create_topic=False))
    assert set(stream.end_offsets()) == {0, 1}
    with pytest.raises(InputError, match="must be at most"):
        stream.publish("unit", bytes(1024 * 1024))


def test_a_topic_that_is_made_has_partitions_and_retention(url: str, open_stream: Open, admin: Any) -> None:
    stream = open_stream(KafkaSettings(partitions=3, retention_days=1.5))
    assert set(stream.end_offsets()) == {0, 1, 2}
    topic = kafka_address(url)[1]
    configs = admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")["topic"][topic]
    assert configs["retention.ms"]["value"] == str(36 * 3600 * 1000)


def test_records_that_expired_before_they_were_read_are_an_error_until_mended(
    durable: Broker, url: str, open_stream: Open, admin: Any
) -> None:
    stream = open_stream(KafkaSettings(partitions=1))
    reader = Reader(stream)
    reader.until(lambda: reader.owned == {0})
    publish(stream, names(0, 50))
    stream.flush()
    stream.seek(0, 10)
    admin.delete_records({TopicPartition(kafka_address(url)[1], 0): 30})
    for _ in range(2):
        with pytest.raises(StreamError, match="offset 10 is out of range, must be 30 to 50"):
            reader.read(1)
    stream.seek(0, 30)
    assert [record.value for record in reader.read(20)] == names(30, 50)


def test_sasl_takes_the_right_password_only(durable: Broker, open_stream: Open) -> None:
    url = durable.url(f"sasl-{uuid4().hex}", sasl=True)
    right = KafkaSettings(security="SASL_PLAINTEXT", user="armlift", password=SecretStr("armlift-test"))
    stream = open_stream(right, url=url)
    publish(stream, names(0, 10))
    stream.flush()
    assert len(Reader(open_stream(right, url=url)).read(10)) == 10
    wrong = right.model_copy(update={"password": SecretStr("guessed-wrong")})
    with pytest.raises(StreamError, match=r"kafka\.password") as caught:
        open_stream(wrong, url=url, connect_seconds=2.0)
    assert "guessed-wrong" not in str(caught.value)


def test_tls_trusts_the_authority_of_the_settings_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificates, is not installed")
    broker = find_broker(ROOT, tmp_path_factory.mktemp("tls"))
    if not isinstance(broker, ApacheKafka):
        pytest.skip("only Apache Kafka is started with TLS")
    broker.start()
    try:
        address, authority = broker.add_tls()
        url = f"kafka://{address}/tls"
        secure = KafkaSettings(security="SSL", ca_file=str(authority))
        with KafkaStream(url, secure) as stream:
            publish(stream, names(0, 10))
            stream.flush()
            assert len(Reader(stream).read(10)) == 10
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(url, "SSL")
        assert refusal(url, "PLAINTEXT").startswith(f"{url}: no broker answers within 2 s")
    finally:
        broker.stop()


def refusal(url: str, security: str) -> str:
    """Tell why no stream opens; in a process of its own, as kafka-python leaves sockets open then."""
    code = (
        "import sys\nfrom armlift.errors import StreamError\nfrom armlift.settings import KafkaSettings\n"
        "from armlift.streams.kafka import KafkaStream\n"
        "try:\n    KafkaStream(sys.argv[1], KafkaSettings(security=sys.argv[2]), connect_seconds=2.0)\n"
        "except StreamError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, url, security]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
