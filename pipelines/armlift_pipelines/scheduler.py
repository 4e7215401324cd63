"""The scheduler: does nights and the watch over experiments when they are due, until it is told to stop.

Any number of schedulers may share a database: whoever comes first does a job, the others leave it. One that
was down does the newest night it missed, and records the others as skipped.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Engine

from armlift.errors import ArmliftError
from armlift.lab import Lab
from armlift.nightly import Nightly
from armlift.store.database import DATABASE_ERRORS
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
AGAIN = timedelta(seconds=1)
"""How soon a database is asked again that does not answer."""
EXPECTED = (ArmliftError, OSError, *DATABASE_ERRORS)
"""What may become of a job without a fault in it."""
logger = logging.getLogger(__name__)

OpenLab = Callable[[], Lab]
"""Reads the lab's definitions anew, so that a night knows what was changed since the last one."""


class Rehearsed(NamedTuple):
    """What differs in a rehearsal: a database for its timetable alone, and the experiment."""

    store: Engine
    experiment: str


class Scheduler:
    """Does the jobs of one lab."""

    def __init__(
        self, open_lab: OpenLab, engine: Engine, *, clock: Clock | None = None,
        rehearsal: Rehearsed | None = None, run: str | None = None, tell: Tell | None = None,
        say: Callable[[str], None] = logger.info,
    ) -> None:  # fmt: skip
        """Put the jobs on the timetable; `run` is read instead of the definition's.

        A rehearsal does nights alone: experiments that run are none of it. Raises InputError for a schedule
        that is none.
        """
        self._open_lab, self._engine, self._run = open_lab, engine, run
        self._clock: Clock = clock or SystemClock()
        self._rehearsal = rehearsal
        self._tell, self._say = tell, say
        self._record = Record(engine)
        self._stop = threading.Event()
        lab = open_lab()
        self._calendar, self._known = lab.calendar, lab.nightly
        self.timetable = Timetable(engine if rehearsal is None else rehearsal.store, self._clock)
        jobs = [
            (NIGHTLY, lab.nightly.schedule, ("schedule",)),
            (MONITOR, lab.nightly.monitor.schedule, ("monitor", "schedule")),
        ]
        for job, schedule, place in jobs if rehearsal is None else jobs[:1]:
            try:
                trigger = trigger_of(schedule, lab.settings.timezone)
            except ArmliftError as error:
                raise lab.nightly_error(place, str(error)) from error
            self.timetable.plan(job, trigger)

    def stop(self) -> None:
        """End soon: a step that is being done is broken off, and done again by whoever comes next."""
        self._stop.set()

    def serve(self) -> None:
        """Do what is due until told to stop; first the newest night, if it was broken off.

        A night waits for the one before it to end; a look that is due while the last one goes on is left out.
        """
        with ThreadPoolExecutor(1, NIGHTLY) as nights, ThreadPoolExecutor(1, MONITOR) as looks:
            nights.submit(self._safely, NIGHTLY, self.resume)
            look: Future[None] | None = None
            while not self._stop.is_set():
                for due in self._due():
                    if due.job == NIGHTLY:
                        nights.submit(self._do, due)
                    elif look is None or look.done():
                        look = looks.submit(self._do, due)
                self._clock.wait(self._next(), self._stop)
        self.timetable.shutdown()

    def tick(self) -> None:
        """Do all that is due by now, one job after another, and come back."""
        for due in self._due():
            self._do(due)

    def resume(self) -> None:
        """Do the rest of the newest night of the run, if it was begun and has not succeeded."""
        run = self._run or self._nightly().run
        for one in self._record.runs(job=NIGHTLY, steps=False):
            of, _, day = one.subject.rpartition("/")
            if of == run:
                if one.status in (RUNNING, FAILED):
                    self._say(f"going on with the night {one.subject}")
                    self.night(date.fromisoformat(day))
                return

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
        except EXPECTED as error:
            alerts.tell(Alert("failure", subject, f"{subject} could not be done: {_line(error)}", {}))
            self._say(f"{subject}: {_line(error)}")
            return None
        tell_of(result, alerts)
        return result

    def _due(self) -> list[Due]:
        try:
            return self.timetable.due()
        except DATABASE_ERRORS as error:
            self._say(f"the timetable cannot be read: {_line(error)}; it is tried again")
            return []

    def _next(self) -> datetime:
        """Give when to look again: when a job is due, or soon, where the database does not tell."""
        soon = self._clock.now() + AGAIN
        try:
            return min(self.timetable.next_times().values(), default=soon)
        except DATABASE_ERRORS:
            return soon

    def _do(self, due: Due) -> None:
        if due.job == NIGHTLY:
            self._safely(NIGHTLY, self._nights, due.times)
        elif due.job == MONITOR:
            self._safely(MONITOR, self._monitor, due.times[-1])

    def _safely(self, job: str, do: Callable[..., None], *given: Any) -> None:
        """Do something of a job; the scheduler outlives whatever comes of it."""
        try:
            do(*given)
        except EXPECTED as error:
            self._say(f"{job}: {_line(error)}")
        except Exception as error:
            logger.exception("%s failed", job)
            self._say(f"{job}: {_line(error)}")

    def _nights(self, moments: Sequence[datetime]) -> None:
        """Do the newest night that is due, and record those before it as skipped."""
        days = [self._day(moment) for moment in moments]
        for day in dict.fromkeys(days[:-1]):
            if day != days[-1]:
                self._skip(
                    day, f"no scheduler was running at that time; the night of {days[-1]} was done instead"
                )
        self.night(days[-1])

    def _skip(self, day: date, reason: str) -> None:
        key = Key(NIGHTLY, f"{self._run or self._nightly().run}/{day}")
        if self._record.newest(key) is None:
            self._record.end(self._record.begin(key, {"night": str(day)}), SKIPPED, {}, reason)

    def _monitor(self, moment: datetime) -> None:
        """Watch running experiments, then whatever else somebody should know of."""
        now, alerts = self._now(), self._alerts()
        key = Key(MONITOR, moment.isoformat(timespec="minutes"))
        try:
            if self._record.done(key) is not None:
                return
            mine = self._record.begin(key, {"at": now})
        except BusyError:
            return
        try:
            lab = self._open_lab()
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

    def _nightly(self) -> Nightly:
        """Read the definition of nights, or give it as it could last be read."""
        with suppress(ArmliftError):
            self._known = self._open_lab().nightly
        return self._known

    def _alerts(self) -> Alerts:
        nobody = {"webhook": None, "email": None} if self._rehearsal is not None else {}
        settings = self._nightly().alerts.model_copy(update=nobody)
        return Alerts(self._engine, settings, clock=self._now)

    def _day(self, moment: datetime) -> date:
        """Give the day of the lab's calendar, whatever zone the schedule is in."""
        return date(1970, 1, 1) + timedelta(days=self._calendar.day(millis(moment)))

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
