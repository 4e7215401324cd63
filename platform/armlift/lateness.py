"""Lateness: when events arrive, against when they happened.

The watermark is the newest arrival less the lateness allowed. An event from before the watermark at its
arrival is late: it counts all the same, for its day is computed again, but a report may have been read
meanwhile. A day that ended before the watermark is complete: what still comes for it is late.
"""

from typing import NamedTuple

from sqlalchemy import Connection, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from armlift.days import DAY_MS
from armlift.store.sink import insert_or
from armlift.store.tables import arrivals

MOST_AHEAD = DAY_MS
"""How far (milliseconds) a client's clock may be ahead of an event's arrival."""


class Arrived(NamedTuple):
    """Events of a run that arrived, repeats included, how many were late, and the watermark (UTC ms)."""

    events: int
    late: int
    watermark: int


class Arrivals:
    """A batch's arrivals by partition, run and day; `lateness` is in milliseconds."""

    def __init__(self, lateness: int) -> None:
        self._lateness = lateness
        self._counts: dict[tuple[int, str, int], list[int]] = {}

    def watermark(self, arrived: int) -> int:
        """Give the time (UTC milliseconds) before which events are late that arrive at `arrived`."""
        return arrived - self._lateness

    def counts(self, partition: int, run: str, day: int, watermark: int) -> list[int]:
        """Give the numbers of events and of late ones, for whoever counts on, and the newest watermark."""
        counts = self._counts.setdefault((partition, run, day), [0, 0, watermark])
        if watermark > counts[2]:
            counts[2] = watermark
        return counts

    def write(self, connection: Connection, stream_id: str) -> None:
        """Add the counts to the tables; a partition has one writer, so that none waits for another."""
        rows = [(stream_id, *key, *counts) for key, counts in sorted(self._counts.items())]
        if rows:
            names = arrivals.c.keys()
            connection.execute(_adding(connection), [dict(zip(names, row, strict=True)) for row in rows])


def _adding(connection: Connection) -> sqlite.Insert | postgresql.Insert:
    statement = insert_or(connection, arrivals)
    old, new = arrivals.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(arrivals.primary_key.columns),
        set_={
            "events": old.events + new.events,
            "late": old.late + new.late,
            "watermark": case((new.watermark > old.watermark, new.watermark), else_=old.watermark),
        },
    )


def arrived(connection: Connection, run: str, until_day: int) -> Arrived | None:
    """Read what arrived of a run for the days until one, that included; None where nothing did.

    The watermark is that of all days: a quiet day does not hold it back.
    """
    a = arrivals.c
    counted = [func.sum(case((a.day <= until_day, column), else_=0)) for column in (a.events, a.late)]
    of_run = select(*counted, func.max(a.watermark)).where(a.run == run)
    row = connection.execute(of_run).one()
    return Arrived(int(row[0]), int(row[1]), row[2]) if row[0] else None
