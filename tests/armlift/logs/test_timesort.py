from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.logs.layout import TS
from armlift.logs.timesort import HOUR_MS, bucket_bounds, regroup, settle, sort_externally, tally_hours


def frame(*times: int) -> pl.DataFrame:
    return pl.DataFrame(
        {TS: times, "text": [f"é{ts}" for ts in times]}, schema={TS: pl.Int64, "text": pl.String}
    )


def test_tally_and_bounds() -> None:
    tally = tally_hours(frame(0, HOUR_MS - 1, HOUR_MS, 5 * HOUR_MS, 5 * HOUR_MS))
    assert tally == {0: 2, 1: 1, 5: 2}
    assert bucket_bounds(tally, rows=1) == [HOUR_MS, 5 * HOUR_MS]
    assert bucket_bounds(tally, rows=3) == [5 * HOUR_MS]
    assert bucket_bounds(tally, rows=5) == []


@given(
    st.lists(st.lists(st.integers(0, 20 * HOUR_MS), min_size=1), min_size=1, max_size=5), st.integers(1, 9)
)
def test_external_sort_keeps_every_row(times: list[list[int]], rows: int) -> None:
    tally: dict[int, int] = {}
    for part in times:
        for hour, count in tally_hours(frame(*part)).items():
            tally[hour] = tally.get(hour, 0) + count
    bounds = bucket_bounds(tally, rows)
    frames = list(sort_externally((frame(*part) for part in times), bounds, None))
    whole = sorted(ts for part in times for ts in part)
    assert [row for part in frames for row in part.rows()] == [(ts, f"é{ts}") for ts in whole]
    assert len(frames) == len(bounds) + 1


def test_sorting_cleans_up_at_the_end_and_when_stopped(tmp_path: Path) -> None:
    def pieces() -> Iterator[pl.DataFrame]:
        yield frame(3 * HOUR_MS, 1)
        yield frame(2 * HOUR_MS, 0)

    bounds = [HOUR_MS, 3 * HOUR_MS]
    stopped = sort_externally(pieces(), bounds, tmp_path)
    assert isinstance(stopped, Iterator)
    assert next(stopped)[TS].to_list() == [0, 1]
    assert list(tmp_path.iterdir()) != []
    del stopped
    assert list(tmp_path.iterdir()) == []
    assert [part[TS].to_list() for part in sort_externally(pieces(), bounds, tmp_path)] == [
        [0, 1], [2 * HOUR_MS], [3 * HOUR_MS],
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_one_bucket_writes_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert [part[TS].to_list() for part in sort_externally([frame(5, 1), frame(3)], [], tmp_path)] == [
        [1, 3, 5]
    ]
    assert list(sort_externally([], [], tmp_path)) == []


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        (1, [[1], [2, 2, 2], [3], [4]]),
        (2, [[1, 2, 2, 2], [3, 4]]),
        (5, [[1, 2, 2, 2, 3], [4]]),
        (6, [[1, 2, 2, 2, 3, 4]]),
    ],
)
def test_regroup_never_splits_a_time(rows: int, groups: list[list[int]]) -> None:
    frames = [frame(1), frame(2), frame(2), frame(), frame(2, 3), frame(4)]
    assert [part[TS].to_list() for part in regroup(frames, rows)] == groups


def test_settle_sorts_ties_and_keeps_one_of_equal_rows() -> None:
    rows = pl.DataFrame({TS: [2, 1, 1, 1], "b": [0, 5, 4, 5], "c": ["x", None, "y", None]})
    assert settle(rows, [TS, "b", "c"]).rows() == [(1, 4, "y"), (1, 5, None), (2, 0, "x")]
