"""Simulate: users who answer, routed through an experiment as live ones would be, through the stream into
SQL.

Arms learn from some days of the app's own policy, then users meet them for the days of the experiment. Every
message has the same bytes and the same place in the order however often a simulation is begun, so that one
that was killed is completed by the same command, and ends with the same tables.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, select

from armlift.arm import Arm
from armlift.asked import asked_before
from armlift.errors import InputError
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.fitted import FittedArms, Watch
from armlift.lab import Lab
from armlift.publishing import Message, Publisher, fewer_collections
from armlift.rollup import rebuild
from armlift.rollup_rows import Subject
from armlift.runs import SIMULATED, Run, begin, definition_of, finish, run_identity
from armlift.segments import check_values, tell
from armlift.simulation.attributes import Population, values_of
from armlift.simulation.comparing import Comparing
from armlift.simulation.course import Page, unit_of
from armlift.simulation.fitted import Fitted
from armlift.simulation.laboratory import Laboratory, Progress, Size
from armlift.simulation.messages import Sender
from armlift.simulation.response import KINDS
from armlift.simulation.traffic import Traffic
from armlift.simulation.truth import truth_of
from armlift.simulation.users import Users
from armlift.splitter import RULES
from armlift.store.database import writing
from armlift.store.tables import exposures
from armlift.streams.stream import EventStream
from armlift.truth import TRUTH

BATCH = 4_096
"""Messages that are published and ingested at a time."""
Nights = Callable[[int], Mapping[str, Arm]]
"""Gives the arms that answer on a day of the experiment, when the events of those before are stored."""
CHANGING = "nightly"
"""Stands for the version of an arm that changes over night."""


class Simulation:
    """One simulation of a lab's experiment: its users, its arms, and where their events go."""

    def __init__(
        self, lab: Lab, experiment: Experiment, size: Size, engine: Engine, *,
        population: Population | None = None, fitted: Fitted | None = None, watch: Watch | None = None,
        nights: Nights | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Calibrate the users' world and fit the arms on its past, unless they have artefacts of it.

        With `nights` no arm is fitted here: that gives those of each day, and all of the past is told, so
        that they can learn from what is stored. Raises InputError for an experiment of one arm, for one that
        begins after the simulation's end, and for an attribute that users do not have.
        """
        if not experiment.challengers:
            raise InputError(
                f"experiment {experiment.name}: has one arm, {experiment.control}; a simulation compares "
                f"two or more"
            )
        self._lab, self._experiment, self._size, self._engine = lab, experiment, size, engine
        self._population = population or Population.synthetic()
        self._check_attributes()
        self._split = lab.split(experiment)
        self._metrics = lab.metrics_of(experiment)
        limit = lab.settings.history_limit
        self._fitted = fitted
        settings, origin = (None, None) if fitted is None else (fitted.settings, fitted.origin)
        self.laboratory = Laboratory.of(
            experiment, lab.calendar, size, limit, self._population, settings=settings, origin=origin
        )
        course = self.laboratory.course()
        self._first, self._end = course.start_of(0), course.start_of(size.days)
        self._starts = self._phases()
        self._nights = nights
        self.arms: Mapping[str, Arm] = {}
        if nights is None:
            past = self.laboratory.past_data(progress)
            fits = FittedArms(lab, engine, watch=watch)
            self.arms = {name: fits.arm(lab.arm(name), past) for name in experiment.arms}
        self._left_out: Counter[str] = Counter()
        self._comparing = Comparing(experiment, self._metrics, list(experiment.arms))

    @property
    def identity(self) -> str:
        """Name the run: what the simulation is of."""
        return self._describe().run

    def run(self, stream: EventStream, *, truth: bool = False, progress: Progress | None = None) -> Run:
        """Simulate, and give the finished run; with `truth` its resolution holds what users would truly have
        done.

        The same simulation gives the same run: a finished one is not run again, a broken-off one is
        completed.
        """
        run = self._describe()
        with writing(self._engine) as connection:
            found = begin(connection, run)
            if not found.finished:
                self._tell_attributes(connection, run.run)
                there = select(exposures.c.run).where(exposures.c.run == run.run).limit(1)
                if connection.scalar(there) is not None:
                    # Its events may have come before it was known, with a stream older than the database.
                    rebuild(connection, Subject(run.run, run.experiment, run.parsed()[1], run.paired))
        if not found.finished:
            self._publish(found, stream, progress)
            found = self._finish(found, self._comparing.result(), dict(sorted(self._left_out.items())))
        if truth and TRUTH not in found.resolution:
            told = truth_of(self.laboratory, self.arms, self._metrics, progress, traffic_of=self._traffic)
            resolution = {**found.resolution, TRUTH: [one._asdict() for one in told]}
            found = self._finish(found, resolution, found.dropped)
        return found

    def _publish(self, run: Run, stream: EventStream, progress: Progress | None) -> None:
        lab, experiment = self._lab, self._experiment
        publisher = Publisher(self._engine, stream, lab.settings.kinds.names, lab.calendar, run.run)
        generations = [phase.generation for phase in self._split.phases]
        sender = Sender(run.run, experiment.name, list(experiment.arms), generations)
        ids, lookback = self.laboratory.model.world.ids, asked_before(self._metrics.values())
        everything = frozenset({IMPRESSION_KIND, *KINDS})
        waiting: list[Message] = []

        def page(users: Users, traffic: Traffic, shown: Page) -> None:
            nonlocal waiting
            told = lookback.kinds if int(shown.now.max()) >= self._first - lookback.time else ()
            if self._nights is not None:
                told = everything
            waiting += sender.messages(users, traffic, shown, told, ids)
            self._count(traffic, shown)
            self._comparing.add(shown)
            if len(waiting) >= BATCH:
                publisher.publish(waiting)
                waiting = []

        def morning(day: int) -> Mapping[str, Arm]:
            nonlocal waiting
            assert self._nights is not None
            publisher.publish(waiting)
            waiting = []
            publisher.drain()
            return self._nights(day)

        course = self.laboratory.course()
        nights = None if self._nights is None else lambda day, _: morning(day)
        with fewer_collections():
            self.laboratory.run(
                self.arms, self._traffic, page=page, mode=experiment.training_data, nights=nights,
                progress=progress, course=course,
            )  # fmt: skip
        publisher.publish(waiting)
        publisher.drain()
        if self._nights is not None:
            self._nights(self._size.days)
        if course.skipped:
            self._left_out["session_after_its_day"] = course.skipped
        if self._fitted is not None and self._fitted.left_out:
            self._left_out["video_shown_least"] = self._fitted.left_out

    def _phases(self) -> list[int]:
        """Give the start of each phase (UTC milliseconds), the first day's at the earliest."""
        calendar, starts = self._lab.calendar, self.laboratory.starts()
        if starts[0] >= self._end:
            raise InputError(
                f"experiment {self._experiment.name}: phases.0.start: {calendar.show(starts[0])} must be "
                f"before the simulation's end, {calendar.show(self._end)} (simulation.first_day and --days)"
            )
        return starts

    def _check_attributes(self) -> None:
        audience, title = self._experiment.parsed_audience, self._experiment.name
        known = self._population.names()
        asked = {
            "audience": audience.attributes if audience else (),
            "segments": self._experiment.analysis.segments,
        }
        for what, names in asked.items():
            for name in names:
                if name not in known:
                    raise InputError(
                        f"experiment {title}: {what}: simulated users have no attribute {name!r}, must "
                        f"be one of {', '.join(known)}, or give --attributes FILE"
                    )

    def _tell_attributes(self, connection: Connection, run: str) -> None:
        """Store users' values of the attributes that the experiment is compared by."""
        segments = self._experiment.analysis.segments
        if not segments:
            return
        course = self.laboratory.course()
        for first, count in course.blocks(self._size.users):
            users = course.draw(first, count)
            for attribute in segments:
                values = values_of(users.attributes, attribute)
                check_values({attribute: {one for one in values if one is not None}})
                told = [
                    (unit_of(first + row), self._first, value)
                    for row, value in enumerate(values)
                    if value is not None
                ]
                tell(connection, run, attribute, told)

    def _describe(self) -> Run:
        experiment, lab, size = self._experiment, self._lab, self._size
        definition = definition_of(experiment, self._metrics)
        versions = {name: arm.version for name, arm in self.arms.items()} or dict.fromkeys(
            experiment.arms, CHANGING
        )
        identity = {
            "definition": definition,
            "experiment": experiment.content_hash,
            "holdout": lab.settings.holdout.model_dump(mode="json"),
            "timezone": lab.settings.timezone,
            "history_limit": lab.settings.history_limit,
            "arms": versions,
            "users": self._population.sha256,
            "log": None if self._fitted is None else self._fitted.origin.identity,
            "simulation": 1,
            **size._asdict(),
        }
        levels = self.laboratory.model.levels
        described: dict[str, Any] = {
            "format": "simulated users",
            "users": size.users,
            "days": size.days,
            "first_ts": self._first,
            "last_ts": self._end - 1,
            "kinds": sorted(KINDS),
            "levels": {
                "level": levels.level,
                "long_level": levels.long_level,
                "long_slope": levels.long_slope,
                "sharpness": levels.sharpness,
            },
        }
        return Run(
            run=run_identity(identity),
            number=0,
            experiment=experiment.name,
            mode=SIMULATED,
            paired=False,
            k=size.k,
            seed=size.seed,
            state="running",
            synthetic=True,
            definition=definition,
            arms=versions,
            log=described,
            resolution={},
            dropped={},
        )

    def _finish(self, run: Run, resolution: Mapping[str, Any], dropped: Mapping[str, int]) -> Run:
        with writing(self._engine) as connection:
            return finish(connection, run, resolution=resolution, dropped=dropped)

    def _traffic(self, users: Users) -> Traffic:
        """Let the splitter assign a block of users."""
        return self.laboratory.traffic(self._split, self._starts, users)

    def _count(self, traffic: Traffic, shown: Page) -> None:
        """Count the requests of units that take no part while the experiment runs."""
        outside = shown.arm < 0
        if shown.service is not None and outside.any():
            rows, phases = shown.rows[outside], traffic.phase_at(shown.now[outside])
            for rule, phase in zip(traffic.rules[phases, rows].tolist(), phases.tolist(), strict=True):
                self._left_out[f"request_{RULES[rule] if phase >= 0 else 'before_first_phase'}"] += 1
