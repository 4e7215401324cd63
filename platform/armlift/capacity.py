"""Capacity: what so many users need, from what an event, a request or a night was measured to cost.

Costs are taken to be linear. What one process can do sets how many labs the users must be split over, each
with a topic, a database and nights of its own; every figure is of all labs together. How far a figure goes
beyond what was measured stands beside it.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

from armlift.costs import Cost, Costs
from armlift.demand import DAY_SECONDS, Demand, check

UTILISATION = 0.6
"""The share of cores and processes that is planned to be busy in the busiest second."""
REPLICAS = 3
"""Copies of the topic, and the fewest brokers."""
BROKER_CORES, BROKER_BYTES = 8, 10e12
SERVER_CORES, SERVER_BYTES = 64, 30e12
"""The largest PostgreSQL server that is planned with."""
EXECUTOR_CORES = 4
FEWEST_PARTITIONS = 4
DAYS_BESIDE_ARCHIVE = 30
"""Days of events in SQL where data sets are read from the archive, unless others are asked for."""
SQL_SHARE = 0.25
"""The share of a night that SQL may take for a data set and a report; beyond it Spark reads them."""
FOLLOW_SHARE = 0.5
"""The share of its time that an API process may spend on following the stream."""
NIGHT_SHARE = 0.5
"""The share of a night that steps of one process may take; the rest is for those that several share."""


Row = tuple[str, float, str, tuple[str, ...], float]
"""A figure of one lab, before it is one of all."""


class Figure(NamedTuple):
    """A figure of all labs, the costs behind it, and how many times it goes beyond what was measured.

    `beyond` is 1 within what was measured: the size of a lab, or the number of processes.
    """

    name: str
    value: float
    unit: str
    costs: tuple[str, ...]
    beyond: float


class Step(NamedTuple):
    """A step of a lab's night: its hours with so many processes (cores, of Spark), and with one."""

    name: str
    hours: float
    processes: int
    alone: float
    costs: tuple[str, ...]
    beyond: float


class Limit(NamedTuple):
    """What one lab cannot spread: how much of it all users take (1 is all), and what to do above that.

    `split` tells whether fewer users a lab take less of it.
    """

    name: str
    load: float
    split: bool
    instead: str


@dataclass(frozen=True)
class Plan:
    """What a demand needs. `engine` (sql or spark) reads data sets and reports; `labs` share the users."""

    demand: Demand
    labs: int
    engine: str
    figures: tuple[Figure, ...]
    night: tuple[Step, ...]
    limits: tuple[Limit, ...]

    @property
    def night_hours(self) -> float:
        """Give the hours of a lab's night, whose steps follow one another."""
        return sum(step.hours for step in self.night)

    @property
    def costs(self) -> set[str]:
        """Name the costs that it comes from."""
        figures, night = (one.costs for one in self.figures), (one.costs for one in self.night)
        return {name for names in (*figures, *night) for name in names}

    @property
    def fits(self) -> bool:
        """Tell whether all can be kept, in so many labs."""
        return all(limit.split or limit.load <= 1.0 for limit in self.limits)


def plan(demand: Demand, costs: Costs) -> Plan:
    """Plan for a demand; raises InputError where it is out of bounds or names an arm without costs."""
    check(demand, costs)
    engine = _engine(demand, costs)
    limits = tuple(sorted(_Lab(demand, costs, 1, engine).limits(), key=lambda limit: -limit.load))
    labs = max(1, *(ceil(limit.load) for limit in limits if limit.split))
    lab = _Lab(demand, costs, labs, engine)
    return Plan(demand, labs, engine, tuple(lab.figures()), tuple(lab.night()), limits)


def _engine(demand: Demand, costs: Costs) -> str:
    """Choose SQL where it keeps the whole window and reads it in time, else Spark over the archive."""
    kept = demand.days_kept is None or demand.days_kept >= demand.window
    days = demand.unit_days * demand.experiment_days
    read = demand.events * demand.window * costs.dataset_time.value + days * costs.report_time.value
    return "sql" if kept and read <= demand.night_hours * 3600 * SQL_SHARE else "spark"


def _beyond(cost: Cost, size: float) -> float:
    return max(1.0, size / cost.size)


