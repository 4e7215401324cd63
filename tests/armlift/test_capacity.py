"""Capacity plans: by hand, as demand grows, and what bends first."""

from dataclasses import replace
from math import ceil, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.capacity import (
    BROKER_CORES,
    EXECUTOR_CORES,
    NIGHT_SHARE,
    REPLICAS,
    SQL_SHARE,
    UTILISATION,
    Figure,
    Plan,
    plan,
)
from armlift.costs import ArmCosts, Cost, Costs, Point
from armlift.demand import Demand, check
from armlift.errors import InputError

SIZE = 1_000_000


def cost(unit: str, value: float, size: int = SIZE, items: int | None = None) -> Cost:
    points = (Point(size=size, value=value),)
    return Cost(unit=unit, measured=points, items=items, benchmark="bench", machine="m", date="2026-01-01")


def costs(**other: float) -> Costs:
    """Give round costs, but for those that are given."""
    values = {
        "stream_bytes": 100.0, "broker_cpu": 1e-5, "ingest_time": 2e-5, "ingest_cpu": 1e-5,
        "ingest_sql_cpu": 1e-5, "rollup_time": 1e-5, "rollup_sql_cpu": 1e-5, "sql_event_bytes": 500.0,
        "sql_unit_day_bytes": 1000.0, "recommend_cpu": 0.01, "accept_cpu": 1e-4, "follow_cpu": 1e-5,
        "archive_time": 1e-5, "archive_bytes": 50.0, "dataset_time": 1e-5,
        "report_time": 1e-5, "spark_report_cpu": 1e-5,
        "spark_dataset_cpu": 1e-5, "spark_dataset_time": 1e-9,
    } | other  # fmt: skip
    units = {
        "stream_bytes": "bytes/event", "sql_event_bytes": "bytes/event", "archive_bytes": "bytes/event",
        "sql_unit_day_bytes": "bytes/unit-day",
        "recommend_cpu": "core s/request", "report_time": "s/unit-day",
    }  # fmt: skip
    made = {
        name: cost(units.get(name, "core s/event" if name.endswith("_cpu") else "s/event"), value)
        for name, value in values.items()
    }
    arms = {
        "plain": ArmCosts(fit=cost("core s/behaviour", 1e-6), item_memory=cost("bytes/item", 100.0)),
        "deep": ArmCosts(
            fit=cost("core s/behaviour", 1e-5, items=100_000),
            epoch=cost("core s/behaviour", 1e-4, items=100_000),
            prompts=cost("core s/user", 1e-3, items=100_000),
            item_memory=cost("bytes/item", 4000.0),
        ),
    }
    return Costs.model_validate({**made, "arms": arms})


def by_name(found: Plan) -> dict[str, Figure]:
    return {one.name: one for one in found.figures}


SMALL = Demand(users=86_400, events_per_day=100.0, requests_per_day=10.0, arms=("plain",), peak=2.0)
"""8,640,000 events a day; 200 events and 20 requests in the busiest second."""


def test_a_small_demand_by_hand() -> None:
    found = plan(replace(SMALL, window=30), costs())
    assert (found.labs, found.engine, found.fits) == (1, "sql", True)
    values = {name: one.value for name, one in by_name(found).items()}
    assert values["brokers"] == 3
    assert values["topic_disk"] == 8_640_000 * 7 * 100 * 3
    assert values["ingest_processes"] == ceil(200 * 2e-5 / 0.6) == 1
    assert values["partitions"] == 4
    assert values["ingest_cores"] == pytest.approx(200 * 1e-5 / 0.6)
    work = 20 * 0.01 + 200 * 1e-4
    assert values["api_processes"] == ceil(work / (0.6 - 200 * 1e-5)) == 1
    assert values["api_cores"] == pytest.approx((work + 200 * 1e-5) / 0.6)
    assert values["postgresql_disk"] == 8_640_000 * 30 * 500 + 86_400 * 365 * 1000
    assert values["postgresql_cores"] == pytest.approx((200 * 1e-5 + 5.5 * 100 * 1e-5) / 0.6)
    assert values["archive_disk"] == 8_640_000 * 365 * 50
    # Ten requests of a unit a day: its first events are read ten times, its last ones once.
    assert values["rollup_by_day"] == pytest.approx(5.5 * 86.4 / 3600)
    assert values["spark_executors"] == 0
    assert values["training_processes"] == 1
    assert values["item_table.plain"] == 100_000 * 100
    steps = {step.name: step.hours * 3600 for step in found.night}
    assert steps == pytest.approx(
        {
            "archive": 86.4,
            "data_set": 86.4 * 30,
            "fit.plain": 8_640_000 * 30 * 5 / 12 * 1e-6,
            "snapshot": 86_400 * 14 * 1e-5,
        }
    )


