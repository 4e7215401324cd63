"""Records of erasures outside the database, so that one restored from a backup forgets the same units again.

<archive_url>/forgotten/<hash>-<time>.json    of an id: the secret, its hash, when, by whom; never the id
"""

import json

from armlift.archive.folder import Folder
from armlift.forgotten import Record

FOLDER = "forgotten"


class ErasureRecords:
    """The records beside an archive; its methods raise InputError, one line, for files of no use."""

    def __init__(self, url: str) -> None:
        self._folder = Folder(url)

    def add(self, record: Record) -> None:
        """Keep a record, durably."""
        self._folder.replace(_path(record), json.dumps(record._asdict()).encode())

    def all(self) -> list[Record]:
        """Read all records, in the order of their times."""
        found = [self._read(path) for path in self._folder.sizes(FOLDER) if path.endswith(".json")]
        return sorted(found, key=lambda one: (one.at, one.unit))

    def _read(self, path: str) -> Record:
        try:
            return Record(**json.loads(self._folder.read(path)))
        except (ValueError, TypeError) as error:
            raise self._folder.error(path, f"is no record of an erasure: {error}") from error


def _path(record: Record) -> str:
    return f"{FOLDER}/{record.unit}-{record.at}.json"
