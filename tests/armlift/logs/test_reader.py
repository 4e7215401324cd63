import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.errors import InputError
from armlift.logs import csvfile, kuairand, reader
from armlift.logs.log import LogBatch
from armlift.logs.reader import open_log
from armlift.logs.timesort import HOUR_MS, bucket_bounds

COLUMNS = ("user_id", "video_id", "time_ms", "is_click", "play_time_ms", "is_rand", "tab")
KUAIREC = "user_id,video_id,play_duration,video_duration,timestamp"
Row = tuple[str, ...]
Values = tuple[int, str, str, float, float, bool]


def write(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in [tuple(columns), *rows]))
    return path


def values(batch: LogBatch) -> list[Values]:
    assert batch.random is not None
    columns = (
        batch.ts.tolist(), batch.units, batch.items, batch.feedback["click"].tolist(),
        batch.feedback["play"].tolist(), batch.random.tolist(),
    )  # fmt: skip
    return list(zip(*columns, strict=True))


def reason(row: Row) -> str | None:
    user, video, time, click, play, rand, _ = row
    for name, blank in (("user", user), ("video", video), ("time", time), ("play", play)):
        if not blank:
            return f"blank_{name}"
    if play.startswith("-"):
        return "negative_play"
    return None if {click, rand} <= {"0", "1"} else "bad_flag"


def expected(rows: Sequence[Row]) -> tuple[list[Values], dict[str, int]]:
    """Read rows in plain Python: what to give in which order, and what to drop."""
    dropped = Counter(why for row in rows if (why := reason(row)))
    clean = [row for row in rows if reason(row) is None]
    distinct = sorted(set(clean), key=lambda row: [int(row[place]) for place in (2, 0, 1, 3, 5, 4, 6)])
    dropped["duplicate"] += len(clean) - len(distinct)
    given = [
        (int(time), user, video, float(click), int(play) / 1000, rand == "1")
        for user, video, time, click, play, rand, _ in distinct
    ]
    return given, {name: count for name, count in dropped.items() if count}


def cell(*usual: str, odd: str = "") -> st.SearchStrategy[str]:
    return st.sampled_from([*usual * 8, odd])


ROWS = st.lists(
    st.tuples(
        cell("1", "2", "10"), cell("1", "2", "10"),
        cell(*(str(hour * HOUR_MS + ms) for hour in (0, 1, 30) for ms in (0, 1))),
        cell("0", "1", odd="2"), cell("0", "500", odd="-1"), cell("0", "1"), st.just("1"),
    ),
    min_size=1,
    max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    rows=ROWS,
    files=st.integers(1, 3),
    batch_rows=st.integers(1, 20),
    seed=st.integers(0, 99),
    order=st.booleans(),
)
def test_rows_equal_a_plain_python_reading(
    rows: list[Row], files: int, batch_rows: int, seed: int, order: bool
) -> None:
    if order:
        rows = sorted(rows, key=lambda row: int(row[2] or 0))
    else:
        random.Random(seed).shuffle(rows)
    parts = [part for index in range(files) if (part := rows[index::files])]
    given, dropped = expected(rows)
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        # Small blocks and buckets, so that few rows already meet their borders.
        patch.setattr(csvfile, "BLOCK_BYTES", 64)
        patch.setattr(reader, "bucket_bounds", partial(bucket_bounds, rows=4))
        paths = [write(Path(name) / f"{index}.csv", part) for index, part in enumerate(parts)]
        if not given:
            with pytest.raises(InputError, match=f"none of the log's {len(rows)} rows can be used"):
                open_log(paths)
            return
        log = open_log(paths, batch_rows=batch_rows, temporary=Path(name))
        batches = [values(batch) for batch in log.batches()]
        assert sorted(Path(name).iterdir()) == paths
    assert [row for batch in batches for row in batch] == given
    assert log.dropped == dropped
    assert (log.summary.rows, log.summary.first_ts, log.summary.last_ts) == (
        len(rows),
        given[0][0],
        given[-1][0],
    )
    for earlier, later in pairwise(batches):
        assert earlier[-1][0] < later[0][0]


