"""The timetable: when each job is due next, kept in the database by APScheduler's job store.

What is due is asked of a clock of ours, so that the same timetable serves real nights and rehearsed ones.
"""

import pickle
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.util import datetime_to_utc_timestamp
from sqlalchemy import Connection, Engine, select, update

from armlift.errors import InputError
from armlift.nightly import Schedule
from armlift.store.database import writing
from armlift.store.tables import scheduled_jobs
from armlift_pipelines.clocks import Clock

STORE = "default"


class Due(NamedTuple):
    """A job that is due, and the times at which it should have run since it last did, the newest last."""

    job: str
    times: list[datetime]


class LentJobStore(SQLAlchemyJobStore):  # type: ignore[misc]  # APScheduler has no types
    """APScheduler's job store on an engine that others use too."""

    def shutdown(self) -> None:
        """Leave the engine as it is: disposing of it would strand the connections that others hold."""


class Timetable(BaseScheduler):  # type: ignore[misc]  # APScheduler has no types
    """Jobs by name, each with its trigger and its next time, shared by all schedulers of one database."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        store = LentJobStore(engine=engine, tablename=scheduled_jobs.name)
        super().__init__(jobstores={STORE: store}, timezone=UTC)
        self.start(paused=True)

    def wakeup(self) -> None:
        """Do nothing: whoever waits looks again by itself."""

    def shutdown(self, wait: bool = True) -> None:
        """Close the job store."""
        super().shutdown(wait)

    def plan(self, job: str, trigger: "WallClock") -> None:
        """Put a job on the timetable; one that is there with the same trigger keeps its next time."""
        known = self.get_job(job)
        if known is not None and repr(known.trigger) == repr(trigger):
            return
        first = trigger.get_next_fire_time(None, self._clock.now())
        self.add_job(nothing, trigger, id=job, next_run_time=first, replace_existing=True)

    def due(self) -> list[Due]:
        """Give the jobs that are due, each once, and move them on to their next time."""
        now = self._clock.now()
        with self._jobstores_lock:
            late = [(job, job._get_run_times(now)) for job in self._lookup_jobstore(STORE).get_due_jobs(now)]
        if not late:
            return []
        with writing(self._engine) as connection:
            return [Due(job.id, times) for job, times in late if _move_on(connection, job, times, now)]

    def next_times(self) -> dict[str, datetime]:
        """Give the next time of each job."""
        with self._jobstores_lock:
            jobs = self._lookup_jobstore(STORE).get_all_jobs()
        return {job.id: job.next_run_time for job in jobs if job.next_run_time is not None}


def planned(connection: Connection) -> dict[str, int]:
    """Read when each job is due next (UTC milliseconds); nothing before a scheduler ever ran.

    It changes nothing, and makes no table, as opening a timetable may.
    """
    s = scheduled_jobs.c
    found = connection.execute(
        select(s.id, s.next_run_time).where(s.next_run_time.is_not(None)).order_by(s.id)
    )
    return {job: round(seconds * 1000) for job, seconds in found}


def _move_on(connection: Connection, job: Job, times: list[datetime], now: datetime) -> bool:
    """Move a job on to its next time; tells whether it still stood at the first of these times.

    Where it does not, another process has just moved it, and does what is due.
    """
    s = scheduled_jobs.c
    job._modify(next_run_time=job.trigger.get_next_fire_time(times[-1], now))
    following = datetime_to_utc_timestamp(job.next_run_time)
    state = pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL)
    there = (s.id == job.id, s.next_run_time == datetime_to_utc_timestamp(times[0]))
    moved = update(scheduled_jobs).where(*there).values(next_run_time=following, job_state=state)
    return connection.execute(moved).rowcount == 1


def nothing() -> None:
    """Stand for a job in the store; what a job does is looked up by its name."""


class WallClock(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires when a zone's wall clocks show a time of cron's.

    A time that clocks jump over is taken an hour later, one that they show twice is taken the first time, and
    no day is left out: APScheduler's own trigger counts in real hours, and loses nights where clocks change.
    """

    def __init__(self, cron: str, zone: str) -> None:
        """Raises ValueError or KeyError for what is no crontab, or no zone."""
        self.cron, self.zone = cron, zone
        self._shown = CronTrigger.from_crontab(cron, timezone=UTC)
        self._zone = ZoneInfo(zone)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Give the first time after the previous one, or from now on."""
        before = None if previous_fire_time is None else self._wall(previous_fire_time)
        found = self._shown.get_next_fire_time(before, before or self._wall(now))
        return None if found is None else found.replace(tzinfo=self._zone).astimezone(UTC)

    def _wall(self, moment: datetime) -> datetime:
        """Give what the zone's clocks show, as if it were UTC."""
        return moment.astimezone(self._zone).replace(tzinfo=UTC, fold=0)

    def __repr__(self) -> str:
        return f"WallClock({self.cron!r}, {self.zone!r})"


def trigger_of(schedule: Schedule, timezone: str) -> WallClock:
    """Read a schedule; raises InputError for one that is none."""
    zone = schedule.timezone or timezone
    fields = schedule.cron.split()
    try:
        if len(fields) != 5:
            raise ValueError(f"has {len(fields)} fields, must have five")
        if any(character.isdigit() for character in fields[4]):
            # Programs differ in the number of Sunday.
            raise ValueError(f"the day of week is {fields[4]!r}, must be by name, like mon-fri")
        return WallClock(schedule.cron, zone)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{schedule.cron!r} in {zone} is no schedule: {error}; must be like '30 3 * * *' (minute, hour, "
            f"day of month, month, day of week)"
        ) from error
