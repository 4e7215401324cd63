"""Batches: the rows of some records' events, by table, and the cells of the rollup that they touch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import Connection, Table

from armlift.days import Calendar
from armlift.durations import LATENESS, milliseconds
from armlift.events import Alias, BadEvent, Event, Exposure, Feedback, Impression, request_day, request_time
from armlift.forgotten import Erased, Forgotten, count_dropped, last, writing_units
from armlift.lateness import Arrivals
from armlift.naming import names_in
from armlift.store import tables
from armlift.store.sink import append, insert_new

TABLES: Mapping[type[Event], Table] = {
    Exposure: tables.exposures,
    Impression: tables.impressions,
    Feedback: tables.feedback,
}
"""The tables whose columns are the fields of an event, behind its request day and its day."""
Row = tuple[Any, ...]
_UNITS: Mapping[Table, Sequence[int]] = {
    table: [place for place, name in enumerate(table.c.keys()) if name in ("unit_id", "anonymous_id")]
    for table in (*TABLES.values(), tables.aliases)
}
"""Where the rows of a table name units."""
_TIME = {table: list(table.c.keys()).index("ts") for table in _UNITS}
_EVENT_ID = list(tables.exposures.c.keys()).index("event_id")
_RAW = list(tables.dead_letters.c.keys()).index("bytes")


class Batch:
    """The rows of a batch, by table, and the cells they touch."""

    def __init__(self, calendar: Calendar, lateness: int = milliseconds(LATENESS)) -> None:
        self.arrivals = Arrivals(lateness)
        self.rows: dict[Table, list[Row]] = {table: [] for table in (*TABLES.values(), tables.aliases)}
        self.dead: list[Row] = []
        self.dropped: Counter[int] = Counter()
        self._rows = {kind: self.rows[table] for kind, table in TABLES.items()}
        self._cells: set[tuple[str, str, int]] = set()
        self._exposed: set[tuple[str, str, str, int]] = set()
        self._merged: set[tuple[str, str]] = set()
        self._day = calendar.day

    def add(self, events: Sequence[Event], partition: int = 0, arrived: int | None = None) -> None:
        """Take in a record's valid events; they count as arrivals where their time (UTC ms) is known."""
        watermark = None if arrived is None else self.arrivals.watermark(arrived)
        counts, counted, touched = [0, 0, 0], None, None
        # A record's events are mostly of one cell: what is kept by cell is looked up when it changes.
        for event in events:
            ts = event.ts
            day = self._day(ts)
            cell = (event.run, event.unit_id, day)
            if watermark is not None:
                if cell != counted:
                    counts, counted = self.arrivals.counts(partition, event.run, day, watermark), cell
                counts[0] += 1
                counts[1] += ts < watermark
            if type(event) is Alias:
                self._merged.add((event.run, event.anonymous_id))
                self.rows[tables.aliases].append((event.run, event.anonymous_id, ts, event.unit_id))
                continue
            if type(event) is Exposure:
                self._exposed.add((event.run, event.unit_id, event.arm, ts))
            elif cell != touched:
                self._cells.add(cell)
                touched = cell
            self._rows[type(event)].append((request_day(event.event_id), day) + astuple(event))  # noqa: RUF005 (slower)

    def reject(self, stream_id: str, partition: int, offset: int, bad: BadEvent) -> None:
        """Take in one bad event of a record, as a dead letter."""
        self.dead.append((stream_id, partition, offset, bad.place, bad.reason, bad.raw, bad.schema))

    def drop(self, forgotten: Forgotten) -> None:
        """Leave out what units did before they were forgotten, and bad events that name such a unit.

        How many that were is in `dropped`, by the number of the erasure.
        """
        if not forgotten:
            return
        self.dead[:] = self._nameless(forgotten)
        gone = forgotten.among(self._named)
        if not gone:
            return
        for table, rows in self.rows.items():
            rows[:] = self._without(table, rows, gone)
        out = gone.keys() - self._named
        self._cells = {one for one in self._cells if one[1] not in out}
        self._exposed = {one for one in self._exposed if one[1] not in out}
        self._merged = {one for one in self._merged if one[1] not in out}

    @property
    def _named(self) -> set[str]:
        """Name the units of all rows."""
        return {row[place] for table, rows in self.rows.items() for place in _UNITS[table] for row in rows}

    def _nameless(self, forgotten: Forgotten) -> Iterator[Row]:
        """Give the bad events that name no forgotten unit; when they happened cannot be told."""
        for letter in self.dead:
            named = forgotten.among(names_in(letter[_RAW])).values()
            if not named:
                yield letter
            self.dropped.update({one.number for one in named})

    def _without(self, table: Table, rows: Iterable[Row], gone: Mapping[str, Erased]) -> Iterator[Row]:
        """Give the rows that are not of the time before one of their units was forgotten."""
        for row in rows:
            erased = last(gone[row[place]] for place in _UNITS[table] if row[place] in gone)
            if erased is None or _happened(table, row) > erased.at:
                yield row
            else:
                self.dropped[erased.number] += 1

    @property
    def by_table(self) -> dict[str, int]:
        """Count the events of the batch, by the table they belong to."""
        return {table.name: len(rows) for table, rows in self.rows.items()}

    @property
    def events(self) -> int:
        """Count the events of the batch."""
        return sum(self.by_table.values())

    @property
    def request_days(self) -> set[int]:
        """Give the request days of what is partitioned by them."""
        return {row[0] for table in tables.PARTITIONED for row in self.rows[table]}

    @property
    def marks(self) -> list[Row]:
        """Give the rows of `touched_cells`."""
        cells = [(run, unit, day, None, None) for run, unit, day in self._cells]
        exposed = [(run, unit, None, arm, ts) for run, unit, arm, ts in self._exposed]
        return [*cells, *exposed, *((run, merged, None, None, None) for run, merged in self._merged)]


def _happened(table: Table, row: Row) -> int:
    """Tell when something happened (UTC ms): at its own time or that of its request, whichever is earlier."""
    ts: int = row[_TIME[table]]
    return ts if table is tables.aliases else min(ts, request_time(row[_EVENT_ID]))


def write(
    connection: Connection, batch: Batch, stream_id: str | None = None, forgotten: Forgotten | None = None
) -> int:
    """Store a batch's rows, and mark the cells they touch; gives how many events were new.

    `stream_id` is where the events arrived, if they count as arrivals. What is of forgotten units is left
    out; whoever writes often keeps those `forgotten`.
    """
    batch.drop(writing_units(connection, forgotten))
    count_dropped(connection, batch.dropped)
    new = sum(insert_new(connection, table, rows) for table, rows in batch.rows.items())
    insert_new(connection, tables.dead_letters, batch.dead)
    if stream_id is not None:
        batch.arrivals.write(connection, stream_id)
    append(connection, tables.touched_cells, batch.marks)
    return new
