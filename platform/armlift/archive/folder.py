"""A folder of any fsspec file system: what the archive needs of it, with errors of one line."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from armlift.errors import InputError
from armlift.streams.segment import sync_folder

UNFINISHED = ".unfinished"
"""How the name of a file ends that is to take another's place, until it does."""


class Folder:
    """A local folder, or one of an object store; paths are relative to it, with `/` between their parts."""

    def __init__(self, url: str) -> None:
        """Open a folder, which need not be there; raises InputError for a URL that cannot be opened."""
        try:
            self._files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)  # others write there too
        except (ValueError, ImportError, OSError) as error:  # some connect at once
            raise InputError(f"archive_url: {url!r} cannot be opened: {error}") from error
        self._root = root.rstrip("/")
        self._shown = url.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)
        # The library behind an object store raises what it likes.
        self._faults = OSError if self._local else Exception

    def address(self, path: str) -> str:
        """Give where a file lies: an absolute path where the folder is local, else a URL."""
        whole = f"{self._root}/{path}"
        return whole if self._local else str(self._files.unstrip_protocol(whole))

    def error(self, path: str, reason: str) -> InputError:
        """Build the error of a file."""
        return InputError(f"{f'{self._shown}/{path}'.rstrip('/')}: {reason}")

    def sizes(self, path: str = "") -> dict[str, int]:
        """Give the bytes of every file below a path, by path."""
        with self._telling(path, "cannot be listed"):
            found = self._files.find(f"{self._root}/{path}".rstrip("/"), detail=True)
        return {
            name.removeprefix(self._root).lstrip("/"): int(about["size"]) for name, about in found.items()
        }

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        with self._telling(path, "cannot be read"):
            return bytes(self._files.cat_file(f"{self._root}/{path}"))

    @contextmanager
    def reading(self, path: str) -> Iterator[IO[bytes]]:
        """Lend an open file to read from, at any place of it."""
        with self._telling(path, "cannot be read"), self._files.open(f"{self._root}/{path}", "rb") as file:
            yield file

    def write(self, path: str, source: IO[bytes]) -> None:
        """Write a file from an open one's beginning; broken off, it leaves a part in a local folder."""
        whole = f"{self._root}/{path}"
        source.seek(0)
        with self._telling(path, "cannot be written"):
            self._files.makedirs(os.path.dirname(whole), exist_ok=True)
            with self._files.open(whole, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                self._sync(file)
            if self._local:
                sync_folder(Path(whole).parent)

    def replace(self, path: str, content: bytes) -> None:
        """Write a small file at once: whoever reads it has the old content or the new one."""
        whole = f"{self._root}/{path}"
        with self._telling(path, "cannot be written"):
            self._files.makedirs(os.path.dirname(whole), exist_ok=True)
            if not self._local:
                self._files.pipe_file(whole, content)
                return
            scratch = f"{whole}.{uuid.uuid4().hex}{UNFINISHED}"
            with open(scratch, "wb") as file:
                file.write(content)
                self._sync(file)
            os.replace(scratch, whole)
            sync_folder(Path(whole).parent)

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._telling(path, "cannot be removed"):
            self._files.rm_file(f"{self._root}/{path}")

    def _sync(self, file: Any) -> None:
        """Wait until what was written to a local file is on the disk."""
        if self._local:
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _telling(self, path: str, what: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except self._faults as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise self.error(path, f"{what}: {reason}") from error
