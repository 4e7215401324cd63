"""Forgetting: units are erased from all a lab stores: its database, stream, spill, archive and data sets.

What identifies the unit is recorded first, as a keyed hash, so that whatever happens after it nothing of the
unit is taken in again, and so that a database restored from a backup forgets it too. Broken off anywhere and
done again, it comes to the same.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine

from armlift import erasure, forgotten
from armlift.archive.alone import alone
from armlift.archive.archive import Archive
from armlift.decisions import check_by, log
from armlift.erased_messages import Covers, without_units
from armlift.erasure_records import ErasureRecords
from armlift.forgotten import Forgotten, Record
from armlift.lab import Lab
from armlift.serving.service import SPILL
from armlift.store.database import reading, writing
from armlift.streams.blanking import blank_stream
from armlift.streams.opening import stream_folder
from armlift_pipelines import kept_units
from armlift_pipelines.dataset import DATASETS
from armlift_pipelines.dataset_erasure import erase_from_all

STREAM, ARCHIVE, DATA = "stream", "archive", "datasets"
"""What is counted beside tables: messages of the embedded stream and the spill, rows of the other two."""


class Found(NamedTuple):
    """What there is of a unit: its ids, rows by where they are, and experiments whose definition names it."""

    ids: list[str]
    counts: dict[str, int]
    definitions: list[str]


class Repeated(NamedTuple):
    """What repeating all erasures came to: how many are recorded, ids that were found again, what went."""

    recorded: int
    ids: int
    counts: dict[str, int]


class Forgetting:
    """Forgets units of a lab; `by` says who does it, `at` when (UTC ms).

    Raises InputError, StreamError or StoreError, one line each, where a part cannot be read or written, or
    another process writes the archive; what was begun is finished by doing it again.
    """

    def __init__(self, lab: Lab, engine: Engine, *, by: str, at: int) -> None:
        check_by(by)
        self._engine, self._calendar = engine, lab.calendar
        self._by, self._at = by, at
        url = lab.resolve(lab.settings.archive_url)
        self._archive, self._records = Archive(url), ErasureRecords(url)
        self._datasets = lab.folder / DATASETS
        stream = stream_folder(lab)
        self._streams = [*([stream] if stream else []), *_generations(lab.folder / SPILL)]

    def find(self, unit: str) -> Found:
        """Say what there is of a unit; nothing is changed."""
        with reading(self._engine) as connection:
            ids = erasure.ids_of(connection, unit)
            counts = Counter(erasure.count(connection, ids))
            definitions = erasure.definitions_with(connection, ids)
        counts[STREAM] = self._blank(_all_of(ids), dry=True)
        counts[ARCHIVE] = kept_units.archived_rows(self._archive, ids)
        counts[DATA] = kept_units.dataset_rows(self._datasets, ids)
        return Found(ids, dict(+counts), definitions)

    def forget(self, unit: str) -> Found:
        """Erase a unit, and record that; gives what there was of it."""
        with reading(self._engine) as connection:
            ids = erasure.ids_of(connection, unit)
            definitions = erasure.definitions_with(connection, ids)
            secret = forgotten.secret_of(connection)
        records = forgotten.records_of(ids, secret=secret or self._secret(), at=self._at, by=self._by)
        self._record(records)
        gone = Counter(erasure.erase(self._engine, ids, self._calendar))
        gone[STREAM] = self._blank(_all_of(ids))
        gone += self._erase_files(ids)
        gone += Counter(erasure.erase_aliases(self._engine, ids))
        self._finish(records, gone)
        return Found(ids, dict(+gone), definitions)

    def again(self) -> Repeated:
        """Erase again what was ever recorded as erased: after a restore, or where something came back."""
        self._record(self._records.all())
        with reading(self._engine) as connection:
            known = Forgotten().refresh(connection)
            records = forgotten.all_records(connection)
            named = known.among(erasure.units(connection))
        archived = {unit for unit, ts in kept_units.archived(self._archive) if known.covers(unit, ts)}
        learned = {*known.among(kept_units.in_datasets(self._datasets))}
        gone: Counter[str] = Counter()
        for until in sorted({one.at for one in named.values()}):
            ids = [unit for unit, one in named.items() if one.at == until]
            gone += Counter(erasure.erase(self._engine, ids, self._calendar, until=until))
            gone += Counter(erasure.erase_aliases(self._engine, ids, until=until))
        gone[erasure.LETTERS.name] += erasure.erase_letters(
            self._engine, lambda some: bool(known.among(some))
        )
        gone[STREAM] = self._blank(known.covers)
        gone += self._erase_files(archived | learned)
        self._finish(records, gone)
        return Repeated(len(records), len({*named, *archived, *learned}), dict(+gone))

    def _secret(self) -> str:
        """Give the secret of earlier erasures, which a new database does not know; else draw one."""
        earlier = [one.secret for one in self._records.all()]
        return earlier[-1] if earlier else forgotten.new_secret()

    def _record(self, records: Collection[Record]) -> None:
        """Record erasures, outside the database first: from then on nothing of the units is taken in."""
        for one in records:
            self._records.add(one)
        with writing(self._engine) as connection:
            forgotten.write(connection, records)

    def _erase_files(self, ids: Collection[str]) -> Counter[str]:
        gone: Counter[str] = Counter()
        if ids:
            with alone(self._engine):
                gone[ARCHIVE] = self._archive.erase(ids).rows
            gone[DATA] = sum(erase_from_all(self._datasets, ids).values())
        return gone

    def _blank(self, covers: Covers, *, dry: bool = False) -> int:
        blank = without_units(covers)
        return sum(blank_stream(folder, blank, dry=dry) for folder in self._streams)

    def _finish(self, records: Sequence[Record], gone: Counter[str]) -> None:
        with writing(self._engine) as connection:
            forgotten.finish(connection, records, at=self._at, counts=dict(+gone))
            details = {"ids": len(records), "erased": dict(+gone)}
            log(connection, at=self._at, by=self._by, action="forget", subject="units", details=details)


def _all_of(ids: Iterable[str]) -> Covers:
    """Cover all that some ids ever did."""
    those = frozenset(ids)
    return lambda unit, _at: unit in those


def _generations(spill: Path) -> list[Path]:
    """Name the streams that lie in a spill."""
    return sorted(path.parent for path in spill.glob("*/*/stream.json"))