class _Lab:
    """One of some labs that share the users evenly."""

    def __init__(self, demand: Demand, costs: Costs, labs: int, engine: str) -> None:
        self._demand, self._costs, self._labs, self._engine = demand, costs, labs, engine
        self._events, self._counted = demand.events / labs, demand.counted / labs
        self._peak = demand.events_at_peak / labs
        beside = demand.window if engine == "sql" else min(demand.window, DAYS_BESIDE_ARCHIVE)
        self._days_kept = demand.days_kept or beside
        self._processes = self._shared_processes()

    def figures(self) -> Iterator[Figure]:
        """Give what is needed, of all labs."""
        yield self._brokers()
        for name, value, unit, costs, beyond in (
            *self._stream(), *self._serving(), *self._storage(), *self._nightly()
        ):  # fmt: skip
            yield Figure(name, value * self._labs, unit, costs, max(1.0, beyond))
        for arm in self._demand.arms:
            cost = self._costs.arms[arm].item_memory
            memory = self._demand.items * cost.value
            source = f"arms.{arm}.item_memory"
            yield Figure(f"item_table.{arm}", memory, "bytes", (source,), _beyond(cost, self._demand.items))

    def night(self) -> Iterator[Step]:
        """Give the steps of a night in their order."""
        for name, alone, by, source, beyond in self._steps():
            processes = self._processes.get(by, 1)
            # Work is taken to split evenly, which was not measured beyond one process.
            yield Step(name, alone / processes, processes, alone, (source,), max(beyond, processes))

    def limits(self) -> Iterator[Limit]:
        """Give what cannot be spread within a lab."""
        c, demand = self._costs, self._demand
        yield Limit(
            "rollup", self._counted * c.rollup_time.value / DAY_SECONDS / UTILISATION, True,
            "one process at a time: more labs, or fewer metrics",
        )  # fmt: skip
        yield Limit(
            "following", self._peak * c.follow_cpu.value / (UTILISATION * FOLLOW_SHARE), True,
            "every API process reads all events: more labs",
        )  # fmt: skip
        fixed = sum(alone for _, alone, by, *_ in self._steps() if by == "one")
        yield Limit(
            "night", fixed / (demand.night_hours * NIGHT_SHARE), True,
            "steps of one process: more hours, fewer prompts, or more labs",
        )  # fmt: skip
        yield Limit(
            "postgresql", max(self._sql_cores() / SERVER_CORES, self._sql_bytes() / SERVER_BYTES), True,
            "one server stores all: keep fewer days, or more labs",
        )  # fmt: skip
        table = max(c.arms[arm].item_memory.value for arm in demand.arms) * demand.items
        yield Limit(
            "item_table", table / demand.memory, False,
            "a training holds it whole: more memory, or a smaller dim",
        )  # fmt: skip

    def _brokers(self) -> Figure:
        """Give the brokers of all labs, which may share them: they hold their topics side by side."""
        c, demand = self._costs, self._demand
        cores = demand.events_at_peak * c.broker_cpu.value * REPLICAS / UTILISATION
        disk = demand.events * demand.stream_days * c.stream_bytes.value * REPLICAS
        brokers = max(REPLICAS, ceil(cores / BROKER_CORES), ceil(disk / BROKER_BYTES))
        return Figure("brokers", brokers, "", ("broker_cpu", "stream_bytes"), max(1.0, cores))

    def _stream(self) -> Iterator[Row]:
        c, peak = self._costs, self._peak
        disk = self._events * self._demand.stream_days * c.stream_bytes.value * REPLICAS
        ingesters = ceil(peak * c.ingest_time.value / UTILISATION)
        # A partition belongs to one ingester: twice as many leave room for twice the ingesters.
        partitions = max(FEWEST_PARTITIONS, 2 * ingesters)
        yield "topic_disk", disk, "bytes", ("stream_bytes",), _beyond(c.stream_bytes, self._events)
        yield "partitions", partitions, "", ("ingest_time",), partitions / FEWEST_PARTITIONS
        yield "ingest_processes", ingesters, "", ("ingest_time",), ingesters
        yield "ingest_cores", peak * c.ingest_cpu.value / UTILISATION, "cores", ("ingest_cpu",), ingesters

    def _serving(self) -> Iterator[Row]:
        c, demand, peak = self._costs, self._demand, self._peak
        requests = demand.requests_at_peak / self._labs * c.recommend_cpu.for_items(demand.items)
        work, follow = requests + peak * c.accept_cpu.value, peak * c.follow_cpu.value
        processes = ceil(work / (UTILISATION - follow))
        cores = (work + processes * follow) / UTILISATION
        sources = ("recommend_cpu", "accept_cpu", "follow_cpu")
        beyond = max(processes, c.recommend_cpu.beyond_items(demand.items))
        yield "api_processes", processes, "", sources, beyond
        yield "api_cores", cores, "cores", sources, beyond

    def _storage(self) -> Iterator[Row]:
        c, events = self._costs, self._events
        kept = events * self._demand.archive_days * c.archive_bytes.value
        # Events lie in a partition a day.
        disk = ("sql_event_bytes", "sql_unit_day_bytes")
        yield "postgresql_disk", self._sql_bytes(), "bytes", disk, _beyond(c.sql_event_bytes, events)
        cores = ("ingest_sql_cpu", "rollup_sql_cpu")
        yield "postgresql_cores", self._sql_cores(), "cores", cores, _beyond(c.ingest_sql_cpu, events)
        yield "archive_disk", kept, "bytes", ("archive_bytes",), _beyond(c.archive_bytes, events)

    def _nightly(self) -> Iterator[Row]:
        c, processes = self._costs, self._processes["training"]
        cores = self._processes.get("spark", 0)
        busy = self._counted * c.rollup_time.value / 3600
        spark = ceil(cores / EXECUTOR_CORES)
        trainings = tuple(source for *_, by, source, _ in self._steps() if by == "training")
        sources = ("spark_dataset_cpu", "spark_report_cpu") if spark else ()
        yield "rollup_by_day", busy, "hours", ("rollup_time",), _beyond(c.rollup_time, self._events)
        yield "spark_executors", spark, "", sources, cores
        yield "training_processes", processes, "", trainings, processes

    def _sql_bytes(self) -> float:
        c, demand = self._costs, self._demand
        unit_days = demand.unit_days / self._labs * demand.archive_days
        return (
            self._events * self._days_kept * c.sql_event_bytes.value + unit_days * c.sql_unit_day_bytes.value
        )

    def _sql_cores(self) -> float:
        c = self._costs
        counted = self._counted / DAY_SECONDS * c.rollup_sql_cpu.value
        return (self._peak * c.ingest_sql_cpu.value + counted) / UTILISATION

    def _shared_processes(self) -> dict[str, int]:
        """Give how many cores Spark and trainings have, so that a night lasts no longer than it may.

        They share what steps of one process leave of it. For the sum of cores to be the smallest, each gets
        time as the root of its work.
        """
        hours: dict[str, float] = defaultdict(float)
        for _, alone, by, *_ in self._steps():
            hours[by] += alone
        night = self._demand.night_hours
        left = max(night - hours.pop("one"), night * NIGHT_SHARE)
        roots = sum(sqrt(work) for work in hours.values())
        return {by: ceil(sqrt(work) * roots / left) for by, work in hours.items()}

    def _steps(self) -> Iterator[tuple[str, float, str, str, float]]:
        """Give each step: its hours alone, by what it is done (one, spark, training), its cost, `beyond`."""

        def step(
            name: str, cost: Cost, source: str, size: float, *, by: str = "one"
        ) -> tuple[str, float, str, str, float]:
            hours = size * cost.for_items(self._demand.items) / 3600
            beyond = max(_beyond(cost, size), cost.beyond_items(self._demand.items))
            return name, hours, by, source, beyond

        c, demand, events = self._costs, self._demand, self._events
        window, read = events * demand.window, events * demand.experiment_days
        spark = self._engine == "spark"
        yield step("archive", c.archive_time, "archive_time", events)
        if spark:
            yield step("data_set", c.spark_dataset_cpu, "spark_dataset_cpu", window, by="spark")
            yield step("shards", c.spark_dataset_time, "spark_dataset_time", window)
        else:
            yield step("data_set", c.dataset_time, "dataset_time", window)
        learned, users = demand.behaviours / self._labs, demand.users / self._labs
        for arm in demand.arms:
            cost, source = c.arms[arm], f"arms.{arm}"
            yield step(f"fit.{arm}", cost.fit, f"{source}.fit", learned, by="training")
            if cost.epoch:
                passes = learned * demand.epochs
                yield step(f"epochs.{arm}", cost.epoch, f"{source}.epoch", passes, by="training")
            if cost.prompts:
                yield step(f"prompts.{arm}", cost.prompts, f"{source}.prompts", users)
        if spark:
            yield step("snapshot", c.spark_report_cpu, "spark_report_cpu", read, by="spark")
        else:
            days = demand.unit_days / self._labs * demand.experiment_days
            yield step("snapshot", c.report_time, "report_time", days)
