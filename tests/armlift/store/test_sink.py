"""Rows written fast are the rows that were given, and only the new ones."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select

from armlift.store import tables
from armlift.store.database import writing
from armlift.store.sink import STAGED_AFTER, append, insert_new

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
days = st.integers(0, 2**31 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
impressions = st.tuples(
    days,
    days,
    st.text("0123456789abcdef", min_size=32, max_size=32),
    texts,
    st.integers(0, 2**48),
    st.text("0123456789abcdef", min_size=32, max_size=32),
    texts,
    texts,
    texts,
    texts,
    days,
    days,
    st.none() | numbers,
    st.none() | numbers,
    st.booleans(),
)
Rows = list[tuple[Any, ...]]


def key(row: tuple[Any, ...]) -> tuple[int, str]:
    return row[0], row[2]


def feedback(number: int, value: float = 1.0) -> tuple[Any, ...]:
    return (7, 7, f"{number:032x}", "r", 0, "0" * 32, "u", "v", "click", value, 0)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_rows_that_are_there_are_met_again_and_again(engine: Engine) -> None:
    """Ways change by what was met: straight into the table, by the staging table for a while, and back."""
    calls, size = 2 * STAGED_AFTER + 5, 10
    with engine.connect() as connection:  # one connection, which remembers what it met
        for call in range(calls):
            new = [feedback(size * call + n) for n in range(size)]
            again = [feedback(size * call - n, 2.0) for n in range(1, 4)] if call % STAGED_AFTER == 3 else []
            assert insert_new(connection, tables.feedback, [*new, *again, new[0]]) == size
            connection.commit()
        found = connection.execute(select(tables.feedback.c.event_id, tables.feedback.c.value)).all()
    assert sorted(map(tuple, found)) == [(f"{n:032x}", 1.0) for n in range(size * calls)]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_row_that_was_there_undoes_nothing_else_of_the_transaction(engine: Engine) -> None:
    with writing(engine) as connection:
        insert_new(connection, tables.feedback, [feedback(1)])
    with writing(engine) as connection:
        append(connection, tables.touched_cells, [("r", "u", 7, None, None)])
        assert insert_new(connection, tables.feedback, [feedback(0), feedback(1), feedback(2)]) == 2
        append(connection, tables.touched_cells, [("r", "u", 8, None, None)])
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(tables.feedback)).scalar() == 3
        assert [*connection.execute(select(tables.touched_cells.c.day)).scalars()] == [7, 8]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(impressions, max_size=12, unique_by=key))
def test_what_is_written_is_read_and_nothing_twice(engine: Engine, rows: Rows) -> None:
    with writing(engine) as connection:
        connection.execute(delete(tables.impressions))
        assert insert_new(connection, tables.impressions, rows[:5]) == len(rows[:5])
        changed = [(*row[:3], "another", *row[4:]) for row in rows[:5]]
        assert insert_new(connection, tables.impressions, changed + rows[5:]) == len(rows[5:])
        found = sorted(map(tuple, connection.execute(select(tables.impressions))), key=key)
    assert found == sorted(rows, key=key)


def test_a_row_twice_in_one_batch_is_one_row(engine: Engine) -> None:
    row = ("stream", 0, 7, -1, "no message", b"\x00\xff\\N\t\n", None)
    with writing(engine) as connection:
        assert insert_new(connection, tables.dead_letters, [row, row]) == 1
        assert tuple(connection.execute(select(tables.dead_letters)).one()) == row


def test_marks_are_numbered_by_the_database(engine: Engine) -> None:
    marks: Rows = [("r", "u", 3, None, None), ("r", "u", 3, None, None), ("r", "u", None, "a", 2**40)]
    with writing(engine) as connection:
        append(connection, tables.touched_cells, marks)
        append(connection, tables.touched_cells, [])
        found = connection.execute(select(tables.touched_cells).order_by(tables.touched_cells.c.mark)).all()
    assert [tuple(row[1:]) for row in found] == marks
    assert len({row.mark for row in found}) == 3
