"""Append to one partition of the embedded stream; a failure at any moment neither loses nor doubles."""

import os

from armlift.errors import StreamError
from armlift.streams.segment import (
    Commit,
    CommitFile,
    Mark,
    damage,
    failure,
    segment_bases,
    segment_path,
    sync_folder,
    walk,
)


class PartitionWriter:
    """A buffer of records and the open segment they go to.

    A flush puts the whole buffer into one segment under the partition's lock, syncs it, and moves the commit:
    that last step is what makes the records exist. If anything fails before it, the segment is cut back to
    the commit and the buffer stays, so the same records can be flushed again. A segment that has reached
    `segment_bytes` is closed by the next flush.
    """

    def __init__(self, commit: CommitFile, segment_bytes: int) -> None:
        self._commit = commit
        self._folder = commit.folder
        self._segment_bytes = segment_bytes
        self._parts: list[bytes] = []
        self._base = -1
        self._descriptor = -1
        self._broken = ""
        self.buffered = 0

    def add(self, record: bytes) -> None:
        """Buffer an encoded record."""
        self._parts.append(record)
        self.buffered += len(record)

    def recover(self) -> None:
        """Take in what a writer that died left behind: its whole records, not its torn tail."""
        try:
            with self._commit.locked():
                self._settle()
        except OSError as error:
            raise failure(self._folder, "recover", error) from error

    def seal(self) -> None:
        """Close the segment that is written now: what comes goes to the next one, whoever writes it."""
        try:
            with self._commit.locked():
                commit = self._settle()
                if commit.length:
                    self._open(commit.next)
                    self._sync(0)
                    self._commit.write(Commit(commit.next, 0, commit.next))
        except OSError as error:
            raise failure(self._folder, "close a segment", error) from error

    def flush(self) -> None:
        """Make the buffered records durable and visible: all of them, or, with StreamError, none."""
        if self._broken:
            raise StreamError(self._broken)
        if not self._parts:
            return
        try:
            with self._commit.locked():
                self._flush(self._settle())
        except OSError as error:
            path = segment_path(self._folder, self._base) if self._base >= 0 else self._folder
            raise failure(path, f"write {self.buffered} bytes", error) from error

    def _flush(self, before: Commit) -> None:
        try:
            self._append(before, b"".join(self._parts))
        finally:
            # The file tells whether the records exist: an interrupt may arrive between any two steps.
            if self._commit.read() == before:
                self._cut_back(before)
            else:
                self._parts.clear()
                self.buffered = 0

    def _append(self, before: Commit, data: bytes) -> None:
        base, length = before.base, before.length
        if length >= self._segment_bytes:
            base, length = before.next, 0
        self._open(base)
        _write(self._descriptor, data, length)
        self._sync(length)
        self._commit.write(Commit(base, length + len(data), before.next + len(self._parts)))

    def _cut_back(self, before: Commit) -> None:
        """Remove what a failed append has written; if even that fails, write nothing ever again."""
        if self._descriptor < 0:
            return
        try:
            os.ftruncate(self._descriptor, before.length if self._base == before.base else 0)
        except OSError as error:
            path = segment_path(self._folder, self._base)
            self._broken = (
                f"{path}: a batch failed and cannot be cut off ({error.strerror}); it may appear when the "
                "stream is next opened, so this writer stops"
            )
            raise StreamError(self._broken) from error

    def _settle(self) -> Commit:
        """Give a commit that agrees with the files, moved over whole records beyond it; needs the lock."""
        commit = self._commit.read()
        while True:
            commit = self._adopt(commit)
            following = segment_path(self._folder, commit.next)
            if commit.next == commit.base or not following.exists():
                return commit
            commit = Commit(commit.next, 0, commit.next)
            self._commit.write(commit)

    def _adopt(self, commit: Commit) -> Commit:
        """Move the commit over the whole records that follow it in its segment, and cut off what is torn."""
        path = segment_path(self._folder, commit.base)
        if commit.length == 0 and not path.exists():
            return commit
        self._open(commit.base)
        size = os.fstat(self._descriptor).st_size
        if size < commit.length:
            raise StreamError(f"{path}: has {size} bytes, though {commit.length} were committed")
        if size == commit.length:
            return commit
        end = Mark(0, commit.length)
        for mark in walk(self._descriptor, end, size):
            end = mark
        if end.at < size:
            # A later segment is begun only after this one was synced whole, so here it is no torn tail.
            if segment_bases(self._folder)[-1] > commit.base:
                raise damage(path, end.at)
            os.ftruncate(self._descriptor, end.at)
        self._sync(commit.length)
        commit = Commit(commit.base, end.at, commit.next + end.records)
        self._commit.write(commit)
        return commit

    def _open(self, base: int) -> None:
        if base == self._base:
            return
        descriptor = os.open(segment_path(self._folder, base), os.O_RDWR | os.O_CREAT, 0o644)
        self.close()
        self._base, self._descriptor = base, descriptor

    def _sync(self, committed: int) -> None:
        """Make the segment durable; one that held nothing committed may be new, so its name too."""
        os.fsync(self._descriptor)
        if committed == 0:
            sync_folder(self._folder)

    def close(self) -> None:
        """Close the segment; what is buffered is forgotten."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._base = self._descriptor = -1


def _write(descriptor: int, data: bytes, at: int) -> None:
    """Write all of it at byte `at`: a nearly full disk takes a part first and fails on the rest."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, at)
        view = view[done:]
        at += done
