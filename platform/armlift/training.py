"""Training: the rows of a log as what arms are fitted on."""

import hashlib
import math
import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import polars as pl
from sqlalchemy import Engine

from armlift.arm import Arm, ArmConfig, Behaviour, History, ItemTable
from armlift.artefacts import Manifest, load_artefact
from armlift.errors import InputError
from armlift.fitted import FittedArms, Watch
from armlift.hashing import keys_of
from armlift.lab import Lab
from armlift.logs.log import LogBatch
from armlift.logs.reader import Log

BUCKET_ROWS = 100_000
"""Log rows that are grouped by unit in memory at once; longer logs are grouped bucket by bucket."""


class TrainingData:
    """The rows of a log before `until` (UTC milliseconds), grouped by unit: one pass over the log.

    Memory holds one bucket of units and the catalogue; with more rows than `bucket_rows` the buckets lie in
    temporary files until `close`.
    """

    def __init__(self, log: Log, until: int, *, bucket_rows: int = BUCKET_ROWS) -> None:
        self.until = until
        self._buckets = max(1, math.ceil(log.summary.rows / bucket_rows))
        self._folder = tempfile.TemporaryDirectory(prefix="armlift-") if self._buckets > 1 else None
        self._frames: list[list[pl.DataFrame | Path]] = [[] for _ in range(self._buckets)]
        items: set[str] = set()
        for batch in log.batches():
            n = int(np.searchsorted(batch.ts, until))
            items.update(batch.items[:n])
            self._keep(_behaviours(batch, n))
            if n < len(batch):
                break
        self.items = ItemTable(sorted(items))
        self.data_hash = hashlib.sha256(f"{log.summary.sha256}|{until}".encode()).hexdigest()

    def histories(self) -> Iterator[History]:
        """Give each unit's behaviours, oldest first; units of a bucket in the order of their ids."""
        for bucket in self._frames:
            parts = [part if isinstance(part, pl.DataFrame) else pl.read_ipc(part) for part in bucket]
            if not parts:
                continue
            rows = pl.concat(parts).sort("unit", maintain_order=True).iter_rows()
            for unit, group in groupby(rows, key=itemgetter(0)):
                yield History(unit, [Behaviour(*row[1:]) for row in group])

    def close(self) -> None:
        """Remove the temporary files."""
        if self._folder is not None:
            self._folder.cleanup()

    def _keep(self, frame: pl.DataFrame) -> None:
        if self._folder is None:
            self._frames[0].append(frame)
            return
        bucket = keys_of(frame["unit"].to_list()) % np.uint64(self._buckets)
        for number in range(self._buckets):
            part = frame.filter(pl.Series(bucket == np.uint64(number)))
            if len(part):
                path = Path(self._folder.name) / f"{number}-{len(self._frames[number])}.arrow"
                part.write_ipc(path)
                self._frames[number].append(path)


def _behaviours(batch: LogBatch, n: int) -> pl.DataFrame:
    """Turn the first n rows of a batch into behaviours, in the order of the rows, then of the kinds."""
    places = {kind: np.flatnonzero(values[:n]) for kind, values in batch.feedback.items()}
    row = np.concatenate([*places.values(), np.empty(0, np.int64)]).astype(np.int64)
    value = np.concatenate([*(batch.feedback[kind][at] for kind, at in places.items()), np.empty(0)])
    kind = [kind for kind, at in places.items() for _ in range(len(at))]
    order = np.argsort(row, kind="stable")
    units, items = pl.Series(batch.units, dtype=pl.String), pl.Series(batch.items, dtype=pl.String)
    return pl.DataFrame(
        {
            "unit": units.gather(row[order]),
            "item": items.gather(row[order]),
            "kind": pl.Series(kind, dtype=pl.String).gather(order),
            "value": value[order],
            "ts": batch.ts[row[order]],
        }
    )


class Trainer:
    """Gives fitted arms of one log and cut: from their artefacts where these exist, else by fitting them."""

    def __init__(self, lab: Lab, engine: Engine, log: Log, until: int, *, watch: Watch | None = None) -> None:
        self._lab = lab
        self._fitted = FittedArms(lab, engine, watch=watch)
        self._log = log
        self._until = until
        self._data: TrainingData | None = None

    def arm(self, config: ArmConfig, *, version: str | None = None, warm: str | None = None) -> Arm:
        """Give one arm, fitted on the rows before the cut, or the artefact `version` of any other data.

        With `warm` it is fitted from that artefact on. Raises InputError for an artefact that is missing,
        damaged, or knows rows from the cut on, and for a `warm` that nothing can go on from.
        """
        if version is not None:
            arm, manifest = load_artefact(self._fitted.url, config.name, version)
            self._check_cut(manifest)
            return arm
        with self._fitted.start(config, warm) as start:
            if start is not None:
                self._check_cut(start.manifest)
        return self._fitted.known(config, self.data_hash, warm=warm) or self._fit(config, warm)

    def close(self) -> None:
        """Let go of the training data."""
        if self._data is not None:
            self._data.close()

    @property
    def data_hash(self) -> str:
        """Hash what arms are trained on: the log and the cut."""
        return hashlib.sha256(f"{self._log.summary.sha256}|{self._until}".encode()).hexdigest()

    def _check_cut(self, manifest: Manifest) -> None:
        if manifest.data_until > self._until:
            calendar = self._lab.calendar
            raise InputError(
                f"artefact {manifest.arm}/{manifest.version} was trained on data until "
                f"{calendar.show(manifest.data_until)}, must not be later than the cut, "
                f"{calendar.show(self._until)}"
            )

    def _fit(self, config: ArmConfig, warm: str | None) -> Arm:
        if self._data is None:
            self._data = TrainingData(self._log, self._until)
        return self._fitted.fit(config, self._data, warm=warm)
