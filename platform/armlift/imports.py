"""Imports: exposures and events of your own become a run, by the tables that replays and streams fill.

A run is named by its definition and by what its sources hold, in whatever order and form: the same rows from
a CSV file and from a database are the same run, and importing it again adds nothing. Sources are read twice:
first to name the run, then to store it. An import that was broken off is begun again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import polars as pl
from sqlalchemy import Connection, Engine, delete, select

from armlift.batch import Batch, write
from armlift.errors import InputError
from armlift.events import (
    IMPRESSION_KIND,
    Event,
    Exposure,
    Feedback,
    Impression,
    exposure_identity,
    request_identity,
)
from armlift.experiment import Experiment
from armlift.imported_rows import NO_VERSION, REASON, Reader, content_of, name_of
from armlift.lab import Lab
from armlift.mapping import Mapping
from armlift.metric import Metrics, measures
from armlift.rollup import roll_up_all
from armlift.runs import IMPORTED, Run, Subjects, begin, definition_of, find, finish, run_identity
from armlift.segments import check_values, segment_name, tell
from armlift.splitter import generations
from armlift.store import tables
from armlift.store.database import writing
from armlift.store.partitions import Partitions, oldest
from armlift.tabular import Tabular

Part = Literal["exposures", "events"]
Progress = Callable[[int, int], None]
NO_ITEM = "-"
_LISTED = 500
"""Units a query names, as many as any database takes."""


class Survey(NamedTuple):
    """What the first pass finds: rows, a hash of them all, usable times, kinds, and the arms' versions."""

    rows: int
    content: str
    first_ts: int
    last_ts: int
    kinds: frozenset[str]
    versions: dict[str, set[str]]


