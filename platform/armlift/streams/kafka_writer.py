"""Write to a topic of Kafka: buffered, bounded, confirmed by `flush`.

The producer is idempotent and never gives a message up because of time: what a broker that is away has not
confirmed stays with it, in order, until the broker is back. Once a broker has refused a message for good (no
right to write, say) a producer takes nothing more; the next flush then sends all that is unconfirmed with
another one, in order, and what had arrived after all lies there twice.
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


class _Message(NamedTuple):
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
        self._sent: deque[tuple[Any, _Message]] = deque()
        self._buffered = 0
        self._refused = False
        self._producer = self._open()

    def add(self, partition: Partition, key: bytes, value: bytes) -> None:
        """Send a message, after waiting for room; raises StreamError when it was not taken."""
        message = _Message(partition, key, value)
        if self._buffered and self._buffered + _size(message) > self._buffer_bytes:
            self._settle(max(0, self._buffer_bytes - _size(message)))
        self._send(message)
        self._buffered += _size(message)

    def flush(self) -> None:
        """Wait until every message is in the log; raises StreamError when one is not known to be."""
        self._settle(0)
        self._cluster.follow(self._producer._metadata)

    def close(self) -> None:
        """Let go of the producer, and of what it has not delivered, within a few times `wait_seconds`."""
        if self._sent:
            # Its own close would wait for the broker, and without it leave its thread running.
            self._producer._sender.force_close()
            self._producer._sender.join(self._wait_seconds)
        with suppress(KafkaError):  # which tells that time ran out
            self._producer.close(self._wait_seconds)

    def _open(self) -> Any:
        return self._cluster.open(
            KafkaProducer,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=_LINGER_MS,
            batch_size=_BATCH_BYTES,
            max_request_size=self._cluster.topic.limit + _RECORD_BYTES,
            delivery_timeout_ms=_NEVER_MS,
            max_block_ms=self._wait_seconds * 1000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def _send(self, message: _Message) -> None:
        partition, key, value = message
        try:
            future = self._producer.send(self._cluster.topic_name, value, key, partition=partition)
        except (KafkaError, ValueError) as error:
            raise StreamError(f"{self._cluster.url}: cannot publish: {error}") from error
        self._sent.append((future, message))

    def _settle(self, most: int) -> None:
        """Wait until at most `most` bytes are unconfirmed, the oldest first."""
        deadline = time.monotonic() + self._wait_seconds
        if self._refused:
            self._begin_again()
        while self._buffered > most:
            future, message = self._sent[0]
            if not future.is_done:
                with suppress(KafkaError):
                    future.get(max(0.0, deadline - time.monotonic()))
            if not future.succeeded():
                self._refused = future.is_done
                what = f"refused: {future.exception}" if self._refused else "not confirmed"
                within = "" if self._refused else f" within {self._wait_seconds:g} s"
                raise StreamError(
                    f"{self._cluster.url}: {len(self._sent)} messages are {what}{within}; they stay buffered"
                )
            self._sent.popleft()
            self._buffered -= _size(message)

    def _begin_again(self) -> None:
        """Send what is unconfirmed with another producer; if that fails, it stays to be sent."""
        self.close()
        again = deque((future, message) for future, message in self._sent if not future.succeeded())
        self._buffered = sum(_size(message) for _, message in again)
        self._sent = deque()
        try:
            self._producer = self._open()
            while again:
                self._send(again[0][1])
                again.popleft()
            self._refused = False
        finally:
            self._sent.extend(again)


def _size(message: _Message) -> int:
    return len(message.key) + len(message.value) + _RECORD_BYTES
