from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from armlift.errors import InputError
from armlift.logs.kuairand import COLUMNS
from armlift.logs.log import SYNTHETIC_USERS_FROM, LogBatch
from armlift.logs.reader import Log, open_log

ROW = dict(zip(COLUMNS, [7, 3, 20220425, 600, 1650839585601, *[0] * 14], strict=True)) | {"duration_ms": 9000}
ALL_KINDS = {"click", "like", "follow", "comment", "forward", "hate", "long_view", "play", "profile_enter"}


def write(path: Path, *rows: Mapping[str, object], columns: tuple[str, ...] = COLUMNS) -> Path:
    lines = [",".join(columns), *(",".join(str({**ROW, **row}[name]) for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read(*paths: Path) -> tuple[Log, LogBatch]:
    log = open_log(paths, batch_rows=100_000)
    [batch] = log.batches()
    return log, batch


def test_official_columns_become_kinds(tmp_path: Path) -> None:
    log, batch = read(
        write(
            tmp_path / "log.csv",
            {"is_click": 1, "is_follow": 1, "long_view": 1, "play_time_ms": 2155, "is_rand": 1},
            {"time_ms": 1650839585602, "user_id": 8, "is_like": 1, "is_profile_enter": 1, "is_forward": 1},
            {"time_ms": 1650839585603, "video_id": 4, "is_comment": 1, "is_hate": 1},
        )
    )
    assert log.summary.format == "KuaiRand"
    assert log.summary.kinds == set(batch.feedback) == ALL_KINDS
    assert log.summary.random_rows == 1
    assert log.ignored == ()
    assert batch.units == ["7", "8", "7"]
    assert batch.items == ["3", "3", "4"]
    assert batch.ts.tolist() == [1650839585601, 1650839585602, 1650839585603]
    assert batch.ts.dtype == np.int64
    assert batch.random is not None
    assert batch.random.tolist() == [True, False, False]
    assert batch.feedback["play"].tolist() == [2.155, 0.0, 0.0]
    happened = [{kind for kind in ALL_KINDS if batch.feedback[kind][row]} for row in range(3)]
    assert happened == [
        {"click", "follow", "long_view", "play"}, {"like", "profile_enter", "forward"}, {"comment", "hate"},
    ]  # fmt: skip


def test_play_is_the_nearest_number_to_the_seconds(tmp_path: Path) -> None:
    _, batch = read(write(tmp_path / "log.csv", *({"play_time_ms": ms} for ms in range(3000))))
    assert batch.feedback["play"].tolist() == [ms / 1000 for ms in range(3000)]


def test_label_stands_for_like_and_hate_where_these_are_missing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        {"label": 1, "time_ms": 1},
        {"label": 0, "time_ms": 2},
        {"label": 2, "time_ms": 3},
        columns=("user_id", "video_id", "time_ms", "label"),
    )
    log, batch = read(path)
    assert log.summary.kinds == {"like", "hate"}
    assert log.summary.random_rows is None
    assert batch.random is None
    assert batch.feedback["like"].tolist() == [1, 0]
    assert batch.feedback["hate"].tolist() == [0, 1]
    assert log.dropped == {"bad_flag": 1}


def test_official_like_wins_over_label(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        {"label": 0, "is_like": 1},
        columns=("user_id", "video_id", "time_ms", "label", "is_like"),
    )
    log, batch = read(path)
    assert log.summary.kinds == {"like"}
    assert batch.feedback["like"].tolist() == [1]
    assert log.ignored == ("label",)


def test_unknown_columns_are_named_and_tell_duplicates_apart(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv", {"note": '"a,b"'}, {"note": "c"}, {"note": "c"}, columns=(*COLUMNS, "note")
    )
    log, batch = read(path)
    assert log.ignored == ("note",)
    assert len(batch) == 2
    assert log.dropped == {"duplicate": 1}


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ({"user_id": ""}, "blank_user"),
        ({"video_id": ""}, "blank_video"),
        ({"time_ms": ""}, "blank_time"),
        ({"time_ms": -1}, "bad_time"),
        ({"time_ms": 1 << 48}, "bad_time"),
        ({"play_time_ms": ""}, "blank_play"),
        ({"play_time_ms": -5}, "negative_play"),
        ({"is_click": 2}, "bad_flag"),
        ({"is_hate": -1}, "bad_flag"),
        ({"is_rand": ""}, "bad_flag"),
        ({"user_id": "", "is_click": 2, "time_ms": ""}, "blank_user"),
    ],
)
def test_dirty_rows_are_dropped_for_their_first_reason(
    tmp_path: Path, cell: dict[str, object], reason: str
) -> None:
    log, batch = read(write(tmp_path / "log.csv", {}, cell, {"video_id": 4}))
    assert log.summary.rows == 3
    assert log.dropped == {reason: 1}
    assert batch.items == ["3", "4"]


