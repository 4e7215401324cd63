"""Arrays on disk, for what a fit knows of units: histories may be larger than memory.

Each array lies in a file without a name, mapped into memory, and is gone with its last user, also when the
process is killed. The system brings its pages in as they are read; `let_go` lets it take them back.
"""

import mmap
import os
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedRandom
from math import prod
from typing import Any, overload
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

_BUFFER = 2**20  # bytes gathered before they are written
_PART = 2**18  # rows worked on at a time
_DISK = "/var/tmp"

_maps: WeakSet[mmap.mmap] = WeakSet()


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Make an array of zeros on disk; raises OSError where the disk has no room for it."""
    size = prod(shape) * np.dtype(dtype).itemsize
    file = _file()
    if sys.platform == "linux" and size:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk must be told now, not when pages are written
    else:
        file.truncate(size)
    return _mapped(file, dtype).reshape(shape)


class Growing:
    """An array on disk that grows at its end, of numbers of an `array` type: `i`, `q` or `B`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._file = _file()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: Iterable[int] | npt.NDArray[Any]) -> None:
        """Add numbers, those of an array row by row; raises OSError where the disk is full."""
        if isinstance(values, np.ndarray):
            added = np.ascontiguousarray(values, self._kind).reshape(-1).data
        else:
            added = memoryview(array(self._kind, values))
        self._file.write(added)
        self._size += len(added)

    def done(self) -> npt.NDArray[Any]:
        """Give what was added."""
        self._file.flush()
        return _mapped(self._file, np.dtype(self._kind))


class Strings(Sequence[str]):
    """Strings end to end on disk, in UTF-8: `text` uint8, and where each begins, `starts` int64 [n + 1]."""

    def __init__(self, text: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> None:
        self.text, self.starts = text, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "Sequence[str]": ...
    def __getitem__(self, place: int | slice) -> "str | Sequence[str]":
        if isinstance(place, slice):
            return [self[at] for at in range(len(self))[place]]
        first = range(len(self))[place]
        start, end = self.starts[first : first + 2]
        return self.text[start:end].tobytes().decode("utf-8", "surrogatepass")


def parts(rows: int, most: int = _PART) -> Iterator[slice]:
    """Cut so many rows of arrays on disk in parts of `most`, to be read one by one, and let go of each."""
    for start in range(0, rows, most):
        yield slice(start, min(start + most, rows))
        let_go()


def let_go() -> None:
    """Take what was read or written of all arrays on disk out of this process's memory, if the system can."""
    if sys.platform != "win32":
        for one in [*_maps]:
            one.madvise(mmap.MADV_DONTNEED)


def _file() -> BufferedRandom:
    """Open a file without a name where `TMPDIR` says, else on a disk."""
    folder = _DISK if "TMPDIR" not in os.environ and os.access(_DISK, os.W_OK) else None
    return tempfile.TemporaryFile(buffering=_BUFFER, dir=folder)  # type: ignore[return-value]  # of mode w+b


def _mapped(file: BufferedRandom, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Map a file into memory and close it; the map keeps it."""
    with file:
        if not os.fstat(file.fileno()).st_size:
            return np.zeros(0, dtype=dtype)
        mapped = mmap.mmap(file.fileno(), 0)
    _maps.add(mapped)
    return np.frombuffer(mapped, dtype=dtype)
