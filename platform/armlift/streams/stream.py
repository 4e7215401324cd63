"""The port between whoever publishes events and the ingester: a partitioned, keyed, durable stream.

Every implementation passes one contract suite (tests/armlift/streams/test_contract.py). What is promised:

Writing
    Records with one key go to one partition (`partition_of`), and a partition keeps the order of `publish`.
    `publish` may buffer, in bounded memory: a full buffer makes it wait for the log. When `publish` raises,
    that record was not taken. When `flush` returns, everything published before is durable and readable. When
    it raises StreamError, what is not known to be in the log stays buffered: call `flush` again, do not
    publish again. The embedded log then has each record exactly once and in order; on Kafka one whose fate
    was unknown may lie there twice, which the ids of its events make harmless. A process that dies loses at
    most what no `flush` has confirmed, and no record is ever there in part.

Reading
    A partition's offsets grow; on the embedded log they are consecutive from 0. No record is seen that a
    later failure could take back. Within a group each partition has one owner at a time; groups are
    independent. An owner that dies loses its partitions to another member. The stream stores no position: the
    reader keeps its own (in SQL, in the transaction of the rows) and seeks to it in `on_assign`.

One object belongs to one thread. It may write, read, or both: a reader need not publish, a writer need not
subscribe.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from armlift.errors import InputError
from armlift.hashing import key_of

Partition = int
"""A partition's number, from 0."""

OnPartitions = Callable[[list[Partition]], None]


class Record(NamedTuple):
    """A message as it lies in the stream; (partition, offset) names it for ever.

    `timestamp` is when it came into the stream, in UTC milliseconds, where the stream knows.
    """

    partition: Partition
    offset: int
    key: str
    value: bytes
    timestamp: int | None = None


def partition_of(key: str, partitions: int) -> Partition:
    """Give a key's partition, the same in every implementation: its 64-bit hash modulo `partitions`."""
    return key_of(key) % partitions


_GROUP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def check_group(group: str) -> None:
    """Raise InputError unless `group` may name a group of readers."""
    if not _GROUP.fullmatch(group):
        raise InputError(
            f"group: {group!r}, must be 1 to 100 letters, digits, dots, dashes, underscores, no dot first"
        )


def check_poll(max_records: int, timeout: float) -> None:
    """Raise InputError unless `poll` may be asked for that."""
    if max_records < 1 or timeout < 0:
        raise InputError(f"poll({max_records}, {timeout}): must be at least 1 record and 0 seconds")


def encode_key(key: str, value: bytes, limit: int) -> bytes:
    """Give a key's bytes; raises InputError when it has no UTF-8 form or the two exceed `limit` bytes."""
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"key: {key!r} has no UTF-8 form, must have no lone surrogates") from error
    if len(raw) + len(value) > limit:
        raise InputError(f"key {key[:50]!r}: {len(raw) + len(value)} bytes in all, must be at most {limit}")
    return raw


class EventStream(ABC):
    """A stream of keyed messages; the module says what is promised, the methods how to ask for it."""

    @property
    @abstractmethod
    def stream_id(self) -> str:
        """Name the stream for ever: a stream deleted and made again has another id."""

    @abstractmethod
    def publish(self, key: str, value: bytes) -> None:
        """Append a message to its key's partition; durable and readable after the next `flush`.

        Raises InputError for a message over the implementation's size limit (at least 2 MiB) or a key that
        has no UTF-8 form, StreamError when a full buffer cannot be written; the message was then not taken.
        """

    @abstractmethod
    def flush(self) -> None:
        """Wait until everything published is durable and readable.

        Raises StreamError when that fails; what is not in the log stays buffered for the next `flush`.
        """

    @abstractmethod
    def subscribe(
        self, group: str, on_assign: OnPartitions, on_revoke: OnPartitions, *, alone: bool = False
    ) -> None:
        """Join a group of readers, once per object; the callbacks run inside `poll` and `close` only.

        `on_assign` gets the partitions newly owned and may `seek` in them; one it does not seek begins at its
        beginning. `on_revoke` gets partitions this object gives up or has lost already, so whatever it
        commits must be refused by the database when another owner was there first. What a callback raises,
        `poll` or `close` raises; after that only `close` is left to do. Whoever is `alone` in a group, as no
        other object ever joins it, leaves nothing of it behind.

        Raises InputError for a group that is not 1 to 100 letters, digits, dots, dashes or underscores (no
        dot first), StreamError when already subscribed.
        """

    @abstractmethod
    def poll(self, max_records: int, timeout: float) -> list[Record]:
        """Read on in the owned partitions: up to `max_records`, as soon as there is at least one.

        Waits at most `timeout` seconds for the first record (0 looks once) and returns [] when none came. May
        return fewer records than asked for, to bound memory. A partition's records are in order.

        Raises StreamError when not subscribed, when the position of an owned partition is below its beginning
        or above its end (again and again, until a `seek` mends it), and when the log is damaged.
        """

    @abstractmethod
    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset` in an owned partition; an offset out of range shows at the next `poll`.

        Raises StreamError for a partition this object does not own.
        """

    @abstractmethod
    def beginning_offsets(self) -> dict[Partition, int]:
        """Give each partition's first offset that can be read; its end where there is none."""

    @abstractmethod
    def end_offsets(self) -> dict[Partition, int]:
        """Give, for each partition, the offset that its next record will have."""

    @abstractmethod
    def close(self) -> None:
        """Revoke (callback), release the partitions, flush, let go of everything; again, it does nothing.

        Raises StreamError when what was published cannot be written; everything is let go of all the same.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
