"""The scheduler: does nights and the watch over experiments when they are due, until it is told to stop.

Any number of schedulers may share a database: whoever comes first does a job, the others leave it. One that
was down does the newest night it missed, and records the others as skipped.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from armlift.errors import ArmliftError
from armlift.lab import Lab
from armlift_pipelines import watch
from armlift_pipelines.alerts import Alert, Alerts
from armlift_pipelines.clocks import Clock, SystemClock, millis
from armlift_pipelines.job_runs import FAILED, RUNNING, SKIPPED, SUCCEEDED, BusyError, JobRun, Key, Record
from armlift_pipelines.monitor import monitor
from armlift_pipelines.night import JOB as NIGHTLY
from armlift_pipelines.night import Night, Result, Tell
from armlift_pipelines.timetable import Due, Timetable, trigger_of
from armlift_pipelines.worker import StoppedError

MONITOR = "monitor"
logger = logging.getLogger(__name__)

OpenLab = Callable[[], Lab]
"""Reads the lab's definitions anew, so that a night knows what was changed since the last one."""


class Rehearsed(NamedTuple):
    """What differs in a rehearsal: its clock, a database for its timetable alone, and the experiment."""

    clock: Clock
    store: Engine
    experiment: str


class Scheduler:
    """Does the jobs of one lab."""

    def __init__(
        self, open_lab: OpenLab, engine: Engine, *, rehearsal: Rehearsed | None = None,
        run: str | None = None, tell: Tell | None = None, say: Callable[[str], None] = logger.info,
    ) -> None:  # fmt: skip
        """Put the jobs on the timetable; `run` is read instead of the definition's.

        Raises InputError for a schedule that is none.
        """
        self._open_lab, self._engine, self._run = open_lab, engine, run
        self._clock: Clock = SystemClock() if rehearsal is None else rehearsal.clock
        self._rehearsal = rehearsal
        self._tell, self._say = tell, say
        self._record = Record(engine)
        self._stop = threading.Event()
        self._doing: dict[str, Future[None]] = {}
        lab = open_lab()
        self._zone = lab.nightly.schedule.timezone or lab.settings.timezone
        self.timetable = Timetable(engine if rehearsal is None else rehearsal.store, self._clock)
        for job, schedule, place in (
            (NIGHTLY, lab.nightly.schedule, ("schedule",)),
            (MONITOR, lab.nightly.monitor.schedule, ("monitor", "schedule")),
        ):
            try:
                trigger = trigger_of(schedule, lab.settings.timezone)
            except ArmliftError as error:
                raise lab.nightly_error(place, str(error)) from error
            self.timetable.plan(job, trigger)

    def stop(self) -> None:
        """End soon: a step that is being done is broken off, and done again by whoever comes next."""
        self._stop.set()
        self.timetable.wakeup()

    def serve(self) -> None:
        """Do what is due until told to stop; first the newest night, if it was broken off."""
        with ThreadPoolExecutor(2, "job") as pool:
            self._start(pool, NIGHTLY, self.resume)
            while not self._stop.is_set():
                self.timetable.event.clear()
                for due in self._due():
                    self._start(pool, due.job, self._do, due)
                times = self.timetable.next_times()
                self._clock.wait(min(times.values(), default=None), self.timetable.event)
            for future in self._doing.values():
                future.exception()
        self.timetable.shutdown()

    def tick(self) -> None:
        """Do all that is due by now, one job after another, and come back."""
        for due in self._due():
            self._do(due)

    def resume(self) -> None:
        """Do the rest of the newest night, if it was begun and has not succeeded."""
        for one in self._record.runs(job=NIGHTLY, steps=False, limit=1):
            if one.status in (RUNNING, FAILED):
                self._say(f"going on with the night {one.subject}")
                self.night(date.fromisoformat(one.subject.rpartition("/")[2]))

    def night(self, day: date) -> Result | None:
        """Do a night, and tell of what went wrong; None where another process does it or it cannot begin."""
        subject, alerts = f"night {day}", self._alerts()
        try:
            found = Night(
                self._open_lab(),
                self._engine,
                day,
                now=self._now(),
                run=self._run,
                experiments=None if self._rehearsal is None else (self._rehearsal.experiment,),
                stop=self._stop,
                tell=self._tell,
            )
            if found.done():
                return None
            result = found.run()
        except (BusyError, StoppedError) as error:
            self._say(f"{subject}: {error}")
            return None
        except (ArmliftError, SQLAlchemyError, OSError) as error:
            alerts.tell(Alert("failure", subject, f"{subject} could not be done: {_line(error)}", {}))
            self._say(f"{subject}: {_line(error)}")
            return None
        tell_of(result, alerts)
        return result

    def _due(self) -> list[Due]:
        try:
            return self.timetable.due()
        except SQLAlchemyError as error:
            self._say(f"the timetable cannot be read: {_line(error)}; it is tried again")
            self._stop.wait(1.0)
            return []

    def _start(self, pool: ThreadPoolExecutor, job: str, do: Callable[..., None], *given: Any) -> None:
        """Do a job in a thread, unless it is still being done."""
        if job in self._doing and not self._doing[job].done():
            self._say(f"{job}: still being done, not begun again")
            return
        self._doing[job] = pool.submit(do, *given)

    def _do(self, due: Due) -> None:
        try:
            if due.job == NIGHTLY:
                self._nights(due)
            elif due.job == MONITOR:
                self._monitor(due.times[-1])
        except Exception as error:  # the scheduler outlives any job
            logger.exception("%s failed", due.job)
            self._say(f"{due.job}: {_line(error)}")

    def _nights(self, due: Due) -> None:
        """Do the newest night that is due, and record those before it as skipped."""
        days = [self._day(moment) for moment in due.times]
        for day in dict.fromkeys(days[:-1]):
            if day != days[-1]:
                self._skip(
                    day, f"no scheduler was running at that time; the night of {days[-1]} was done instead"
                )
        self.night(days[-1])

    def _skip(self, day: date, reason: str) -> None:
        key = Key(NIGHTLY, f"{self._run or self._open_lab().nightly.run}/{day}")
        if self._record.newest(key) is None:
            self._record.end(self._record.begin(key, {"night": str(day)}), SKIPPED, {}, reason)

    def _monitor(self, moment: datetime) -> None:
        """Watch running experiments, then whatever else somebody should know of."""
        lab, now = self._open_lab(), self._now()
        alerts = self._alerts()
        key = Key(MONITOR, moment.isoformat(timespec="minutes"))
        try:
            if self._record.done(key) is not None:
                return
            mine = self._record.begin(key, {"at": now})
        except BusyError:
            return
        try:
            found = monitor(lab, self._engine, now_ms=now)
            self._record.end(mine, SUCCEEDED, found)
            for name, one in found["experiments"].items():
                if one["error"] is not None:
                    text = f"experiment {name} cannot be watched: {one['error']}"
                    alerts.tell(Alert("failure", f"{MONITOR} {name}", text, {}))
            for breach in found["breaches"]:
                alerts.tell(Alert(breach["kind"], breach["experiment"], breach["text"], breach))
            for alert in watch.look(lab, self._engine, now=now):
                alerts.tell(alert)
            alerts.retry_undelivered()
        except Exception as error:
            self._record.end(mine, FAILED, {}, _line(error))
            alerts.tell(Alert("failure", MONITOR, f"the watch over experiments failed: {_line(error)}", {}))
            raise

    def _alerts(self) -> Alerts:
        settings = self._open_lab().nightly.alerts
        if self._rehearsal is not None:
            settings = settings.model_copy(update={"webhook": None, "email": None})
        return Alerts(self._engine, settings, clock=self._now)

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(ZoneInfo(self._zone)).date()

    def _now(self) -> int:
        return millis(self._clock.now())


def tell_of(result: Result, alerts: Alerts) -> None:
    """Tell of the steps of a night that failed, and of the models that were refused."""
    for one in result.failed:
        text = f"{one.key} failed after {one.attempt} attempts: {one.error}"
        alerts.tell(Alert("failure", str(one.key), text, {"log": one.log}))
    for one in result.refused:
        reasons = "; ".join(one.outputs["reasons"])
        alerts.tell(
            Alert("refused", str(one.key), f"a new model of {one.arm} was refused: {reasons}", _about(one))
        )


def _about(one: JobRun) -> dict[str, Any]:
    return {"arm": one.arm, "scope": one.scope, "reasons": one.outputs["reasons"], "log": one.log}


def _line(error: BaseException) -> str:
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    return text or type(error).__name__
