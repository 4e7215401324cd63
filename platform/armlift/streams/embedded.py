"""The embedded stream: a durable append-only log in a folder, for any number of processes of one machine.

    stream.json                      format, stream id and number of partitions, made once
    PARTITION/{commit,*.log}         the records, see `segment`
    groups/GROUP/PARTITION.lock      held by the partition's owner in that group

The folder must be on a local file system with `flock` and hard links.
"""

import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from uuid import uuid4

import msgspec

from armlift.errors import InputError, StreamError
from armlift.streams.group import GroupMember
from armlift.streams.partition_reader import PartitionReader, beginning
from armlift.streams.partition_writer import PartitionWriter
from armlift.streams.segment import CommitFile, encode, failure, make_once, sync_folder
from armlift.streams.stream import (
    EventStream,
    OnPartitions,
    Partition,
    Record,
    check_poll,
    encode_key,
    partition_of,
)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_NAME = "stream.json"
_POLL_BYTES = 64 * 1024 * 1024
_STEP = 0.003
"""Seconds between two looks for new records."""


class _Layout(msgspec.Struct, frozen=True):
    format: Literal[1]
    stream_id: str
    partitions: int


class EmbeddedStream(EventStream):
    """A stream in a folder, which is made unless it is there.

    `partitions` is None for as many as the stream has (1 for a new one). A segment is closed once it has
    `segment_bytes`; `buffer_bytes` bounds what `publish` holds in memory; another member's death is noticed
    within `claim_seconds` of polling.

    A flush is all or nothing per partition, in the order of the partitions. Raises InputError for a number
    that is not positive, StreamError for a folder that cannot be used or has another number of partitions.
    """

    def __init__(
        self,
        folder: Path,
        partitions: int | None = None,
        *,
        segment_bytes: int = 64 * 1024 * 1024,
        buffer_bytes: int = 8 * 1024 * 1024,
        claim_seconds: float = 0.2,
    ) -> None:
        _check_positive(partitions=partitions, segment_bytes=segment_bytes, buffer_bytes=buffer_bytes)
        self._folder = folder
        self._claim_seconds = claim_seconds
        self._buffer_bytes = buffer_bytes
        self._buffered = 0
        self._closed = False
        self._member: GroupMember | None = None
        self._readers: dict[Partition, PartitionReader] = {}
        self._turns: deque[Partition] = deque()
        try:
            self._layout = _layout(folder, partitions)
            with ExitStack() as files:
                self._commits = _open_commits(folder, self._layout.partitions, files)
                self._writers = [PartitionWriter(commit, segment_bytes) for commit in self._commits]
                for writer in self._writers:
                    files.callback(writer.close)
                    writer.recover()
                self._files = files.pop_all()
        except OSError as error:
            raise failure(folder, "open the stream", error) from error

    @property
    def stream_id(self) -> str:
        """Give the UUID made with the folder."""
        return self._layout.stream_id

    def publish(self, key: str, value: bytes) -> None:
        """Buffer a message; a full buffer is flushed first, and if that fails this message is not taken."""
        self._check_open()
        raw = encode_key(key, value, MAX_MESSAGE_BYTES)
        if self._buffered and self._buffered + len(raw) + len(value) > self._buffer_bytes:
            self.flush()
        record = encode(raw, value)
        self._writers[partition_of(key, len(self._writers))].add(record)
        self._buffered += len(record)

    def flush(self) -> None:
        """Make what is buffered durable and readable; a partition that fails stays as it was, buffered."""
        self._check_open()
        try:
            for writer in self._writers:
                writer.flush()
        finally:
            self._buffered = sum(writer.buffered for writer in self._writers)

    def subscribe(
        self, group: str, on_assign: OnPartitions, on_revoke: OnPartitions, *, alone: bool = False
    ) -> None:
        """Join a group; the first `poll` takes the partitions that have no owner."""
        self._check_open()
        if self._member is not None:
            raise StreamError(f"{self._folder}: already subscribed as group {self._member.name!r}")
        self._member = GroupMember(
            self._folder, group, self._layout.partitions, self._claim_seconds, alone=alone
        )
        self._on_assign = on_assign
        self._on_revoke = on_revoke

    def poll(self, max_records: int, timeout: float) -> list[Record]:
        """Read on in the owned partitions, looking for new records and free partitions until the timeout."""
        self._check_open()
        check_poll(max_records, timeout)
        if self._member is None:
            raise StreamError(f"{self._folder}: poll without subscribe")
        deadline = time.monotonic() + timeout
        while True:
            self._take_over(self._member)
            records = self._read(max_records)
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            time.sleep(min(_STEP, left))

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from an offset of an owned partition."""
        self._check_open()
        if partition not in self._readers:
            raise StreamError(f"{self._folder}: seek in partition {partition}, owned are {self._owned()}")
        self._readers[partition].seek(offset)

    def beginning_offsets(self) -> dict[Partition, int]:
        """Give the offset of each partition's first record."""
        self._check_open()
        return {partition: beginning(commit) for partition, commit in enumerate(self._commits)}

    def end_offsets(self) -> dict[Partition, int]:
        """Give the offset that each partition's next record will have."""
        self._check_open()
        return {partition: commit.read().next for partition, commit in enumerate(self._commits)}

    def close(self) -> None:
        """Leave the group, flush, close the files: each of them whatever the others do."""
        if self._closed:
            return
        with ExitStack() as last:
            last.callback(self._close_files)
            last.callback(self.flush)
            last.callback(self._leave)

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError(f"{self._folder}: the stream is closed")

    def _owned(self) -> list[Partition]:
        return self._member.owned if self._member else []

    def _take_over(self, member: GroupMember) -> None:
        """Become the owner of partitions that have none, and say so; an owner that is not told is none."""
        new = member.claim()
        if not new:
            return
        for partition in new:
            self._readers[partition] = PartitionReader(partition, self._commits[partition])
        try:
            self._on_assign(new)
        except BaseException:
            self._let_go(new)
            raise
        self._turns.extend(new)

    def _read(self, max_records: int) -> list[Record]:
        """Read from each owned partition in turn; the next call begins with the next one."""
        records: list[Record] = []
        size = 0
        self._turns.rotate(-1)
        for partition in self._turns:
            while len(records) < max_records and size < _POLL_BYTES:
                try:
                    part, part_size = self._readers[partition].read(max_records - len(records))
                except StreamError:
                    # What was read already must not be lost; the error comes back when it is this one's turn.
                    if records:
                        return records
                    raise
                if not part:
                    break
                records += part
                size += part_size
        return records

    def _leave(self) -> None:
        if self._member is None:
            return
        owned = self._member.owned
        try:
            if owned:
                self._on_revoke(owned)
        finally:
            self._let_go(owned)
            self._member.close()

    def _let_go(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            self._readers.pop(partition).close()
            if partition in self._turns:
                self._turns.remove(partition)
        if self._member:
            self._member.release(partitions)

    def _close_files(self) -> None:
        self._closed = True
        self._files.close()


def _check_positive(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name}: {value}, must be at least 1")


def is_stream(folder: Path) -> bool:
    """Tell whether a stream was made in a folder."""
    return (folder / _NAME).is_file()


def _layout(folder: Path, partitions: int | None) -> _Layout:
    """Read what the folder was made with, or make it; of several processes one decides."""
    path = folder / _NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        make_once(path, msgspec.json.encode(_Layout(1, uuid4().hex, partitions or 1)))
    try:
        layout = msgspec.json.decode(path.read_bytes(), type=_Layout)
    except msgspec.DecodeError as error:
        raise StreamError(f"{path}: does not describe a stream of format 1: {error}") from error
    if partitions not in (None, layout.partitions):
        raise StreamError(f"{path}: partitions: {partitions}, must be the stream's {layout.partitions}")
    return layout


def _open_commits(folder: Path, partitions: int, files: ExitStack) -> list[CommitFile]:
    commits: list[CommitFile] = []
    for partition in range(partitions):
        path = folder / str(partition)
        if not path.exists():
            path.mkdir(exist_ok=True)
            sync_folder(folder)
        commits.append(CommitFile(path))
        files.callback(commits[-1].close)
    return commits