def test_figures_say_how_far_they_go_beyond_what_was_measured() -> None:
    found = by_name(plan(SMALL, costs()))
    assert found["archive_disk"].beyond == pytest.approx(8.64)
    assert found["archive_disk"].costs == ("archive_bytes",)
    assert found["ingest_processes"].beyond == 1.0
    steps = {step.name: step for step in plan(replace(SMALL, night_hours=0.1), costs()).night}
    assert steps["snapshot"].beyond == pytest.approx(8.64 * 14)  # Spark reads the events of 14 days


def test_spark_reads_what_sql_does_not_hold_or_not_in_time() -> None:
    asked = replace(SMALL, window=30)
    seconds = asked.events * 30 * 1e-5 + asked.unit_days * 14 * 1e-5
    hours = seconds / 3600 / SQL_SHARE
    assert plan(replace(asked, night_hours=hours), costs()).engine == "sql"
    found = plan(replace(asked, night_hours=hours * 0.99), costs())
    assert found.engine == "spark"
    assert by_name(found)["spark_executors"].value >= 1
    assert plan(replace(asked, days_kept=30), costs()).engine == "sql"
    assert plan(replace(asked, days_kept=29), costs()).engine == "spark"


def test_days_in_sql_are_those_that_data_sets_ask_of_it() -> None:
    def disk(demand: Demand) -> float:
        return by_name(plan(demand, costs()))["postgresql_disk"].value - 86_400 * 365 * 1000

    assert disk(replace(SMALL, window=20)) == 8_640_000 * 500 * 20
    assert disk(replace(SMALL, window=360)) == 8_640_000 * 500 * 30
    assert disk(replace(SMALL, window=360, days_kept=3)) == 8_640_000 * 500 * 3


def test_spark_and_trainings_fill_what_is_left_of_the_night() -> None:
    demand = replace(SMALL, arms=("deep",), users=864_000, peak=1.0)
    found = plan(demand, costs())
    steps = {step.name: step for step in found.night}
    fixed = sum(steps[name].alone for name in ("archive", "shards", "prompts.deep"))
    spark = steps["data_set"].alone + steps["snapshot"].alone
    training = steps["fit.deep"].alone + steps["epochs.deep"].alone
    assert steps["epochs.deep"].alone == pytest.approx(50 * steps["fit.deep"].alone)
    assert found.labs == 1
    # The fewest cores in all: time as the root of the work.
    both = sqrt(spark) + sqrt(training)
    cores, processes = (ceil(sqrt(work) * both / (6.0 - fixed)) for work in (spark, training))
    assert by_name(found)["training_processes"].value == processes == steps["fit.deep"].processes > 1
    assert by_name(found)["spark_executors"].value == ceil(cores / EXECUTOR_CORES)
    assert found.night_hours == pytest.approx(fixed + spark / cores + training / processes)
    assert found.night_hours <= 6.0


