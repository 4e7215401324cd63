"""Who owns which partition of the embedded stream within a group of readers."""

import fcntl
import os
import shutil
import time
from pathlib import Path

from armlift.streams.segment import failure
from armlift.streams.stream import Partition, check_group


class GroupMember:
    """Owns partitions by locks on files, which the operating system takes back when the process dies.

    Whoever comes first owns everything; others wait for what is let go. `claim` looks at most once every
    `interval` seconds. The locks of a member that is `alone`, as no other will ever be in its group, are
    removed with it; those of others stay, as a lock that is removed and made again could have two owners.
    """

    def __init__(
        self, folder: Path, group: str, partitions: int, interval: float, *, alone: bool = False
    ) -> None:
        check_group(group)
        self.name = group
        self._alone = alone
        self._folder = folder / "groups" / group
        self._partitions = partitions
        self._interval = interval
        self._due = 0.0
        self._locks: dict[Partition, int] = {}

    @property
    def owned(self) -> list[Partition]:
        """List the partitions owned now, in order."""
        return sorted(self._locks)

    def claim(self) -> list[Partition]:
        """Try to become the owner of every partition not owned yet; list the new ones."""
        now = time.monotonic()
        if len(self._locks) == self._partitions or now < self._due:
            return []
        self._due = now + self._interval
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = (partition for partition in range(self._partitions) if partition not in self._locks)
            return [partition for partition in free if self._lock(partition)]
        except OSError as error:
            raise failure(self._folder, "lock", error) from error

    def _lock(self, partition: Partition) -> bool:
        descriptor = os.open(self._folder / f"{partition}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks[partition] = descriptor
        return True

    def release(self, partitions: list[Partition]) -> None:
        """Let go of partitions."""
        for partition in partitions:
            os.close(self._locks.pop(partition))

    def close(self) -> None:
        """Let go of every partition for good."""
        self.release(self.owned)
        if self._alone:
            shutil.rmtree(self._folder, ignore_errors=True)
