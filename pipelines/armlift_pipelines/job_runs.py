"""The record of what jobs did, which is also the lock that lets one process do a job at a time.

A run begins as a row with the status `running`, and ends as `succeeded`, `failed` or `skipped`. While it is
running its process gives a sign of life now and then. One whose process is gone, or has given no sign for
`SILENT` seconds, is marked as failed by whoever wants to do the job next. Signs of life are by the database's
clock.
"""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import psutil
from sqlalchemy import ColumnElement, Connection, Engine, func, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from armlift.days import utc_now
from armlift.hashing import hash_of
from armlift.lineage import code_versions
from armlift.store.clock import DatabaseTime
from armlift.store.database import writing
from armlift.store.sink import insert_or
from armlift.store.tables import job_runs

T = TypeVar("T")
RUNNING, SUCCEEDED, FAILED, SKIPPED = "running", "succeeded", "failed", "skipped"
SILENT = 60
"""Seconds without a sign of life after which a process of another host is taken for gone."""
BEAT = 5.0
PATIENCE = 90.0
"""Seconds that a database which is away is waited for."""


class Key(NamedTuple):
    """What is done: a job for a subject, or one step of it, of one arm in a scope where it is of one."""

    job: str
    subject: str
    step: str = ""
    arm: str = ""
    scope: str = ""

    def __str__(self) -> str:
        parts = [self.job, self.subject, self.step, self.arm, "" if self.scope == "*" else self.scope]
        return " ".join(filter(None, parts))


class JobRun(NamedTuple):
    """A row of `job_runs`; times are UTC milliseconds."""

    id: str
    job: str
    subject: str
    step: str
    arm: str
    scope: str
    attempt: int
    status: str
    started: int
    ended: int | None
    owner: str
    seen: int
    inputs_hash: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    versions: Mapping[str, str]
    log: str | None
    error: str | None

    @property
    def key(self) -> Key:
        """Give what was done."""
        return Key(self.job, self.subject, self.step, self.arm, self.scope)

    @property
    def seconds(self) -> float | None:
        """Give how long it took; None while it is running."""
        return None if self.ended is None else (self.ended - self.started) / 1000.0


class BusyError(Exception):
    """Another process is doing the job."""