def test_what_one_process_cannot_do_splits_the_users_over_labs() -> None:
    demand = replace(SMALL, users=100 * SMALL.users)
    found = plan(demand, costs(rollup_time=2e-5))
    first = found.limits[0]
    assert first.name == "rollup"
    assert first.load == pytest.approx(5.5 * 864e6 * 2e-5 / 86_400 / UTILISATION)
    assert found.labs == ceil(first.load) == 2
    half = plan(replace(demand, users=demand.users // 2), costs(rollup_time=2e-5))
    assert half.labs == 1
    for name, one in by_name(half).items():
        if not name.startswith(("item_table", "brokers")):
            assert by_name(found)[name].value == pytest.approx(2 * one.value), name
    assert by_name(found)["rollup_by_day"].value / 2 <= 24


def test_each_limit_bends_first_where_its_cost_is_high() -> None:
    for name, other in {
        "rollup": {"rollup_time": 1e-3},
        "following": {"follow_cpu": 1e-3},
        "night": {"archive_time": 5e-3},
        "postgresql": {"sql_event_bytes": 1e6},
    }.items():
        first = plan(SMALL, costs(**other)).limits[0]
        assert first.name == name
    night = next(one for one in plan(SMALL, costs()).limits if one.name == "night")
    shards = SMALL.events * SMALL.window * 1e-9
    assert night.load == pytest.approx((86.4 + shards) / 3600 / (6 * NIGHT_SHARE))


def test_an_item_table_that_does_not_fit_is_not_helped_by_labs() -> None:
    found = plan(replace(SMALL, items=2_000_000_000, memory=64e9), costs())
    assert not found.fits
    assert found.labs == 1
    assert found.limits[0].name == "item_table"
    assert found.limits[0].load == pytest.approx(2e9 * 100 / 64e9)


def test_brokers_are_as_many_as_their_cores_ask_for() -> None:
    # A cost that splits nothing, on a demand that one lab takes.
    found = plan(SMALL, costs(broker_cpu=0.2))
    cores = 200 * 0.2 * REPLICAS / UTILISATION
    assert by_name(found)["brokers"].value == ceil(cores / BROKER_CORES) == 25


GROWING = ("users", "events_per_day", "requests_per_day", "days_kept", "peak", "epochs")


@given(
    st.integers(1, 10**9), st.floats(0.1, 500), st.floats(0.05, 50), st.sampled_from(GROWING),
    st.integers(2, 20),
)  # fmt: skip
def test_more_demand_never_needs_less(
    users: int, events: float, requests: float, grown: str, factor: int
) -> None:
    demand = Demand(users, events, requests, arms=("plain", "deep"), days_kept=10)
    more = replace(demand, **{grown: getattr(demand, grown) * factor})
    before, after = plan(demand, costs()), plan(more, costs())
    assert after.labs >= before.labs
    loads = {one.name: one.load for one in before.limits}
    if before.engine == after.engine:
        assert all(one.load >= loads[one.name] * (1 - 1e-9) for one in after.limits)
    for name, one in by_name(before).items():
        if "cores" not in name and name not in ("spark_executors", "training_processes"):
            # Splitting into more labs rounds up in each, and never below.
            assert by_name(after)[name].value >= one.value * (1 - 1e-9) or after.labs > before.labs, name
    assert all(step.hours >= 0 and step.beyond >= 1 for step in after.night)
    assert after.night_hours <= demand.night_hours * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"users": 0}, "--users 0: must be above 0 and at most 100,000,000,000"),
        ({"events_per_day": 5e7}, "--events-per-day 5e+07: must be above 0 and at most 10,000 (of one user)"),
        ({"events_per_day": float("nan")}, "--events-per-day nan: must be above 0"),
        ({"requests_per_day": -1.0}, "--requests-per-day -1: must be above 0"),
        ({"peak": 0.5}, "--peak 0.5: must be 1 to 1,000 times the mean"),
        ({"night_hours": 25.0}, "--night-hours 25: must be above 0 and at most 24"),
        ({"arms": ("depe",)}, "--arms 'depe': must be one of plain, deep (did you mean deep?)"),
        ({"items": 0}, "--items 0: must be above 0"),
    ],
)
def test_demand_out_of_bounds_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        check(replace(SMALL, **change), costs())  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)