def test_summary(tmp_path: Path) -> None:
    late = write(
        tmp_path / "late.csv", [("1", "2", "50", "1", "0", "0", "1"), ("1", "2", "60", "0", "0", "1", "1")]
    )
    early = write(tmp_path / "early.csv", [("1", "2", "10", "1", "0", "1", "1")])
    summary = open_log([late, early]).summary
    assert summary.files == (str(late), str(early))
    assert summary.sha256 == sha256(late.read_bytes() + early.read_bytes()).hexdigest()
    assert (summary.rows, summary.first_ts, summary.last_ts, summary.random_rows) == (3, 10, 60, 2)
    assert summary.kinds == {"click", "play"}
    assert summary.ordered
    assert summary.sha256 != open_log([early, late]).summary.sha256


def test_column_order_may_differ_between_files(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", [("1", "2", "50", "1", "700", "0", "1")])
    row = ("1", "0", "700", "1", "50", "2", "1")
    second = write(tmp_path / "2.csv", [row], columns=COLUMNS[::-1])
    log = open_log([first, second])
    assert [values(batch) for batch in log.batches()] == [[(50, "1", "2", 1.0, 0.7, False)]]
    assert log.dropped == {"duplicate": 1}


def test_each_iteration_counts_anew(tmp_path: Path) -> None:
    row = ("1", "2", "50", "1", "700", "0", "1")
    log = open_log([write(tmp_path / "log.csv", [row, row, ("", *row[1:])])])
    assert log.dropped == {"blank_user": 1}
    for _ in range(2):
        assert sum(len(batch) for batch in log.batches()) == 1
        assert log.dropped == {"blank_user": 1, "duplicate": 1}


def test_a_reading_stopped_early_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "bucket_bounds", partial(bucket_bounds, rows=1))
    rows = [("1", "2", str(hour * HOUR_MS), "1", "0", "0", "1") for hour in (5, 3, 4)]
    folder = tmp_path / "temporary"
    folder.mkdir()
    batches = open_log([write(tmp_path / "log.csv", rows)], batch_rows=1, temporary=folder).batches()
    assert next(batches).ts.tolist() == [3 * HOUR_MS]
    assert list(folder.iterdir()) != []
    del batches
    assert list(folder.iterdir()) == []


def fails(paths: Sequence[Path], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        open_log(paths)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    fails([], "no file is given")
    fails([path], f"{path}: no such file")
    fails([tmp_path], f"{tmp_path}: is a folder")
    path.write_text("")
    fails([path], f"{path}: the file is empty")
    path.write_text("hello world\n1\n")
    fails([path], f"{path}: line 1: 'hello world' is not the header of a log, must have (KuaiRand) user_id, ")
    write(path, [])
    fails([path], f"{path}: has a header but no rows")
    write(path, [("1", "2", "x", "1", "0", "0", "1")])
    fails([path], f"{path}: line 2: time_ms is 'x', must be a whole number")


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    row = ("1", "2", "50", "1", "700", "0", "1")
    first = write(tmp_path / "1.csv", [row])
    second = write(tmp_path / "2.csv", [row[:-1]], columns=COLUMNS[:-1])
    fails([first, second], f"{second}: line 1: only this file or only {first} has the columns tab; ")
    third = write(tmp_path / "3.csv", [("1", "2", "3", "4", "5.5")], columns=KUAIREC.split(","))
    fails([first, third], f"{third}: is a KuaiRec log and {first} a KuaiRand log, ")


def test_arguments(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [("1", "2", "50", "1", "700", "0", "1")])
    with pytest.raises(InputError, match="batch_rows: 0 is too small, must be 1 or more"):
        open_log([path], batch_rows=0)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        open_log([path], temporary=tmp_path / "nowhere")


def test_real_files_interleave_in_any_order(shared_data: Path) -> None:
    folder = shared_data / "kuairand"
    paths = [folder / "log_random_1k_rows.csv", folder / "log_standard_pure_rows.csv"]
    readings = [
        [row for batch in open_log(order, batch_rows=size).batches() for row in values(batch)]
        for order in (paths, paths[::-1])
        for size in (7, 1000)
    ]
    assert all(reading == readings[0] for reading in readings)
    assert len(readings[0]) == 111
    assert set(kuairand.FLAGS.values()) < open_log(paths).summary.kinds
