"""Partitions of PostgreSQL: which days have one, who may make them at once, and what retention deletes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, func, select, text

from armlift.store import tables
from armlift.store.database import writing
from armlift.store.partitions import AHEAD, Partitions, expire, oldest, partition_name
from armlift.store.sink import insert_new

DAY = 19097  # 2022-04-15
postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


def insert_feedback(engine: Engine, days: Sequence[int]) -> int:
    rows = [
        (day, day, f"{number:032x}", "r", day * 86_400_000, "0" * 32, "u", "v", "click", 1.0, 0)
        for number, day in enumerate(days)
    ]
    with writing(engine) as connection:
        return insert_new(connection, tables.feedback, rows)


def stored_in(engine: Engine, name: str) -> list[int]:
    with engine.connect() as connection:
        return sorted(connection.execute(text(f"SELECT request_day FROM {name}")).scalars())


def partitions(engine: Engine) -> set[str]:
    asked = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'feedback'::regclass"
    with engine.connect() as connection:
        return {*connection.execute(text(asked)).scalars()}


@postgresql
def test_each_day_has_a_partition_and_the_days_ahead(engine: Engine) -> None:
    Partitions(engine).ensure([DAY, DAY + 1])
    assert insert_feedback(engine, [DAY, DAY + 1, DAY + 1]) == 3
    assert stored_in(engine, "feedback_20220415") == [DAY]
    assert stored_in(engine, "feedback_20220416") == [DAY + 1] * 2
    assert stored_in(engine, "feedback_other") == []
    assert len(partitions(engine)) == 2 + 1 + AHEAD + 1, "two days, the shared one, today and the days ahead"


@postgresql
def test_days_far_from_any_calendar_and_days_that_were_there_share_one(engine: Engine) -> None:
    insert_feedback(engine, [DAY, 3_000_000])
    Partitions(engine).ensure([DAY, 3_000_000, -5])
    assert stored_in(engine, "feedback_other") == [DAY, 3_000_000]
    assert partition_name(tables.feedback, DAY) not in partitions(engine)
    assert insert_feedback(engine, [DAY, DAY]) == 1, "one is there, whatever partition it lies in"


@postgresql
def test_many_processes_make_the_same_partitions(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: Partitions(engine).ensure(range(DAY, DAY + 5)), range(8)):
            pass
    assert len([name for name in partitions(engine) if name.startswith("feedback_2022")]) == 5


def test_retention_deletes_whole_days_and_says_so(engine: Engine) -> None:
    Partitions(engine).ensure([DAY, DAY + 1])
    insert_feedback(engine, [DAY - 400, DAY, DAY + 1, DAY + 1])  # the first in the shared partition
    with engine.connect() as connection:
        assert oldest(connection) == 0
    assert expire(engine, DAY + 1) == {"impressions": 0, "feedback": 2}
    assert expire(engine, DAY) == {"impressions": 0, "feedback": 0}
    with engine.connect() as connection:
        assert oldest(connection) == DAY + 1 + 33, "an earlier limit brings nothing back"
        assert connection.execute(select(func.count()).select_from(tables.feedback)).scalar() == 2
    Partitions(engine).ensure([DAY])
    assert insert_feedback(engine, [DAY]) == 1, "the table of the day is made again"


def test_partitioned_tables_are_those_of_events_with_an_end() -> None:
    assert {table.name for table in tables.PARTITIONED} == {"impressions", "feedback"}
    assert tables.is_partition("impressions_20220415")
    assert tables.is_partition("feedback_other")
    assert not any(map(tables.is_partition, tables.metadata.tables))
