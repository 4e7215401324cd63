"""Costs: what an event, a request or a night of a user was measured to take, read from a YAML file.

Each says its unit, the sizes it was measured at, by which benchmark, on which machine and when. A size counts
what the unit divides by: of `s/event` it is events.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from armlift.arm import Name
from armlift.yamlfile import parse_yaml, read_yaml

FILE = "costs.yaml"
"""The stock file of costs."""
Positive = Annotated[float, Field(gt=0, lt=1e15, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(_Part):
    """A cost as measured at one size."""

    size: int = Field(ge=1, le=10**15, description="Of what the unit divides by.")
    value: Positive


class Cost(_Part):
    """A cost, and where it comes from."""

    unit: str
    measured: tuple[Point, ...] = Field(min_length=1, description="By size, the smallest first.")
    items: int | None = Field(
        default=None, ge=1, description="Items of the catalogue it was measured with, where they matter."
    )
    benchmark: str = Field(min_length=1)
    machine: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    @field_validator("measured")
    @classmethod
    def _ascending(cls, points: tuple[Point, ...]) -> tuple[Point, ...]:
        sizes = [one.size for one in points]
        if sizes != sorted(set(sizes)):
            raise ValueError(f"sizes {', '.join(map(str, sizes))} must ascend")
        return points

    @property
    def value(self) -> float:
        """Give the cost at the largest size: that is nearest to what is planned."""
        return self.measured[-1].value

    @property
    def size(self) -> int:
        """Give the largest size measured."""
        return self.measured[-1].size

    @property
    def growth(self) -> float:
        """Give the cost at the largest size against that at the smallest; 1 is flat."""
        return self.value / self.measured[0].value

    def for_items(self, items: int) -> float:
        """Give the cost with a larger catalogue, as if all of it went by items: more than it will be."""
        return self.value * self.beyond_items(items)

    def beyond_items(self, items: int) -> float:
        """Give how many times the catalogue it was measured with there is; at least 1."""
        return max(1.0, items / self.items) if self.items else 1.0


def _unit(name: str) -> AfterValidator:
    """Make the check of a cost that must be in a unit."""

    def check(cost: Cost) -> Cost:
        if cost.unit != name:
            raise ValueError(f"unit: {cost.unit!r} must be {name!r}")
        return cost

    return AfterValidator(check)


SecondsAnEvent = Annotated[Cost, _unit("s/event")]
CoreSecondsAnEvent = Annotated[Cost, _unit("core s/event")]
BytesAnEvent = Annotated[Cost, _unit("bytes/event")]


class ArmCosts(_Part):
    """What a night takes for an arm, of one process with one core."""

    fit: Annotated[Cost, _unit("core s/behaviour")] = Field(description="What a training does once.")
    epoch: Annotated[Cost, _unit("core s/behaviour")] | None = Field(
        default=None, description="A pass over what is learned from; null: it makes none."
    )
    prompts: Annotated[Cost, _unit("core s/user")] | None = Field(
        default=None, description="Null: it writes none."
    )
    item_memory: Annotated[Cost, _unit("bytes/item")] = Field(description="Of the process that trains.")


class Costs(_Part):
    """Every cost that a plan rests on; `s` are seconds that pass, `core s` those that cores work."""

    stream_bytes: BytesAnEvent = Field(description="In the topic, of one replica.")
    broker_cpu: CoreSecondsAnEvent = Field(description="Of the broker: taken in, and read once.")
    ingest_time: SecondsAnEvent = Field(description="Of one ingester, from the stream to the commit.")
    ingest_cpu: CoreSecondsAnEvent = Field(description="Of the ingester.")
    ingest_sql_cpu: CoreSecondsAnEvent = Field(description="Of PostgreSQL, while events are stored.")
    rollup_time: SecondsAnEvent = Field(description="Of the one process that counts.")
    rollup_sql_cpu: CoreSecondsAnEvent = Field(description="Of PostgreSQL, while events are counted.")
    sql_event_bytes: BytesAnEvent = Field(description="In PostgreSQL, with indexes.")
    sql_unit_day_bytes: Annotated[Cost, _unit("bytes/unit-day")] = Field(description="Of the rollup.")
    recommend_cpu: Annotated[Cost, _unit("core s/request")] = Field(description="Of the API and its arm.")
    accept_cpu: CoreSecondsAnEvent = Field(description="Of the API, for events that are sent to it.")
    follow_cpu: CoreSecondsAnEvent = Field(description="Of each API process, for every event of the stream.")
    archive_time: SecondsAnEvent = Field(description="Of the one process that archives.")
    archive_bytes: BytesAnEvent = Field(description="In Parquet.")
    dataset_time: SecondsAnEvent = Field(description="By SQL, of one process.")
    report_time: Annotated[Cost, _unit("s/unit-day")] = Field(description="By SQL: the snapshot of a run.")
    spark_report_cpu: CoreSecondsAnEvent = Field(description="Of Spark: from the archive to a report.")
    spark_dataset_cpu: CoreSecondsAnEvent = Field(description="Of Spark: from the archive to sorted rows.")
    spark_dataset_time: SecondsAnEvent = Field(description="Of the one process that makes shards of these.")
    arms: dict[Name, ArmCosts] = Field(min_length=1)

    def named(self) -> Iterator[tuple[str, Cost]]:
        """Give every cost by its name; those of arms read `arms.NAME.training`."""
        for name in type(self).model_fields:
            if name != "arms":
                yield name, getattr(self, name)
        for arm, costs in self.arms.items():
            for name in type(costs).model_fields:
                if (cost := getattr(costs, name)) is not None:
                    yield f"arms.{arm}.{name}", cost


def stock_costs() -> Costs:
    """Read the costs that come with armlift."""
    path = files("armlift") / "stock" / FILE
    return parse_yaml(Path(FILE), path.read_text(encoding="utf-8")).validate(Costs)


def read_costs(path: Path) -> Costs:
    """Read costs of your own; raises InputError that names file, line, key and what is allowed."""
    return read_yaml(path).validate(Costs)
