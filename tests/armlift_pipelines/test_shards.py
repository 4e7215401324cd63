"""Shards: the same rows in the same order, whatever the sizes of shards, runs and parts."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.hashing import places_of
from armlift_pipelines.shards import (
    BEHAVIOURS,
    ContentHash,
    merged,
    rows_of,
    shard_of,
    shards_for,
    sorted_runs,
)

Row = tuple[str, str, str, float, int]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "u1", "u2", "用户", "u" * 300, *map(str, range(20))]),
        st.sampled_from("ab"),
        st.sampled_from(["click", "like"]),
        st.sampled_from([0.0, 1.0, 2.5]),
        st.integers(-(2**40), 2**40),
    ),
    max_size=60,
)


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=BEHAVIOURS.schema, orient="row")


def parts(rows: list[Row], size: int) -> Iterator[pl.DataFrame]:
    return (frame(rows[start : start + size]) for start in range(0, len(rows), size))


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, part=st.integers(1, 20), run=st.integers(1, 40), shards=st.integers(1, 9))
def test_shards_hold_all_rows_in_one_order(rows: list[Row], part: int, run: int, shards: int) -> None:
    with TemporaryDirectory() as folder:
        runs = sorted_runs(BEHAVIOURS, parts(rows, part), Path(folder), run)
        assert rows_of(runs) == len(rows)
        found = list(merged(BEHAVIOURS, runs, shards))
    assert len(found) == shards
    places = dict(zip([row[0] for row in rows], places_of([row[0] for row in rows]).tolist(), strict=True))
    expected = sorted(rows, key=lambda row: (places[row[0]], row[0], row[4], *row[1:4]))
    assert [row for one in found for row in one.iter_rows()] == expected
    of_units = [set(one["unit"].to_list()) for one in found]
    assert sum(map(len, of_units)) == len(set().union(*of_units))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(1, 1_000_000))
def test_shards_part_the_places_in_their_order(places: list[int], shards: int) -> None:
    numbers = shard_of(np.sort(np.array([*places, -(2**63), 2**63 - 1])), shards)
    assert (np.diff(numbers) >= 0).all()
    assert (numbers[0], numbers[-1]) == (0, shards - 1)


def test_shards_are_of_one_size() -> None:
    units = [f"user-{number}" for number in range(20_000)]
    counts = np.bincount(shard_of(places_of(units), 16))
    assert abs(counts - 1250).max() < 5 * 1250**0.5


@pytest.mark.parametrize(("rows", "shards"), [(0, 1), (1, 1), (10, 1), (11, 2), (100, 10)])
def test_how_many_shards(rows: int, shards: int) -> None:
    assert shards_for(rows, 10) == shards


@given(rows=ROWS, size=st.integers(1, 20))
def test_a_hash_is_of_rows_not_of_parts(rows: list[Row], size: int) -> None:
    whole, cut = ContentHash(BEHAVIOURS.schema), ContentHash(BEHAVIOURS.schema)
    whole.add(frame(rows))
    for part in parts(rows, size):
        cut.add(part)
    assert whole.hexdigest() == cut.hexdigest()


def test_a_hash_tells_apart_what_is_not_the_same() -> None:
    tables = [
        [],
        [("u", "ab", "c", 1.0, 1)],
        [("u", "a", "bc", 1.0, 1)],
        [("u", "ab", "c", 1.0, 2)],
        [("u", "ab", "c", -1.0, 1)],
        [("u", "ab", "c", 1.0, 1)] * 2,
        [("ua", "b", "c", 1.0, 1)],
    ]
    hashes = set()
    for rows in tables:
        one = ContentHash(BEHAVIOURS.schema)
        one.add(frame(rows))
        hashes.add(one.hexdigest())
    assert len(hashes) == len(tables)
