"""Write to a topic of Kafka: buffered, bounded, confirmed by `flush`.

The producer is idempotent and never gives a message up because of time: what a broker that is away has not
confirmed stays with it, in order, until the broker is back. What a broker refuses for good (no right to
write, say) is sent again by the next `flush`, and then lies behind what was sent after it.
"""

import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from armlift.errors import StreamError
from armlift.streams.kafka_cluster import Cluster
from armlift.streams.stream import Partition

_NEVER_MS = 2**31 - 1
_LINGER_MS = 5
_BATCH_BYTES = 512 * 1024
_RECORD_BYTES = 64
"""What a message adds to its key and value, at most."""


class _Sent(NamedTuple):
    """A message that is not known to be in the log."""

    future: Any
    size: int
    partition: Partition
    key: bytes
    value: bytes


class KafkaWriter:
    """Sends messages and holds at most `buffer_bytes` of those not known to be in the log.

    `add` waits for room, `flush` for everything, both at most `wait_seconds`.
    """

    def __init__(self, cluster: Cluster, *, buffer_bytes: int, wait_seconds: float) -> None:
        self._cluster = cluster
        self._buffer_bytes = buffer_bytes
        self._wait_seconds = wait_seconds
        self._sent: deque[_Sent] = deque()
        self._refused: list[_Sent] = []
        self.buffered = 0
        self._producer = cluster.open(
            KafkaProducer,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=_LINGER_MS,
            batch_size=_BATCH_BYTES,
            max_request_size=cluster.topic.limit + _RECORD_BYTES,
            delivery_timeout_ms=_NEVER_MS,
            max_block_ms=wait_seconds * 1000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def add(self, partition: Partition, key: bytes, value: bytes) -> None:
        """Send a message, after waiting for room; raises StreamError when it was not taken."""
        size = len(key) + len(value) + _RECORD_BYTES
        if self.buffered and self.buffered + size > self._buffer_bytes:
            self._settle(self._buffer_bytes - size)
        self._send(partition, key, value, size)
        self.buffered += size

    def flush(self) -> None:
        """Wait until every message is in the log; raises StreamError when one is not known to be."""
        self._settle(0)
        self._cluster.check_same(self._producer._metadata)

    def close(self) -> None:
        """Let go of the producer, and of what it has not delivered."""
        if self.buffered:
            # Its own close would wait for the broker, and without it leave its thread running.
            self._producer._sender.force_close()
            self._producer._sender.join(self._wait_seconds)
        self._producer.close()

    def _send(self, partition: Partition, key: bytes, value: bytes, size: int) -> None:
        try:
            future = self._producer.send(self._cluster.topic_name, value, key, partition=partition)
        except (KafkaError, ValueError) as error:
            raise StreamError(f"{self._cluster.url}: cannot publish: {error}") from error
        self._sent.append(_Sent(future, size, partition, key, value))

    def _settle(self, most: int) -> None:
        """Wait until at most `most` bytes are unconfirmed, the oldest first, after sending again."""
        deadline = time.monotonic() + self._wait_seconds
        while self._refused:
            self._send(*self._refused[0][2:], self._refused[0].size)
            del self._refused[0]
        error: object = None
        while self._sent and self.buffered > most:
            oldest = self._sent[0]
            future = oldest.future
            if not future.is_done:
                with suppress(KafkaError):
                    future.get(max(0.0, deadline - time.monotonic()))
            if not future.is_done:
                raise StreamError(
                    f"{self._cluster.url}: {len(self._sent)} messages are not confirmed within "
                    f"{self._wait_seconds:g} s; they stay buffered"
                )
            self._sent.popleft()
            if future.exception is None:
                self.buffered -= oldest.size
            else:
                error = future.exception
                self._refused.append(oldest)
        if self._refused and self.buffered > most:
            raise StreamError(
                f"{self._cluster.url}: {len(self._refused)} messages were refused: {error}; "
                "they stay buffered"
            )
