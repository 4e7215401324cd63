"""A simulated world with the arms of an experiment in it: what a run, its truth and benchmarks share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from armlift.arm import Arm, ArmConfig, History, ItemTable, new_arm
from armlift.days import Calendar
from armlift.experiment import Experiment
from armlift.hashing import hash_of
from armlift.simulation.attributes import Population
from armlift.simulation.calibration import Origin, calibrate
from armlift.simulation.course import Answering, Course, Page, Service, unit_of
from armlift.simulation.response import ResponseModel
from armlift.simulation.settings import SimulationSettings
from armlift.simulation.traffic import APP, NEVER, Traffic
from armlift.simulation.users import Users
from armlift.simulation.world import AppPolicy
from armlift.splitter import Split
from armlift.training_mix import Learnt, Mode, histories_for

Progress = Callable[[int, int], None]
"""Told the user-days done, and those in all."""
Blocks = Sequence[tuple[Users, Traffic]]
Nights = Callable[[int, Blocks], Mapping[str, Answering]]
"""Gives the arms that answer on a day of the experiment, when all users have lived through those before."""


class Size(NamedTuple):
    """How much is simulated: users, days of the experiment, items a slate; and the seed of their luck."""

    users: int = 2_000
    days: int = 7
    k: int = 10
    seed: int = 0


class PastData:
    """What arms are fitted on before an experiment: the past of its first users, as a `TrainingSet`."""

    def __init__(self, histories: Sequence[History], items: ItemTable, until: int, data_hash: str) -> None:
        self._histories, self.items, self.until, self.data_hash = histories, items, until, data_hash

    def histories(self) -> Iterator[History]:
        """Give each user's behaviours, oldest first."""
        yield from self._histories


