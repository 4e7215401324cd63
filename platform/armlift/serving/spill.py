"""The spill: what was accepted while the stream is away, on this machine's disk.

    lock               held for a moment by whoever makes or takes over a process's folder
    PROCESS/lock       held by the process while it lives; who gets it takes over what a dead one left
    PROCESS/NUMBER/    a generation: an embedded stream of one partition, deleted once it is in the stream
    set-aside/         generations with messages that cannot go into the stream, kept for people to see

The folder must be on a local file system with `flock` and hard links, as the embedded stream's.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import NamedTuple
from uuid import uuid4

from armlift.errors import InputError, StreamError
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.partition_reader import PartitionReader
from armlift.streams.segment import CommitFile, failure, segment_bases, segment_path, sync_folder
from armlift.streams.stream import Record

GENERATION_BYTES = 8 * 1024 * 1024
"""A generation that has so many bytes is followed by another, so that room comes back as it is drained."""
_ASIDE = "set-aside"
_GONE = "gone-"

logger = logging.getLogger(__name__)


class Size(NamedTuple):
    """What a spill holds."""

    messages: int
    bytes: int


class Spill:
    """A process's part of a spill folder, for one thread that writes and one that drains.

    Raises InputError for a folder that cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = RLock()
        self._folder = folder
        self._own = folder / f"{os.getpid()}-{uuid4().hex[:12]}"
        self._generations: dict[Path, Size] = {}
        self._number = 0
        self._writer: EmbeddedStream | None = None
        self._current: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
            self._gate = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            with self._alone():
                self._own.mkdir()
                self._held = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_folder(folder)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error.strerror}), must be a folder that can be: "
                "events are kept there while the stream is away"
            ) from error

    @property
    def size(self) -> Size:
        """Give what is in the spill now."""
        # Without the lock, which is held while the disk works: a copy of the values is made in one step.
        sizes = list(self._generations.values())
        return Size(sum(size.messages for size in sizes), sum(size.bytes for size in sizes))

    def write(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Make messages durable; raises StreamError when that fails, and they may be there all the same."""
        with self._lock:
            try:
                path, writer = self._open()
                try:
                    for key, value in messages:
                        writer.publish(key, value)
                    writer.flush()
                finally:
                    self._generations[path] = _measured(path, writer)
                if self._generations[path].bytes >= GENERATION_BYTES:
                    self._seal()
            except OSError as error:
                self._let_go()
                raise failure(self._own, "write", error) from error
            except StreamError:
                self._let_go()
                raise

    def oldest(self) -> Path | None:
        """Give the generation to drain first, which nobody writes any more; None for an empty spill."""
        with self._lock:
            oldest = next(iter(self._generations), None)
            if oldest is not None and oldest == self._current:
                self._seal()
            return oldest

    def remove(self, generation: Path) -> None:
        """Delete a generation that is in the stream; what a crash leaves of it is never read again."""
        gone = generation.with_name(f"{_GONE}{generation.name}")
        with self._lock:
            generation.rename(gone)
            del self._generations[generation]
        sync_folder(self._own)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, generation: Path, why: str) -> None:
        """Keep a generation for people to look at, and drain it no more."""
        aside = self._folder / _ASIDE
        with self._lock:
            aside.mkdir(exist_ok=True)
            kept = aside / f"{self._own.name}-{generation.name}"
            generation.rename(kept)
            del self._generations[generation]
        sync_folder(aside)
        logger.error("%s: is kept and not published: %s", kept, why)

    def take_over(self) -> int:
        """Take over what dead processes left; gives how many generations."""
        before = self._number
        with self._lock, self._alone():
            for other in sorted(self._folder.iterdir()):
                if other.is_dir() and other != self._own and other.name != _ASIDE:
                    self._take(other)
        return self._number - before

    def close(self) -> None:
        """Let go of the folder; what is in it is for the next process."""
        with self._lock:
            self._let_go()
            if not self._generations:
                with self._alone():
                    shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._held)
            os.close(self._gate)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _take(self, other: Path) -> None:
        """Take a folder's generations unless its process lives."""
        held = os.open(other / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for generation in sorted(other.glob("[0-9]*")):
                path = self._next()
                generation.rename(path)
                self._generations[path] = _recovered(path)
            sync_folder(self._own)
            shutil.rmtree(other, ignore_errors=True)
        except BlockingIOError:
            return
        finally:
            os.close(held)

    def _next(self) -> Path:
        self._number += 1
        return self._own / f"{self._number:08d}"

    def _open(self) -> tuple[Path, EmbeddedStream]:
        """Give the generation that is written; one whose writing failed is opened again."""
        if self._current is None:
            self._current = self._next()
        if self._writer is None:
            self._writer = EmbeddedStream(self._current, 1)
        return self._current, self._writer

    def _seal(self) -> None:
        self._let_go()
        self._current = None

    def _let_go(self) -> None:
        """Close the writer; what it could not write was refused, so it need not be written now."""
        if self._writer is not None:
            with suppress(StreamError, OSError):
                self._writer.close()
            self._writer = None


class SpillReader:
    """Reads a generation from its beginning; raises StreamError where it is damaged or cannot be read."""

    def __init__(self, generation: Path) -> None:
        try:
            # What a writer that was killed had on disk is taken in.
            EmbeddedStream(generation, 1).close()
            self._commit = CommitFile(generation / "0")
        except OSError as error:
            raise failure(generation, "read", error) from error
        self._reader = PartitionReader(0, self._commit)

    def read(self, most_bytes: int) -> list[Record]:
        """Read on: about so many bytes, or one larger message; nothing at the end."""
        records: list[Record] = []
        while most_bytes > 0:
            try:
                part, size = self._reader.read(100)
            except StreamError:
                # What was read before is sound; the error comes back with the next call.
                if records:
                    return records
                raise
            if not part:
                break
            records += part
            most_bytes -= size
        return records

    def seek(self, offset: int) -> None:
        """Read on from an offset."""
        self._reader.seek(offset)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
        self._commit.close()


def _measured(generation: Path, stream: EmbeddedStream) -> Size:
    folder = generation / "0"
    size = sum(segment_path(folder, base).stat().st_size for base in segment_bases(folder))
    return Size(stream.end_offsets()[0], size)


def _recovered(generation: Path) -> Size:
    """Measure what a dead process left; what is damaged shows as it is drained."""
    try:
        with EmbeddedStream(generation, 1) as stream:
            return _measured(generation, stream)
    except (StreamError, OSError):
        return Size(0, 0)
