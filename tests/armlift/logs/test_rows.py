"""Rows of a log as arrays: their columns, their ids, and parts of them in time."""

from pathlib import Path

import numpy as np
import pytest

from armlift.logs.reader import open_log
from armlift.logs.rows import read_rows

LOG = """user_id,video_id,time_ms,is_click,play_time_ms,duration_ms,is_rand
9,30,1000,1,2500,9000,0
10,4,2000,0,0,0,1
9,4,3000,1,700,,0
"""


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_columns_of_all_rows(tmp_path: Path, batch_rows: int) -> None:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    rows = read_rows(open_log([path], batch_rows=batch_rows))
    assert (rows.units, rows.items) == (("10", "9"), ("30", "4"))
    assert rows.unit.tolist() == [1, 0, 1]
    assert rows.item.tolist() == [0, 1, 1]
    assert rows.ts.tolist() == [1000, 2000, 3000]
    assert rows.feedback["click"].tolist() == [True, False, True]
    assert rows.feedback["play"].tolist() == [2.5, 0.0, 0.7]
    assert rows.random is not None
    assert rows.random.tolist() == [False, True, False]
    assert rows.duration is not None
    np.testing.assert_array_equal(rows.duration, [9.0, np.nan, np.nan])


def test_parts_in_time(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    log = open_log([path])
    assert read_rows(log, until=2000).ts.tolist() == [1000]
    later = read_rows(log, since=2000)
    assert later.ts.tolist() == [2000, 3000]
    assert later.items == ("4",)
    assert read_rows(log, since=2000, until=3000).units == ("10",)


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    rows = read_rows(open_log([path]), until=5)
    assert (len(rows), rows.units, rows.items) == (0, (), ())
    assert set(rows.feedback) == {"click", "play"}
    assert rows.unit.dtype == np.int32


def test_what_a_log_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,video_id,time_ms,label\n1,2,3,1\n1,3,4,0\n")
    rows = read_rows(open_log([path]))
    assert {kind: values.tolist() for kind, values in rows.feedback.items()} == {
        "hate": [False, True],
        "like": [True, False],
    }
    assert (rows.random, rows.duration) == (None, None)