@dataclass(frozen=True)
class Laboratory:
    """Users of one seed in one world; whoever they meet, they are the same.

    `limit` is how many behaviours a history keeps, `name` begins the names of requests, from which arms take
    their randomness.
    """

    experiment: Experiment
    model: ResponseModel
    calendar: Calendar
    size: Size
    limit: int
    population: Population
    name: str = "simulation"
    origin: str | None = None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        calendar: Calendar,
        size: Size,
        limit: int,
        population: Population | None = None,
        *,
        settings: SimulationSettings | None = None,
        origin: Origin | None = None,
        name: str = "simulation",
    ) -> "Laboratory":
        """Calibrate the world of an experiment, or one of other settings and after another origin."""
        model = calibrate(settings or experiment.simulation, origin)
        whose = None if origin is None else origin.identity
        people = population or Population.synthetic()
        return cls(experiment, model, calendar, size, limit, people, name, whose)

    @property
    def settings(self) -> SimulationSettings:
        """Give what the world is made of."""
        return self.model.settings

    @property
    def items(self) -> ItemTable:
        """Give the catalogue."""
        return ItemTable(self.model.world.ids)

    def course(self) -> Course:
        """Begin a course of users."""
        app = AppPolicy(self.model.world, self.model.levels.sharpness)
        return Course(
            self.model, app, self.calendar, self.population,
            seed=self.size.seed, k=self.size.k, limit=self.limit, name=self.name,
        )  # fmt: skip

    def edges(self) -> tuple[int, list[int]]:
        """Give the first day of the past, and the starts (UTC milliseconds) of all days and the next."""
        course, past = self.course(), self.settings.history_days
        return course.first_day - past, [course.start_of(day) for day in range(-past, self.size.days + 1)]

    def starts(self) -> list[int]:
        """Give the start of each phase (UTC milliseconds), the first day's at the earliest."""
        first, calendar = self.course().start_of(0), self.calendar
        return [
            first if phase.start is None else max(first, calendar.parse(phase.start))
            for phase in self.experiment.phases
        ]

    def traffic(self, split: Split, starts: Sequence[int], users: Users) -> Traffic:
        """Let the splitter assign a block of users, in phases that start at some times."""
        columns = {name: [row[name] for row in users.attributes] for name in self.population.names()}
        units = [unit_of(users.first + row) for row in range(len(users))]
        return Traffic.split(split, starts, units, columns)

    def past_data(self, progress: Progress | None = None) -> PastData:
        """Simulate what arms are fitted on before the experiment."""
        course, past = self.course(), range(-self.settings.history_days, 0)
        count = min(self.size.users, self.settings.training_users)
        found: list[History] = []
        for first, size in course.blocks(count):
            users = course.draw(first, size)
            for day in past:
                for _ in course.day(users, day, None, None):
                    pass
                if progress is not None:
                    progress(first * len(past) + size * (day - past[0] + 1), count * len(past))
            found += [
                History(unit_of(first + row), list(history))
                for row, history in enumerate(users.histories)
                if history
            ]
        identity = {
            "settings": self.settings.model_dump(mode="json", exclude={"planted", "novelty", "retrain"}),
            "users": count,
            "seed": self.size.seed,
            "k": self.size.k,
            "limit": self.limit,
            "timezone": self.calendar.timezone,
            "attributes": self.population.sha256,
            "origin": self.origin,
        }
        return PastData(found, self.items, course.start_of(0), hash_of({"simulation": 1, **identity}))

    def service(self, arms: Mapping[str, Answering]) -> Service:
        """Put arms to service, numbered in their order."""
        planted = self.settings.planted
        return Service(
            list(arms.values()),
            np.array([planted.get(name, 0.0) for name in arms]),
            np.array([name != self.experiment.control for name in arms]),
        )

    def run(
        self,
        arms: Mapping[str, Answering],
        traffic_of: Callable[[Users], Traffic],
        *,
        page: Callable[[Users, Traffic, Page], None],
        block: Callable[[Users, Traffic], None] | None = None,
        mode: Mode | None = None,
        nights: Nights | None = None,
        progress: Progress | None = None,
        course: Course | None = None,
    ) -> None:
        """Let all users live through past and experiment.

        `traffic_of` gives the traffic of a block; `page` is told of every page, `block` when a block has come
        to its end. A block is done with before the next begins, but where arms change over night all go from
        day to day together: as `nights` says, else where the settings ask for nightly retraining, of which
        `mode` says what each arm learns from.
        """
        course = course or self.course()
        if nights is None and self.settings.retrain == "nightly":
            nights = self._retraining(arms, mode or "pooled", course)
        parts = course.blocks(self.size.users)
        days = range(-self.settings.history_days, self.size.days)
        service, done = self.service(arms), 0
        total = self.size.users * len(days)
        for group in [[part] for part in parts] if nights is None else [parts]:
            drawn = [course.draw(*part) for part in group]
            blocks = [(users, traffic_of(users)) for users in drawn]
            for day in days:
                if nights is not None and day >= 0:
                    service = self.service(nights(day, blocks))
                for users, traffic in blocks:
                    met = (traffic, service) if day >= 0 else (None, None)
                    for shown in course.day(users, day, *met):
                        page(users, traffic, shown)
                    done += len(users)
                    if progress is not None:
                        progress(done, total)
            for users, traffic in blocks:
                if block is not None:
                    block(users, traffic)

    def _retraining(self, arms: Mapping[str, Answering], mode: Mode, course: Course) -> Nights:
        """Retrain every night, from the second day on."""
        configs = {name: arm.config for name, arm in arms.items()}

        def nights(day: int, blocks: Blocks) -> Mapping[str, Answering]:
            return self._retrained(configs, blocks, course.start_of(day), mode) if day else arms

        return nights

    def _retrained(
        self, configs: Mapping[str, ArmConfig], blocks: Blocks, until: int, mode: Mode
    ) -> dict[str, Arm]:
        """Fit anew, on what it may know by now, every arm that some user may meet."""
        names = list(configs)
        met = {int(number) for _, traffic in blocks for number in np.unique(traffic.choices)}
        units = [one for users, traffic in blocks for one in _learnt(users, traffic, names)]
        found = {name: new_arm(config) for name, config in configs.items()}
        learning = [name for number, name in enumerate(names) if number in met]
        for name in learning:
            found[name].fit(histories_for(name, learning, units, mode), self.items, until=until)
        return found


def _learnt(users: Users, traffic: Traffic, names: Sequence[str]) -> Iterator[Learnt]:
    for row, history in enumerate(users.histories):
        arm, exposed = int(traffic.arm[row]), int(traffic.exposed[row])
        if history:
            met = arm != APP and exposed != NEVER
            yield Learnt(
                unit_of(users.first + row),
                list(history),
                names[arm] if met else None,
                exposed if met else None,
            )
