"""Read one partition of the embedded stream from any offset on."""

import os
from bisect import bisect_right
from operator import attrgetter

from armlift.errors import StreamError
from armlift.streams.segment import (
    Commit,
    CommitFile,
    Mark,
    Span,
    damage,
    failure,
    read_chunk,
    segment_bases,
    segment_path,
    walk,
)
from armlift.streams.stream import Partition, Record


def beginning(commit: CommitFile) -> int:
    """Give the first offset of a partition that can still be read."""
    bases = segment_bases(commit.folder)
    return bases[0] if bases else commit.read().base


class PartitionReader:
    """A position in a partition, the chunk of records around it, and marks in the segments it has sought in.

    Marks (one every CHUNK or so) are made by walking over a segment the first time an offset in it is sought.
    """

    def __init__(self, partition: Partition, commit: CommitFile) -> None:
        self._partition = partition
        self._commit = commit
        self._folder = commit.folder
        self._offset: int | None = None
        self._placed = False
        self._base = self._descriptor = -1
        self._marks: dict[int, list[Mark]] = {}
        self._at, self._chunk, self._turn = 0, b"", 0
        self._spans: list[Span] = []

    def seek(self, offset: int) -> None:
        """Read on from an offset; whether it is in range shows at the next `read`."""
        self._offset = offset
        self._placed = False

    def read(self, max_records: int) -> tuple[list[Record], int]:
        """Read up to `max_records` records of one chunk, and tell their size in bytes; ([], 0) at the end."""
        try:
            if (not self._placed or self._turn == len(self._spans)) and not self._load():
                return [], 0
        except OSError as error:
            raise failure(self._folder, "read", error) from error
        spans = self._spans[self._turn : self._turn + max_records]
        partition, chunk, offset = self._partition, self._chunk, self._offset or 0
        self._turn += len(spans)
        self._offset = offset + len(spans)
        records = [
            Record(partition, place, chunk[start:middle].decode(), chunk[middle:end])
            for place, (start, middle, end) in enumerate(spans, offset)
        ]
        return records, spans[-1][2] - spans[0][0]

    def close(self) -> None:
        """Close the segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._base = self._descriptor = -1

    def _load(self) -> bool:
        """Have a chunk with the next record in it; False at the end of the partition."""
        commit = self._commit.read()
        if not self._placed:
            self._place(commit)
        offset = self._offset or 0
        if offset == commit.next:
            return False
        if self._turn < len(self._spans):
            return True
        if self._descriptor < 0 or (self._base != commit.base and self._at == self._stop(commit)):
            self._open(offset)
            self._stand(0)
        self._fill(commit)
        return True

    def _place(self, commit: Commit) -> None:
        """Find the place of the offset sought: the segment, then the last mark before it, then the record."""
        bases = segment_bases(self._folder) or [commit.base]
        offset = bases[0] if self._offset is None else self._offset
        if not bases[0] <= offset <= commit.next:
            raise StreamError(
                f"{self._folder}: offset {offset} is out of range, must be {bases[0]} to {commit.next}"
            )
        if offset == commit.next:
            # An empty segment may not be there yet; `_load` opens it when it has a record.
            if commit.length:
                self._open(commit.base)
            else:
                self.close()
            self._stand(commit.length)
        else:
            self._open(bases[bisect_right(bases, offset) - 1])
            mark = self._mark_before(offset - self._base, commit)
            self._stand(mark.at)
            self._fill(commit)
            self._turn = offset - self._base - mark.records
        self._offset, self._placed = offset, True

    def _mark_before(self, records: int, commit: Commit) -> Mark:
        """Give the last mark that has at most `records` records of the open segment before it."""
        marks = self._marks.setdefault(self._base, [Mark(0, 0)])
        if marks[-1].records <= records:
            for mark in walk(self._descriptor, marks[-1], self._stop(commit)):
                marks.append(mark)
                if mark.records > records:
                    break
            else:
                raise damage(segment_path(self._folder, self._base), marks[-1].at)
        return marks[bisect_right(marks, records, key=attrgetter("records")) - 1]

    def _stop(self, commit: Commit) -> int:
        """Give the byte where the open segment ends for readers."""
        return commit.length if self._base == commit.base else os.fstat(self._descriptor).st_size

    def _fill(self, commit: Commit) -> None:
        self._chunk, self._spans = read_chunk(self._descriptor, self._at, self._stop(commit))
        self._turn = 0
        if not self._spans:
            raise damage(segment_path(self._folder, self._base), self._at)
        self._at += self._spans[-1][2]

    def _stand(self, at: int) -> None:
        """Stand at byte `at` of the open segment, with nothing read from there yet."""
        self._at, self._chunk, self._turn = at, b"", 0
        self._spans = []

    def _open(self, base: int) -> None:
        if base == self._base:
            return
        path = segment_path(self._folder, base)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise StreamError(f"{path}: missing, though records up to its offset were committed") from error
        self.close()
        self._base, self._descriptor = base, descriptor
