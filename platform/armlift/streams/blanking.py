"""Blanking: records of the embedded stream are overwritten, and keep their offset, place and length.

What was blanked reads as a message without events. Only segments that nobody writes in any more are touched:
each is written anew beside the old one, and takes its place at once. Whoever reads goes on undisturbed.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from armlift.errors import StreamError
from armlift.streams.partition_writer import PartitionWriter
from armlift.streams.segment import (
    Commit,
    CommitFile,
    damage,
    encode,
    failure,
    read_chunk,
    segment_bases,
    segment_path,
    sync_folder,
)

Pieces = tuple[bytes, bytes]
"""A record's key and value."""
Blank = Callable[[bytes, bytes], Pieces | None]
"""Gives what takes the place of a record's key and value, each as long as before; None: it stays."""


def blank_stream(folder: Path, blank: Blank, *, dry: bool = False) -> int:
    """Blank records in every partition of a stream's folder, and give how many; `dry` only counts them.

    Raises StreamError for what cannot be read or written, or is damaged.
    """
    return sum(_partition(path.parent, blank, dry) for path in sorted(folder.glob("*/commit")))


def padded(value: bytes, length: int) -> bytes:
    """Make a message as long as it was, with spaces; one that cannot be is all spaces."""
    return value.ljust(length) if len(value) <= length else b" " * length


def _partition(folder: Path, blank: Blank, dry: bool) -> int:
    commit = CommitFile(folder)
    writer = PartitionWriter(commit, 1)
    try:
        found = {base: hits for base in segment_bases(folder) if (hits := _count(commit, base, blank))}
        if dry or not found:
            return sum(found.values())
        if commit.read().base in found:
            writer.seal()
        return sum(_rewrite(commit, base, blank) for base in found)
    except OSError as error:
        raise failure(folder, "be erased from", error) from error
    finally:
        writer.close()
        commit.close()


def _count(commit: CommitFile, base: int, blank: Blank) -> int:
    path = segment_path(commit.folder, base)
    return sum(blank(key, value) is not None for key, value in _records(path, _length(path, commit.read())))


def _rewrite(commit: CommitFile, base: int, blank: Blank) -> int:
    """Write a segment anew, all of it or nothing; gives how many records were blanked."""
    path, count = segment_path(commit.folder, base), 0
    draft = path.with_suffix(".blanked")
    with commit.locked(), draft.open("wb") as file:
        for key, value in _records(path, _length(path, commit.read())):
            blanked = blank(key, value)
            count += blanked is not None
            file.write(encode(*(blanked or (key, value))))
        file.flush()
        os.fsync(file.fileno())
        if file.tell() != path.stat().st_size:
            raise StreamError(f"{path}: has {path.stat().st_size} bytes, would have {file.tell()} blanked")
        os.replace(draft, path)
        sync_folder(commit.folder)
    return count


def _length(path: Path, commit: Commit) -> int:
    """Give how many bytes of a segment exist for readers."""
    return commit.length if path == segment_path(path.parent, commit.base) else path.stat().st_size


def _records(path: Path, stop: int) -> Iterator[Pieces]:
    """Read the records of a segment up to a byte."""
    if not stop:
        return
    descriptor, at = os.open(path, os.O_RDONLY), 0
    try:
        while at < stop:
            chunk, spans = read_chunk(descriptor, at, stop)
            if not spans:
                raise damage(path, at)
            for start, middle, end in spans:
                yield chunk[start:middle], chunk[middle:end]
            at += spans[-1][2]
    finally:
        os.close(descriptor)