class Record:
    """The record in one database."""

    def __init__(self, engine: Engine, *, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._patience = patience

    def begin(self, key: Key, inputs: Mapping[str, Any], *, log: str | None = None) -> JobRun:
        """Begin a run; raises BusyError, with the process that does it, where one is running."""
        made = JobRun(
            id=uuid.uuid4().hex, **key._asdict(), attempt=1, status=RUNNING, started=utc_now(), ended=None,
            owner=owner(), seen=0, inputs_hash=hash_of(dict(inputs)), inputs=dict(inputs), outputs={},
            versions=dict(code_versions()), log=log, error=None,
        )  # fmt: skip

        def insert(connection: Connection) -> JobRun:
            self._bury(connection, key)
            last = select(func.coalesce(func.max(job_runs.c.attempt), 0)).where(*_of(key))
            row = made._replace(attempt=connection.execute(last).scalar_one() + 1)
            values = {**row._asdict(), "seen": DatabaseTime()}
            statement = insert_or(connection, job_runs).values(values).on_conflict_do_nothing()
            if connection.execute(statement.returning(job_runs.c.id)).first() is not None:
                return row
            busy = select(job_runs.c.owner).where(*_of(key), job_runs.c.status == RUNNING)
            raise BusyError(f"{key}: {connection.execute(busy).scalar()} is doing it")

        return self._write(insert)

    def end(self, run: JobRun, status: str, outputs: Mapping[str, Any], error: str | None = None) -> JobRun:
        """End a run of this process; gives it as it is stored."""
        done = run._replace(status=status, ended=utc_now(), outputs=dict(outputs), error=error)
        values = {name: getattr(done, name) for name in ("status", "ended", "outputs", "error")}
        mine = (job_runs.c.id == run.id, job_runs.c.status == RUNNING)
        self._write(lambda c: c.execute(update(job_runs).where(*mine).values(values)))
        return done

    def beat(self, run: JobRun) -> None:
        """Give a sign of life; a database that is away hears the next one."""
        with suppress(SQLAlchemyError), writing(self._engine) as connection:
            connection.execute(update(job_runs).where(job_runs.c.id == run.id).values(seen=DatabaseTime()))

    def done(self, key: Key, inputs_hash: str | None = None) -> JobRun | None:
        """Give the newest run of this that succeeded, on these inputs if they are given."""
        conditions = [*_of(key), job_runs.c.status == SUCCEEDED]
        if inputs_hash is not None:
            conditions.append(job_runs.c.inputs_hash == inputs_hash)
        return self._first(conditions, job_runs.c.attempt.desc())

    def first(self, key: Key) -> JobRun | None:
        """Give the first attempt."""
        return self._first(_of(key), job_runs.c.attempt)

    def newest(self, key: Key) -> JobRun | None:
        """Give the newest attempt."""
        return self._first(_of(key), job_runs.c.attempt.desc())

    def runs(
        self, *, job: str | Sequence[str] | None = None, subject: str | None = None,
        status: str | None = None, steps: bool = True, limit: int = 1000,
    ) -> list[JobRun]:  # fmt: skip
        """List runs of a job, or of some, the newest first; without `steps`, whole jobs alone."""
        conditions: list[ColumnElement[bool]] = []
        if job is not None:
            conditions.append(job_runs.c.job.in_([job] if isinstance(job, str) else job))
        if subject is not None:
            conditions.append(job_runs.c.subject == subject)
        if status is not None:
            conditions.append(job_runs.c.status == status)
        if not steps:
            conditions.append(job_runs.c.step == "")
        query = select(job_runs).where(*conditions).order_by(job_runs.c.started.desc(), job_runs.c.id)
        return self._read(lambda c: [JobRun(*row) for row in c.execute(query.limit(limit))])

    def jobs(self) -> list[str]:
        """Name the jobs that were ever done, in order."""
        query = select(job_runs.c.job).distinct().order_by(job_runs.c.job)
        return self._read(lambda c: list(c.execute(query).scalars()))

    def named(self, identity: str) -> list[JobRun]:
        """Give the runs whose id begins so, at most two: a short id may name several."""
        query = select(job_runs).where(job_runs.c.id.startswith(identity, autoescape=True)).limit(2)
        return self._read(lambda c: [JobRun(*row) for row in c.execute(query)])

    def gone(self) -> frozenset[str]:
        """Give the ids of runs that are marked as running, and whose process is gone."""
        return self._read(lambda c: frozenset(identity for identity, _ in _without_process(c)))

    def _first(self, conditions: list[ColumnElement[bool]], order: Any) -> JobRun | None:
        query = select(job_runs).where(*conditions).order_by(order).limit(1)
        row = self._read(lambda c: c.execute(query).first())
        return None if row is None else JobRun(*row)

    def _bury(self, connection: Connection, key: Key) -> None:
        """Mark runs whose process is gone as failed."""
        for identity, whose in _without_process(connection, *_of(key)):
            lost = {"status": FAILED, "ended": utc_now(), "error": f"its process ended: {whose}"}
            connection.execute(update(job_runs).where(job_runs.c.id == identity).values(lost))

    def _write(self, do: Callable[[Connection], T]) -> T:
        def once() -> T:
            with writing(self._engine) as connection:
                return do(connection)

        return self.patiently(once)

    def _read(self, do: Callable[[Connection], T]) -> T:
        def once() -> T:
            with self._engine.connect() as connection:
                return do(connection)

        return self.patiently(once)

    def patiently(self, do: Callable[[], T]) -> T:
        """Do something with the database, again and again while that is away, up to `patience` seconds."""
        until, wait = time.monotonic() + self._patience, 0.2
        while True:
            try:
                return do()
            except DBAPIError as error:
                if not away(error) or time.monotonic() + wait > until:
                    raise
                time.sleep(wait)
                wait = min(2 * wait, 5.0)


def away(error: DBAPIError) -> bool:
    """Tell whether an error says that the database cannot be reached now, rather than what is wrong."""
    return error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError")


class Heartbeat:
    """Gives signs of life of a run from a thread, while it is entered."""

    def __init__(self, record: Record, run: JobRun, *, interval: float = BEAT) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(record, run, interval), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self, record: Record, run: JobRun, interval: float) -> None:
        while not self._stop.wait(interval):
            record.beat(run)


def owner() -> str:
    """Name this process so that no later one has its name: host, process id, and when it began."""
    mine = psutil.Process()
    return f"{socket.gethostname()[:150]}:{mine.pid}:{mine.create_time():.2f}"


def _without_process(connection: Connection, *conditions: ColumnElement[bool]) -> list[tuple[str, str]]:
    """Find runs that are marked as running and whose process is gone: their ids, and the processes."""
    silent = DatabaseTime() - job_runs.c.seen
    running = select(job_runs.c.id, job_runs.c.owner, silent).where(*conditions, job_runs.c.status == RUNNING)
    found = connection.execute(running).all()
    return [(identity, whose) for identity, whose, ms in found if _gone(whose, ms / 1000.0)]


def _gone(whose: str, silent: float) -> bool:
    """Tell whether a process is gone: by this host's own knowledge, else by its silence in seconds."""
    host, pid, began = whose.rsplit(":", 2)
    if host != socket.gethostname()[:150]:
        return silent > SILENT
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != began
    except psutil.NoSuchProcess:
        return True


def _of(key: Key) -> list[ColumnElement[bool]]:
    return [job_runs.c[name] == value for name, value in key._asdict().items()]
