"""The files of one partition of the embedded stream, and how to walk over them.

    NNNNNNNNNNNNNNNNNNNN.log    a segment: records, end to end; its name is the offset of the first one
    commit                      how far the partition is durable (base, length, next)

A record is the CRC32 of all that follows in it, the lengths of key and value (uint32 little-endian each), the
key in UTF-8, the value. Only records below the commit exist for readers, and the commit moves only when they
are on disk: whatever lies beyond it was never confirmed to anybody, whatever lies below it must be sound.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from armlift.errors import StreamError

CHUNK = 256 * 1024
HEAD = Struct("<III")
_LENGTHS = Struct("<II")
_COMMIT = Struct("<QQQ")
_CRC = Struct("<I")
_SEALED = _COMMIT.size + _CRC.size
_READS = 50

Span = tuple[int, int, int]
"""Where a record lies in a chunk: start of the key, start of the value, end."""


class Commit(NamedTuple):
    """How far a partition is durable: `length` bytes of the segment `base`; the next record's offset."""

    base: int
    length: int
    next: int


class Mark(NamedTuple):
    """A boundary between two records of a segment: how many lie before it, and at which byte it is."""

    records: int
    at: int


def segment_path(folder: Path, base: int) -> Path:
    """Name the segment whose first record has the offset `base`."""
    return folder / f"{base:020d}.log"


def segment_bases(folder: Path) -> list[int]:
    """List the offsets at which the segments of a partition begin, in order."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]" * 20 + ".log"))


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def failure(path: Path, doing: str, error: OSError) -> StreamError:
    """Tell what the operating system refused, and where."""
    return StreamError(f"{path}: cannot {doing}: {error.strerror or error}")


def damage(path: Path, at: int) -> StreamError:
    """Tell of a record that was confirmed once and cannot be read any more."""
    return StreamError(f"{path}: damaged at byte {at}: no sound record there, though one was committed")


def encode(key: bytes, value: bytes) -> bytes:
    """Write a record."""
    lengths = _LENGTHS.pack(len(key), len(value))
    check = crc32(value, crc32(key, crc32(lengths)))
    return b"".join((_CRC.pack(check), lengths, key, value))


def layout(chunk: bytes) -> list[Span]:
    """Find the records in a chunk that begins with one, up to the first that is unsound or incomplete."""
    spans: list[Span] = []
    view = memoryview(chunk)
    size = len(chunk)
    unpack, head, at = HEAD.unpack_from, HEAD.size, 0
    while at + head <= size:
        check, key_length, value_length = unpack(chunk, at)
        start = at + head
        middle = start + key_length
        end = middle + value_length
        if end > size or crc32(view[at + 4 : end]) != check:
            break
        spans.append((start, middle, end))
        at = end
    return spans


def read_chunk(descriptor: int, at: int, stop: int) -> tuple[bytes, list[Span]]:
    """Read records from byte `at` of a segment, about CHUNK bytes or one larger record, none beyond `stop`.

    No spans mean that no sound record begins at `at`.
    """
    chunk = os.pread(descriptor, min(CHUNK, stop - at), at)
    spans = layout(chunk)
    if not spans and len(chunk) >= HEAD.size:
        _, key_length, value_length = HEAD.unpack_from(chunk)
        size = HEAD.size + key_length + value_length
        if len(chunk) < size <= stop - at:
            chunk = os.pread(descriptor, size, at)
            spans = layout(chunk)
    return chunk, spans


def walk(descriptor: int, start: Mark, stop: int) -> Iterator[Mark]:
    """Walk from a mark to byte `stop`, giving a mark every CHUNK or so; ends early at an unsound record."""
    records, at = start
    while at < stop:
        _, spans = read_chunk(descriptor, at, stop)
        if not spans:
            return
        records += len(spans)
        at += spans[-1][2]
        yield Mark(records, at)


class CommitFile:
    """The file that says how far a partition is durable; its lock is the partition's writing lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "commit"
        if not self.path.exists():
            self._create()
        self._descriptor = os.open(self.path, os.O_RDWR)

    def _create(self) -> None:
        """Make the file with its content in one step, however many processes try."""
        if segment_bases(self.folder):
            raise StreamError(f"{self.path}: missing, though {self.folder} holds segments")
        make_once(self.path, _sealed(Commit(0, 0, 0)))

    def read(self) -> Commit:
        """Read the commit; another process may be writing it this moment, so a torn one is read again."""
        for _ in range(_READS):
            raw = os.pread(self._descriptor, _SEALED, 0)
            commit = Commit(*_COMMIT.unpack_from(raw)) if len(raw) == _SEALED else None
            if commit and _sealed(commit) == raw:
                if os.fstat(self._descriptor).st_nlink == 0:
                    raise StreamError(f"{self.path}: was deleted while the stream was open")
                return commit
            time.sleep(0.001)
        raise StreamError(f"{self.path}: damaged: its checksum does not match")

    def write(self, commit: Commit) -> None:
        """Move the commit; the caller holds the lock and has the records on disk.

        It is not synced itself: after a power cut an older one may come back, and the next to open the
        partition walks from there over the records, which are on disk.
        """
        os.pwrite(self._descriptor, _sealed(commit), 0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the partition's writing lock, waiting for whoever has it; a process that dies lets go."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _sealed(commit: Commit) -> bytes:
    body = _COMMIT.pack(*commit)
    return body + _CRC.pack(crc32(body))


def make_once(path: Path, content: bytes) -> None:
    """Create a file with its content, durably, unless it is there; of several processes exactly one does."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