class Import:
    """One import: an experiment of a lab, and the tables its exposures and events are in.

    Raises InputError for a column that is missing, a mapping that names what is not there, or a table in
    which no row can be used.
    """

    def __init__(
        self, lab: Lab, experiment: Experiment, exposures: Tabular, events: Tabular, mapping: Mapping
    ) -> None:
        self._lab = lab
        self._experiment = experiment
        self._metrics: Metrics = lab.metrics_of(experiment)
        self._tables: dict[Part, Tabular] = {"exposures": exposures, "events": events}
        self._mapping = mapping
        self._kinds = (IMPRESSION_KIND, *lab.settings.kinds.names)
        self._segments = experiment.analysis.segments
        mapping.check(list(experiment.arms), self._kinds, self._segments)
        self._columns: dict[Part, dict[str, str]] = {
            "exposures": mapping.columns("exposures", exposures, self._segments),
            "events": mapping.columns("events", events),
        }
        self._reader = Reader(lab.calendar, mapping.content.epoch)
        self._generations = [generation for generation, _ in generations(experiment)]

    def run(self, engine: Engine, progress: Progress | None = None) -> Run:
        """Store it, and give the finished run; one that is stored already is only given."""
        with engine.connect() as connection:
            self._reader = self._reader._replace(oldest_day=oldest(connection))
        exposures, events = self._survey("exposures"), self._survey("events")
        described = self._describe(exposures, events)
        with writing(engine) as connection:
            if find(connection, described.run, described.experiment) is not None:
                stored = begin(connection, described)
                if stored.finished:
                    return stored
                _forget(connection, stored.run)
            run = begin(connection, described)
        dropped = self._store(engine, run.run, exposures.rows + events.rows, progress)
        counts = {"rows": events.rows, "random_rows": None, "compared": 0}
        with writing(engine) as connection:
            return finish(connection, run, resolution=counts, dropped=dict(sorted(dropped.items())))

    def _batches(self, part: Part) -> Iterator[pl.DataFrame]:
        """Read a table: what `Reader` gives, batch after batch."""
        columns, names = self._columns[part], self._mapping.content
        summed = {
            measure.event
            for metric in self._metrics.values()
            for measure in measures(metric).values()
            if measure.aggregate == "sum" or measure.minimum is not None or measure.maximum is not None
        } - {IMPRESSION_KIND}
        for batch in self._tables[part].batches(list(dict.fromkeys(columns.values()))):
            if part == "exposures":
                yield self._reader.exposures(batch, columns, self._experiment, names.arms)
            else:
                yield self._reader.events(batch, columns, self._kinds, summed, names.kinds)

    def _survey(self, part: Part) -> Survey:
        rows, content = 0, 0
        first: int | None = None
        last = 0
        kinds: set[str] = set()
        versions: dict[str, set[str]] = {}
        values: dict[str, set[str]] = {attribute: set() for attribute in self._segments}
        dropped: Counter[str] = Counter()
        for frame in self._batches(part):
            rows += len(frame)
            content += content_of(frame)
            dropped.update(frame[REASON].drop_nulls())
            good = frame.filter(pl.col(REASON).is_null())
            if len(good):
                low, high = good.select(pl.min("ts").alias("low"), pl.max("ts").alias("high")).row(0)
                first, last = low if first is None else min(first, low), max(last, high)
            if part == "events":
                kinds.update(good["kind"].unique())
            else:
                for attribute, known in values.items():
                    known.update(good[segment_name(attribute)].drop_nulls().unique())
                check_values(values)
                for arm, version in good.select("arm", "arm_version").unique().iter_rows():
                    versions.setdefault(arm, set()).add(version)
        if first is None:
            raise InputError(f"{self._tables[part].name}: {_unusable(rows, dropped)}")
        return Survey(rows, name_of(content), first, last, frozenset(kinds), versions)

    def _describe(self, exposures: Survey, events: Survey) -> Run:
        experiment = self._experiment
        definition = definition_of(experiment, self._metrics)
        identity = {
            "import": 1,
            "definition": definition,
            "experiment": experiment.content_hash,
            "timezone": self._lab.settings.timezone,
            "mapping": self._mapping.content.model_dump(mode="json"),
            "exposures": exposures.content,
            "events": events.content,
        }
        versions = {arm: sorted(exposures.versions.get(arm, {NO_VERSION})) for arm in experiment.arms}
        return Run(
            run=run_identity(identity),
            number=0,
            experiment=experiment.name,
            mode=IMPORTED,
            paired=False,
            k=0,
            seed=0,
            state="running",
            synthetic=False,
            definition=definition,
            arms={arm: found[0] if len(found) == 1 else "several" for arm, found in versions.items()},
            log={
                "files": [table.name for table in self._tables.values()],
                "format": "imported",
                "sha256": f"{exposures.content}, {events.content} (XXH3 of the rows)",
                "rows": exposures.rows + events.rows,
                "first_ts": min(exposures.first_ts, events.first_ts),
                "last_ts": max(exposures.last_ts, events.last_ts),
                "kinds": sorted(events.kinds),
                "random_rows": None,
            },
            resolution={},
            dropped={},
        )

    def _store(self, engine: Engine, run: str, total: int, progress: Progress | None) -> Counter[str]:
        """Store exposures, then the events of exposed units; gives what was dropped, by reason."""
        dropped: Counter[str] = Counter()
        partitions, done = Partitions(engine), 0
        for part in self._tables:
            number = 0
            for frame in self._batches(part):
                numbered = frame.with_row_index("number", offset=number)
                number, done = number + len(frame), done + len(frame)
                good = numbered.filter(pl.col(REASON).is_null())
                dropped.update(f"{part[:-1]}_{reason}" for reason in frame[REASON].drop_nulls())
                batch = Batch(self._lab.calendar)
                if part == "exposures":
                    batch.add(self._exposures(run, good))
                else:
                    found = self._events(
                        run, good, self._arms(engine, run, good["unit_id"].unique().to_list())
                    )
                    dropped["event_unit_not_exposed"] += len(good) - len(found)
                    batch.add(found)
                partitions.ensure(batch.request_days)
                with writing(engine) as connection:
                    write(connection, batch)
                    dropped["unit_forgotten"] += batch.dropped.total()
                    if part == "exposures":
                        self._tell_segments(connection, run, good)
                if progress is not None:
                    progress(done, total)
            # Exposures before there are events: the rollup need not look for those a new exposure moves.
            roll_up_all(engine, Subjects())
        return +dropped

    def _tell_segments(self, connection: Connection, run: str, good: pl.DataFrame) -> None:
        for attribute in self._segments:
            values = good.select("unit_id", "ts", segment_name(attribute)).drop_nulls()
            tell(connection, run, attribute, values.iter_rows())

    def _arms(self, engine: Engine, run: str, units: Sequence[str]) -> dict[str, str]:
        """Look up the arms of those units that were exposed."""
        e = tables.exposures.c
        of_run = (e.run == run, e.experiment == self._experiment.name)
        found: dict[str, str] = {}
        with engine.connect() as connection:
            for start in range(0, len(units), _LISTED):
                some = select(e.unit_id, e.arm).where(*of_run, e.unit_id.in_(units[start : start + _LISTED]))
                found.update((row[0], row[1]) for row in connection.execute(some))
        return found

    def _exposures(self, run: str, good: pl.DataFrame) -> list[Event]:
        name = self._experiment.name
        columns = good.select("unit_id", "ts", "arm", "phase", "arm_version", "forced")
        return [
            Exposure(
                exposure_identity(ts, run, unit, name, arm),
                *(run, ts, unit, name, self._generations[phase], phase, arm, version, forced),
            )
            for unit, ts, arm, phase, version, forced in columns.iter_rows()
        ]

    def _events(self, run: str, good: pl.DataFrame, arms: dict[str, str]) -> list[Event]:
        """Make events of the units that have an arm; each is a request of its own, named by its row."""
        found: list[Event] = []
        for number, unit, ts, kind, value in good.select(
            "number", "unit_id", "ts", "kind", "value"
        ).iter_rows():
            if unit not in arms:
                continue
            identity = request_identity(ts, f"{run}|{number}")
            begins = (identity, run, ts, identity, unit)
            if kind == IMPRESSION_KIND:
                found.append(Impression(*begins, arms[unit], NO_VERSION, NO_ITEM, 0, 0, None, None))
            else:
                found.append(Feedback(*begins, NO_ITEM, kind, value))
        return found


def _unusable(rows: int, dropped: Counter[str]) -> str:
    if not rows:
        return "has no row, must have one or more"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common())
    hint = "; times that are numbers are read in the unit `epoch` of --map, ms by default"
    return f"none of {rows:,} rows can be used: {reasons}{hint if 'bad_time' in dropped else ''}"


def _forget(connection: Connection, run: str) -> None:
    """Delete what an import that was broken off has stored."""
    for table in (
        tables.exposures,
        tables.impressions,
        tables.feedback,
        tables.unit_days,
        tables.touched_cells,
        tables.unit_attributes,
    ):
        connection.execute(delete(table).where(table.c.run == run))
