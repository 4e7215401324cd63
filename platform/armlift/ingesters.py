"""The ingesters of a stream: each says in the database, every few seconds, that it lives and what it did.

An ingester that ends takes its row with it. One that is killed, or fails, leaves it: it is shown as gone once
it has given no sign for `SILENT` seconds, and forgotten after a day. Times are by the database's clock, so
that clocks of hosts which differ do no harm.
"""

import os
import socket
import time
import uuid
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from sqlalchemy import Connection, Engine, delete, insert, select, true, update
from sqlalchemy.exc import SQLAlchemyError

from armlift.days import DAY_MS
from armlift.ingest_metrics import Figures, IngestMetrics
from armlift.store.clock import DatabaseTime
from armlift.store.database import writing
from armlift.store.tables import ingesters

INTERVAL = 5.0
"""Seconds between two signs of life."""
SILENT = 30
"""Seconds without a sign after which an ingester is taken for gone; a batch must take less."""


class Heartbeat:
    """Tells the database that this ingester lives; enter it before the first batch, beat after every one."""

    def __init__(
        self, engine: Engine, stream_id: str, metrics: IngestMetrics, *, interval: float = INTERVAL
    ) -> None:
        self._engine = engine
        self._stream_id = stream_id
        self._metrics = metrics
        self._interval = interval
        self._mine = ingesters.c.id == (identity := uuid.uuid4().hex)
        self._identity = identity
        self._beaten = 0.0
        self._before = metrics.figures()

    def __enter__(self) -> Self:
        now = DatabaseTime()
        row = {
            "id": self._identity,
            "stream_id": self._stream_id,
            "host": socket.gethostname()[:200],
            "pid": os.getpid(),
            "figures": self._before._asdict(),
            "recent": _difference(self._before, self._before, 0.0),
        }
        with writing(self._engine) as connection:
            connection.execute(delete(ingesters).where(ingesters.c.seen < now - DAY_MS))
            connection.execute(insert(ingesters).values(**row, started=now, seen=now))
        self._beaten = time.monotonic()
        return self

    def beat(self) -> bool:
        """Give a sign of life when one is due; tells whether it was."""
        due = time.monotonic() - self._beaten >= self._interval
        if due:
            self._tell()
        return due

    def _tell(self) -> None:
        figures, now = self._metrics.figures(), time.monotonic()
        recent = _difference(self._before, figures, now - self._beaten)
        row = {"seen": DatabaseTime(), "figures": figures._asdict(), "recent": recent}
        with writing(self._engine) as connection:
            connection.execute(update(ingesters).where(self._mine).values(row))
        self._before, self._beaten = figures, now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            # The failure itself is what must come out, though the database may be what fails.
            with suppress(SQLAlchemyError):
                self._tell()
            return
        with writing(self._engine) as connection:
            connection.execute(delete(ingesters).where(self._mine))


def _difference(before: Figures, now: Figures, seconds: float) -> dict[str, float]:
    """Give what was done between two signs of life, and the seconds between them."""
    names = ("records", "events", "bad", "new", "batches", "batch_seconds")
    return {name: getattr(now, name) - getattr(before, name) for name in names} | {"seconds": seconds}


class State(NamedTuple):
    """An ingester as the database knows it; `age` and `silent` are seconds since its start and last sign."""

    host: str
    pid: int
    age: float
    silent: float
    figures: Figures
    recent: dict[str, float]

    @property
    def gone(self) -> bool:
        """Tell whether it has given no sign of life for too long."""
        return self.silent > SILENT

    def rates(self) -> dict[str, float]:
        """Give records and events a second and seconds a batch: between the last two signs, and ever."""
        lifetime = self.age - self.silent
        ever = self.figures
        return {
            "records_per_second": _ratio(self.recent["records"], self.recent["seconds"]),
            "events_per_second": _ratio(self.recent["events"], self.recent["seconds"]),
            "seconds_per_batch": _ratio(self.recent["batch_seconds"], self.recent["batches"]),
            "mean_records_per_second": _ratio(ever.records, lifetime),
            "mean_events_per_second": _ratio(ever.events, lifetime),
            "mean_seconds_per_batch": _ratio(ever.batch_seconds, ever.batches),
        }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def states(connection: Connection, stream_id: str | None) -> list[State]:
    """Read the ingesters of a stream, or of all where none is named, in the order of their start."""
    i, now = ingesters.c, DatabaseTime()
    rows = connection.execute(
        select(i.host, i.pid, now - i.started, now - i.seen, i.figures, i.recent)
        .where(true() if stream_id is None else i.stream_id == stream_id)
        .order_by(i.started, i.id)
    )
    return [
        State(host, pid, max(0, age) / 1000, max(0, silent) / 1000, Figures(**figures), recent)
        for host, pid, age, silent, figures, recent in rows
    ]
