"""A rehearsal: simulated users live day after day, and a scheduler does the nights between, in minutes.

Everything is real but the users and the clock: their events go through the stream into SQL, arms learn from
there, pass the gate, are promoted, write prompts, and answer the next day. What they learn serves in the
rehearsal's run alone. Nobody is sent an alert; alerts are stored.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from sqlalchemy import Engine

from armlift.arm import Arm
from armlift.artefacts import load_artefact
from armlift.errors import ArmliftError
from armlift.experiment import Experiment
from armlift.lab import Lab
from armlift.prompted import PromptReader, with_prompts
from armlift.runs import Run
from armlift.simulation.laboratory import Progress, Size
from armlift.simulation.simulate import Simulation
from armlift.store.database import scratch
from armlift.streams.stream import EventStream
from armlift_pipelines.clocks import SetClock, millis
from armlift_pipelines.night import JOB as NIGHTLY
from armlift_pipelines.night import Tell, name_of, served_after
from armlift_pipelines.scheduler import Rehearsed, Scheduler


class Rehearsal:
    """One rehearsal of an experiment of a lab."""

    def __init__(
        self, lab: Lab, experiment: Experiment, size: Size, engine: Engine, *, tell: Tell | None = None,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        """Prepare users and scheduler; raises InputError as `Simulation` and `Scheduler` do."""
        settings = experiment.simulation.model_copy(update={"retrain": "nightly"})
        self._experiment = experiment.model_copy(update={"simulation": settings})
        self._lab, self._engine, self._tell, self._say = lab, engine, tell, say
        self._simulation = Simulation(lab, self._experiment, size, engine, nights=self._night)
        self._first = settings.first_day
        self._clock = SetClock(lab.calendar.parse(self._first))
        self._scheduler: Scheduler | None = None
        self._served: dict[str, str | None] = {}
        self._loaded: dict[str, Arm] = {}
        self._readers: dict[str, PromptReader] = {}

    def run(self, stream: EventStream, *, progress: Progress | None = None) -> Run:
        """Let the users live, and give the finished run; a rehearsal that was broken off is completed."""
        with scratch() as store:
            self._scheduler = Scheduler(
                self._lab.again,
                self._engine,
                clock=self._clock,
                rehearsal=Rehearsed(store, self._experiment.name),
                run=self._simulation.identity,
                tell=self._tell,
                say=self._say,
            )
            try:
                return self._simulation.run(stream, progress=progress)
            finally:
                self._scheduler.timetable.shutdown()

    def _night(self, day: int) -> Mapping[str, Arm]:
        """Do the nights that are due up to the end of a day, and give the arms that answer on it."""
        assert self._scheduler is not None
        when = self._first + timedelta(days=day)
        timetable, end = self._scheduler.timetable, self._lab.calendar.parse(when + timedelta(days=1))
        while (due := millis(timetable.next_times()[NIGHTLY])) < end:
            self._clock.set(due)
            if self._read_served(when):
                timetable.due()  # it came to its end before the rehearsal was broken off
            else:
                self._scheduler.tick()
                self._read_served(when)
        return {name: self._arm(name, when) for name in self._experiment.arms}

    def _read_served(self, night: date) -> bool:
        """Read what serves after a night; tells whether it came to its end."""
        found = served_after(self._engine, self._simulation.identity, str(night))
        self._served |= found
        return bool(found)

    def _arm(self, name: str, when: date) -> Arm:
        """Give the version of an arm that serves on a day, with the prompts written for it by now."""
        version = self._served.get(name_of(name, self._simulation.identity))
        if version is None:
            raise ArmliftError(
                f"night {when}: no version of arm {name} was promoted; see `armlift jobs --date {when}`"
            )
        known = self._loaded.get(name)
        if known is None or known.version != version:
            arm, _ = load_artefact(self._lab.resolve(self._lab.settings.artefact_url), name, version)
            if "prompts" in arm.capabilities:
                reader = PromptReader(self._engine, name, version, arm.config.history_kinds, on_error=_raise)
                arm, self._readers[name] = with_prompts(arm, reader), reader
            self._loaded[name] = arm
        if name in self._readers:
            self._readers[name].refresh()
        return self._loaded[name]


def _raise(error: Exception) -> None:
    raise error
