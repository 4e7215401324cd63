"""An archive: its runs and days, the files they consist of, and whether these are sound."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from armlift.archive import manifest as manifests
from armlift.archive.erasing import Erased, without
from armlift.archive.folder import UNFINISHED, Folder
from armlift.archive.manifest import MANIFESTS, Manifest, StoredFile
from armlift.archive.schema import TABLES
from armlift.errors import InputError

THREADS = 16
"""Manifests read at a time: an object store takes its time for each."""


class Archive:
    """The archive at a URL; days are counted from 1970-01-01, in UTC, as `request_day` of events is.

    It reads anew what it is asked for. Its methods raise InputError, one line, where files cannot be read.
    """

    def __init__(self, url: str) -> None:
        """Open an archive, which need not be there yet; raises InputError for a URL that cannot be opened."""
        self.url = url
        self.folder = Folder(url)

    def runs(self) -> list[str]:
        """List the runs of which a day is archived, sorted."""
        return sorted({run for run, _ in self.archived()})

    def days(self, run: str) -> list[int]:
        """List the archived days of a run, in order."""
        return sorted(day for name, day in self.archived() if name == run)

    def archived(self) -> set[tuple[str, int]]:
        """Give every (run, day) that has a manifest."""
        found = map(manifests.run_and_day, self.folder.sizes(MANIFESTS))
        return {one for one in found if one is not None}

    def manifest(self, run: str, day: int) -> Manifest:
        """Read the manifest of a day that has one."""
        path = manifests.manifest_path(run, day)
        try:
            found = manifests.parse(self.folder.read(path))
        except InputError as error:
            raise error if error.__cause__ is None else self.folder.error(path, str(error)) from error
        if found.path != path:
            raise self.folder.error(path, f"is of {found.run!r} and {found.day}, must be of its path's")
        return found

    def manifests(self, run: str, until: int | None = None) -> list[Manifest]:
        """Read the manifests of a run's days, of those before `until`, in their order."""
        days = [day for day in self.days(run) if until is None or day < until]
        return list(self.read((run, day) for day in days).values())

    def read(self, days: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Manifest]:
        """Read the manifests of some (run, day) that have one."""
        wanted = sorted(days)
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(wanted, pool.map(lambda one: self.manifest(*one), wanted), strict=True))

    def files(self, run: str, table: str, until: int | None = None) -> list[str]:
        """Give the Parquet files of a run's table, of days before `until`: absolute paths, or URLs.

        A local path is to be taken as it is: a `%` of it is a part of the name.
        """
        named = [one.tables.get(table, ()) for one in self.manifests(run, until)]
        return [self.folder.address(file.path) for files in named for file in files]

    def damaged(self, manifest: Manifest, sizes: Mapping[str, int], *, deep: bool) -> list[StoredFile]:
        """List the files of a day that are gone or have another size, with `deep` also another content.

        `sizes` are those of the archive's folder.
        """
        return [
            file
            for file in manifest.files
            if sizes.get(file.path) != file.bytes or (deep and self._hash(file.path) != file.sha256)
        ]

    def _hash(self, path: str) -> str:
        with self.folder.reading(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # has readinto

    def name(self, manifest: Manifest) -> None:
        """Write a manifest: from now on its files are what the archive holds of that day."""
        self.folder.replace(manifest.path, manifest.model_dump_json(indent=1).encode())

    def sweep(self, known: Iterable[Manifest], paths: Iterable[str]) -> int:
        """Remove the files that no manifest names, as a process that was killed leaves them; counts them.

        `known` are all manifests, `paths` all files. Only who is `alone` may: what another process writes has
        no name yet.
        """
        named = {file.path for one in known for file in one.files}
        strays = [path for path in paths if _ours(path) and path not in named]
        for path in strays:
            self.folder.remove(path)
        return len(strays)

    def erase(self, units: Iterable[str]) -> Erased:
        """Write the files that hold rows of some units anew without them, and remove the old ones.

        Killed at any moment and done again, it comes to the same. Only who is `alone` may.
        """
        unwanted, erased = sorted(set(units)), Erased(0, 0)
        for manifest in self.read(self.archived()).values():
            tables, before = {}, erased
            for table, files in manifest.tables.items():
                kept = []
                for file in files:
                    new = without(self.folder, file, TABLES[table], unwanted)
                    if new != file:
                        erased = Erased(erased.files + 1, erased.rows + file.rows - (new.rows if new else 0))
                    kept += [new] if new else []
                tables[table] = tuple(kept)
            if erased != before:
                self.name(manifests.made_of(manifest.run, manifests.day_number(manifest.day), tables))
        self.sweep(self.read(self.archived()).values(), self.folder.sizes())
        return erased


def _ours(path: str) -> bool:
    """Tell whether a path is one of an event file, or of a manifest that was not finished."""
    top = path.partition("/")[0]
    return (top in TABLES and path.endswith(".parquet")) or (top == MANIFESTS and path.endswith(UNFINISHED))
