"""Rows written fast are the rows that were given, and only the new ones."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from armlift.store import tables
from armlift.store.database import writing
from armlift.store.sink import append, insert_new

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
days = st.integers(0, 2**31 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
impressions = st.tuples(
    days,
    st.text("0123456789abcdef", min_size=32, max_size=32),
    texts,
    days,
    st.integers(0, 2**48),
    texts,
    st.text("0123456789abcdef", min_size=32, max_size=32),
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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(impressions, max_size=12, unique_by=lambda row: row[:2]))
def test_what_is_written_is_read_and_nothing_twice(engine: Engine, rows: Rows) -> None:
    with writing(engine) as connection:
        connection.execute(delete(tables.impressions))
        assert insert_new(connection, tables.impressions, rows[:5]) == len(rows[:5])
        changed = [(*row[:2], "another", *row[3:]) for row in rows[:5]]
        assert insert_new(connection, tables.impressions, changed + rows[5:]) == len(rows[5:])
        found = sorted(map(tuple, connection.execute(select(tables.impressions))), key=lambda row: row[:2])
    assert found == sorted(rows, key=lambda row: row[:2])


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