def test_oddities_are_kept_and_counted(tmp_path: Path) -> None:
    log, batch = read(
        write(tmp_path / "log.csv", {"duration_ms": 0}, {"duration_ms": "", "video_id": 4}, {"tab": ""})
    )
    assert len(batch) == 3
    assert log.noted == {"duration_missing": 2}
    assert log.dropped == {}


def test_whole_numbers_written_as_floats_are_read(tmp_path: Path) -> None:
    log, batch = read(
        write(tmp_path / "log.csv", {"is_click": "1.0", "time_ms": "1650839585601.0", "tab": ""})
    )
    assert batch.ts.tolist() == [1650839585601]
    assert batch.feedback["click"].tolist() == [1]
    assert log.dropped == {}


def test_generated_users_mark_the_log_synthetic(tmp_path: Path) -> None:
    real = write(tmp_path / "real.csv", {})
    made = write(tmp_path / "made.csv", {"user_id": SYNTHETIC_USERS_FROM, "time_ms": 5})
    assert not open_log([real]).summary.synthetic
    assert open_log([made]).summary.synthetic
    assert open_log([real, made]).summary.synthetic


@pytest.mark.parametrize("column", ["user_id", "video_id", "time_ms"])
def test_a_required_column_is_missing(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "log.csv", {}, columns=tuple(name for name in COLUMNS if name != column))
    with pytest.raises(
        InputError, match=f"log.csv: line 1: column {column} is missing, a KuaiRand log must have"
    ):
        open_log([path])


def test_no_feedback_column(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", {}, columns=("user_id", "video_id", "time_ms", "tab"))
    with pytest.raises(InputError, match=r"column is_click or is_like or .* is missing"):
        open_log([path])


def test_real_extract_of_explicit_reactions(shared_data: Path) -> None:
    log, batch = read(shared_data / "kuairand" / "log_standard_27k_explicit.csv")
    assert log.summary.rows == len(batch) == 41_704
    assert log.summary.ordered
    assert log.summary.kinds == ALL_KINDS
    assert log.summary.random_rows is None
    assert not log.summary.synthetic
    assert log.summary.sha256.startswith("307d437ceeee17b4")
    assert len(set(batch.units)) == 664
    assert len(set(batch.items)) == 9_359
    assert (batch.feedback["like"] + batch.feedback["hate"] == 1).all()
    assert log.dropped == {}
    assert log.noted == {"duration_missing": 7_730}


def test_real_random_exposure(shared_data: Path) -> None:
    log, batch = read(shared_data / "kuairand" / "log_random_1k_rows.csv")
    assert log.summary.rows == log.summary.random_rows == len(batch) == 82
    assert not log.summary.ordered
    assert (np.diff(batch.ts) >= 0).all()
    assert batch.random is not None
    assert batch.random.all()
    assert set(batch.units) == {"1", "2", "3"}


def test_real_standard_rows(shared_data: Path) -> None:
    log, batch = read(shared_data / "kuairand" / "log_standard_pure_rows.csv")
    assert len(batch) == 29
    assert log.summary.random_rows == 0
    assert log.summary.first_ts == batch.ts[0]
    assert log.summary.last_ts == batch.ts[-1]


@pytest.mark.parametrize("name", ["user_features_pure.csv", "video_features_basic_pure.csv"])
def test_real_tables_that_are_no_log(shared_data: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=rf"{name}: line 1: .* is not the header of a log, must have \(KuaiRand\)"
    ):
        open_log([shared_data / "kuairand" / name])
