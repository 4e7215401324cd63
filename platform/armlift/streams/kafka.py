"""The Kafka stream: a topic of Apache Kafka, or of anything that speaks its protocol."""

from contextlib import ExitStack

from kafka import OffsetSpec

from armlift.errors import StreamError
from armlift.settings import KafkaSettings
from armlift.streams.kafka_cluster import Cluster
from armlift.streams.kafka_reader import KafkaReader
from armlift.streams.kafka_writer import KafkaWriter
from armlift.streams.stream import (
    EventStream,
    OnPartitions,
    Partition,
    Record,
    check_group,
    check_poll,
    encode_key,
    partition_of,
)


class KafkaStream(EventStream):
    """The topic of kafka://HOST:PORT[,HOST:PORT]/TOPIC, made as the settings say unless it is there.

    Partitions that are added are read and written within seconds; a key may then go to another one.

    `buffer_bytes` bounds what `publish` holds in memory. `flush`, and `publish` with a full buffer, wait at
    most `wait_seconds` for the brokers.

    Raises InputError for settings that do not fit together, StreamError when no broker answers within
    `connect_seconds`, none takes the user and password, or the topic is missing.
    """

    def __init__(
        self,
        url: str,
        settings: KafkaSettings,
        *,
        buffer_bytes: int = 32 * 1024 * 1024,
        connect_seconds: float = 10.0,
        wait_seconds: float = 60.0,
    ) -> None:
        self._url = url
        self._buffer_bytes = buffer_bytes
        self._wait_seconds = wait_seconds
        self._session_seconds = settings.session_seconds
        self._writer: KafkaWriter | None = None
        self._reader: KafkaReader | None = None
        self._closed = False
        self._cluster = Cluster(url, settings, connect_seconds=connect_seconds)

    @property
    def stream_id(self) -> str:
        """Give the cluster's id and the topic's."""
        return self._cluster.topic.id

    def publish(self, key: str, value: bytes) -> None:
        """Send a message; a full buffer makes it wait for the brokers."""
        self._check_open()
        if self._writer is None:
            self._writer = KafkaWriter(
                self._cluster, buffer_bytes=self._buffer_bytes, wait_seconds=self._wait_seconds
            )
        topic = self._cluster.topic
        raw = encode_key(key, value, topic.limit)
        self._writer.add(partition_of(key, topic.partitions), raw, value)

    def flush(self) -> None:
        """Wait until the brokers have confirmed everything; what they have not stays buffered."""
        self._check_open()
        if self._writer is not None:
            self._writer.flush()

    def subscribe(
        self, group: str, on_assign: OnPartitions, on_revoke: OnPartitions, *, alone: bool = False
    ) -> None:
        """Join a consumer group; partitions come and go in `poll`, those that stay are read on meanwhile.

        Brokers forget a group that has neither members nor positions, also where nobody was `alone` in it.
        """
        self._check_open()
        if self._reader is not None:
            raise StreamError(f"{self._url}: already subscribed as group {self._reader.group!r}")
        check_group(group)
        self._reader = KafkaReader(
            self._cluster, group, on_assign, on_revoke, session_seconds=self._session_seconds
        )

    def poll(self, max_records: int, timeout: float) -> list[Record]:
        """Read on in the owned partitions; while the brokers are away there is nothing to read."""
        self._check_open()
        check_poll(max_records, timeout)
        if self._reader is None:
            raise StreamError(f"{self._url}: poll without subscribe")
        return self._reader.poll(max_records, timeout)

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from an offset of an owned partition."""
        self._check_open()
        if self._reader is None:
            raise StreamError(f"{self._url}: seek in partition {partition}, owned are []")
        self._reader.seek(partition, offset)

    def beginning_offsets(self) -> dict[Partition, int]:
        """Ask for the offset of each partition's first record."""
        self._check_open()
        return self._cluster.offsets(OffsetSpec.EARLIEST, wait_seconds=self._wait_seconds)

    def end_offsets(self) -> dict[Partition, int]:
        """Ask for the offset that each partition's next record will have."""
        self._check_open()
        return self._cluster.offsets(OffsetSpec.LATEST, wait_seconds=self._wait_seconds)

    def close(self) -> None:
        """Leave the group, flush, close the connections: each of them whatever the others do."""
        if self._closed:
            return
        with ExitStack() as last:
            last.callback(self._close_cluster)
            if self._writer is not None:
                last.callback(self._writer.close)
                last.callback(self._writer.flush)
            if self._reader is not None:
                last.callback(self._reader.close)
                last.callback(self._reader.leave)

    def _close_cluster(self) -> None:
        self._closed = True
        self._cluster.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError(f"{self._url}: the stream is closed")
