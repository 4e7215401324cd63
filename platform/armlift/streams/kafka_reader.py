"""Read a topic of Kafka as a member of a group that keeps its own positions.

kafka-python calls its listener on its own thread. Here that only notes what happened; `poll` tells the
callbacks, so that everything of theirs runs in the caller's thread, and reads nothing of a partition before
its callback has placed it.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetSpec, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    InvalidSessionTimeoutError,
    LogTruncationError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.structs import MemberState

from armlift.errors import StreamError
from armlift.streams.kafka_cluster import Cluster, failing, passes
from armlift.streams.stream import OnPartitions, Partition, Record

_LOOK_SECONDS = 0.05
"""Between two looks at what the listener noted; a poll of no time still waits that long for the broker."""
_FETCH_WAIT_MS = 100
_FETCH_BYTES = 32 * 1024 * 1024
_PARTITION_BYTES = 8 * 1024 * 1024
_APPENDED = 1
"""The type of timestamps that are the broker's."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Notes, on kafka-python's thread, the partitions that came and went."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self.noted: deque[tuple[bool, list[Partition]]] = deque()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for place in assigned:
            # A position keeps the broker's committed offset out; nothing is read there while paused.
            self._consumer.seek(place, 0)
            self._consumer.pause(place)
        self.noted.append((True, sorted(place.partition for place in assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.noted.append((False, sorted(place.partition for place in revoked)))


def _complete_joins(coordinator: Any) -> None:
    """Let a join of a group be complete when the broker says so, on kafka-python's thread.

    Left alone, kafka-python completes only what ends while a poll waits for it. A join that ends between two
    polls it begins anew, with all other members; where these are as busy, none is ever handed a partition.
    """
    join = coordinator._do_join_and_sync_async

    async def joined() -> None:
        assignment = await join()
        now = coordinator._generation
        if now.is_lost():  # a heartbeat has found meanwhile that the group knows no such member
            raise UnknownMemberIdError
        coordinator.rejoining = coordinator.rejoin_needed = False
        try:
            await coordinator._on_join_complete_async(
                now.generation_id, now.member_id, now.protocol, assignment
            )
        except BaseException:
            coordinator.request_rejoin()
            raise
        with coordinator._lock:
            coordinator.state = MemberState.STABLE
            coordinator._enable_heartbeat()
        # Who waits looks again: partitions that were given up are handed on by another join.
        raise RebalanceInProgressError

    coordinator._do_join_and_sync_async = joined


class KafkaReader:
    """A member of a group; a member that dies is noticed after `session_seconds`."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        on_assign: OnPartitions,
        on_revoke: OnPartitions,
        *,
        session_seconds: float,
    ) -> None:
        self.group = group
        self._cluster = cluster
        self._session_seconds = session_seconds
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._owned: set[Partition] = set()
        self._sought: dict[Partition, int | None] = {}
        self._consumer = cluster.open(
            KafkaConsumer,
            group_id=f"{cluster.topic_name}.{group}",
            auto_offset_reset="none",
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=round(session_seconds * 1000),
            heartbeat_interval_ms=round(session_seconds * 1000 / 5),
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._coordinator = self._consumer._coordinator
        _complete_joins(self._coordinator)
        self._listener = _Listener(self._consumer)
        self._consumer.subscribe([cluster.topic_name], listener=self._listener)
        # Without the topic's metadata the leader of a group would hand out no partition, and leave it so.
        with failing(cluster.url, "find the topic"):
            self._consumer.partitions_for_topic(cluster.topic_name)

    def poll(self, max_records: int, timeout: float) -> list[Record]:
        """Read on, looking for partitions that come and go until the timeout."""
        deadline = time.monotonic() + timeout
        while True:
            self._tell()
            left = deadline - time.monotonic()
            wait = _LOOK_SECONDS if timeout == 0 else min(_LOOK_SECONDS, max(left, 0.0))
            try:
                self._place()
                records = self._read(max_records, wait)
            except StreamError as error:
                if not passes(error):
                    raise
                time.sleep(wait)
                records = []
            if records or time.monotonic() >= deadline:
                return records

    def seek(self, partition: Partition, offset: int) -> None:
        """Note where to read on; the next `poll` goes there."""
        if partition not in self._owned:
            raise StreamError(
                f"{self._cluster.url}: seek in partition {partition}, owned are {sorted(self._owned)}"
            )
        self._sought[partition] = offset

    def leave(self) -> None:
        """Give up every partition, and tell so."""
        owned, self._owned = sorted(self._owned), set()
        if owned:
            self._on_revoke(owned)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(timeout_ms=5000)

    def _tell(self) -> None:
        """Call back for what the listener noted."""
        while self._listener.noted:
            assigned, partitions = self._listener.noted.popleft()
            if not assigned:
                self._owned -= set(partitions)
                for partition in partitions:
                    self._sought.pop(partition, None)
                self._on_revoke(partitions)
                continue
            self._cluster.grow(1 + max(partitions))  # the member that hands them out may know first
            self._owned |= set(partitions)
            self._sought |= dict.fromkeys(partitions)
            try:
                self._on_assign(partitions)
            except BaseException:
                self._owned -= set(partitions)  # an owner that was not told is none
                raise

    def _place(self) -> None:
        """Go where `seek` said, or to the beginning; an offset out of range stays noted, and is an error."""
        if not self._sought or self._coordinator.rebalance_in_progress():
            return  # what is assigned may change any moment
        beginnings = self._cluster.offsets(OffsetSpec.EARLIEST)
        ends = self._cluster.offsets(OffsetSpec.LATEST)
        assigned = self._consumer.assignment()
        for partition, offset in sorted(self._sought.items()):
            first, end = beginnings[partition], ends[partition]
            if offset is not None and not first <= offset <= end:
                raise StreamError(
                    f"{self._cluster.url}: partition {partition}: offset {offset} is out of range, "
                    f"must be {first} to {end}"
                )
            place = TopicPartition(self._cluster.topic_name, partition)
            if place in assigned:  # else it is lost already, and the next `poll` tells so
                self._consumer.seek(place, first if offset is None else offset)
                self._consumer.resume(place)
            del self._sought[partition]

    def _read(self, max_records: int, wait: float) -> list[Record]:
        try:
            with failing(self._cluster.url, "read"):
                found = self._consumer.poll(timeout_ms=wait * 1000, max_records=max_records)
        except StreamError as error:
            if isinstance(error.__cause__, InvalidSessionTimeoutError):
                raise StreamError(
                    f"{self._cluster.url}: kafka.session_seconds: {self._session_seconds:g} is refused, must"
                    " be within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
                ) from error
            if isinstance(error.__cause__, LogTruncationError):
                self._cluster.ask_same()  # the likely cause, which the client's metadata may not know yet
            if not isinstance(error.__cause__, OffsetOutOfRangeError):
                raise
            # Records expired that were still to be read: `_place` says so until a seek mends it.
            self._sought |= {place.partition: offset for place, offset in error.__cause__.args[0].items()}
            return []
        self._cluster.follow(self._consumer._cluster)
        return [
            Record(
                place.partition,
                one.offset,
                (one.key or b"").decode(errors="replace"),
                one.value or b"",
                one.timestamp if one.timestamp_type == _APPENDED else None,
            )
            for place, records in found.items()
            for one in records
        ]
