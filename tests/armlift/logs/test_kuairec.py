from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.logs.kuairec import COLUMNS
from armlift.logs.reader import open_log

GOOD = "14,148,4381,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,0.722103"


def write(path: Path, *lines: str, header: str = ",".join(COLUMNS)) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_official_columns(tmp_path: Path) -> None:
    log = open_log([write(tmp_path / "small_matrix.csv", GOOD)])
    [batch] = log.batches()
    assert log.summary.format == "KuaiRec"
    assert log.summary.kinds == {"play", "long_view"}
    assert log.summary.random_rows is None
    assert log.summary.first_ts == log.summary.last_ts == 1593898068378
    assert (batch.units, batch.items, batch.ts.tolist()) == (["14"], ["148"], [1593898068378])
    assert batch.feedback["play"].tolist() == [4.381]
    assert batch.random is None
    assert log.ignored == ()


@pytest.mark.parametrize(
    ("play", "duration", "long"),
    [
        (5_999, 6_000, 0),
        (6_000, 6_000, 1),
        (17_999, 18_000, 0),
        (18_000, 18_000, 1),
        (17_999, 60_000, 0),
        (18_000, 60_000, 1),
        (18_000, 0, 1),
        (5, 0, 0),
        (0, "", 0),
    ],
)
def test_long_view_rule(tmp_path: Path, play: int, duration: object, long: int) -> None:
    log = open_log([write(tmp_path / "log.csv", f"1,2,{play},{duration},,,5.0,")])
    [batch] = log.batches()
    assert batch.feedback["long_view"].tolist() == [long]
    assert log.noted == ({} if duration else {"duration_missing": 1})


def test_dirty_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        GOOD,
        "14,183,11635,6100,,,,1.907377",
        "14,184,11635,6100,,,nan,1.907377",
        "14,184,11635,6100,,,inf,1.907377",
        "14,184,11635,6100,,,-1.5,1.907377",
        "14,184,-3,6100,,,1.5,1.907377",
        "14,184,,6100,,,1.5,1.907377",
        ",184,5,6100,,,1.5,1.907377",
    )
    log = open_log([path])
    assert sum(len(batch) for batch in log.batches()) == 1
    assert log.summary.rows == 8
    assert log.dropped == {
        "blank_time": 1, "bad_time": 3, "negative_play": 1, "blank_play": 1, "blank_user": 1,
    }  # fmt: skip


def test_rows_that_lack_their_time_alone(tmp_path: Path) -> None:
    untimed = ["14,7,9000,8000,,,,", "13,7,1,8000,,,,", "13,7,1,8000,,,,"]
    log = open_log([write(tmp_path / "log.csv", *untimed, GOOD, "14,8,-1,8000,,,,", ",8,1,8000,,,,")])
    [batch] = log.untimed()
    assert (batch.units, batch.items, batch.ts.tolist()) == (["13", "14"], ["7", "7"], [-1, -1])
    assert batch.feedback["long_view"].tolist() == [0, 1]
    assert sum(len(batch) for batch in log.batches()) == 1
    assert list(open_log([write(tmp_path / "timed.csv", GOOD)]).untimed()) == []


def test_duplicates_are_told_by_what_was_measured(tmp_path: Path) -> None:
    again = "14,148,4381,6067,2020-07-05 05:27:48.378,20200705.0,1593898068.378,0.7221"
    other = "14,148,4382,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,0.722103"
    log = open_log([write(tmp_path / "log.csv", GOOD, again, other)])
    [batch] = log.batches()
    assert batch.feedback["play"].tolist() == [4.381, 4.382]
    assert log.dropped == {"duplicate": 1}


def test_only_what_is_needed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        "1.5,6000,7,9,6000",
        header="timestamp,play_duration,user_id,video_id,video_duration",
    )
    [batch] = open_log([path]).batches()
    assert (batch.units, batch.items, batch.ts.tolist()) == (["7"], ["9"], [1500])


def test_a_required_column_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "1,2,3,4", header="user_id,video_id,play_duration,timestamp")
    with pytest.raises(InputError, match="column video_duration is missing, a KuaiRec log must have user_id"):
        open_log([path])


def test_text_in_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", GOOD, GOOD.replace("1593898068.378", "soon"))
    with pytest.raises(InputError, match=r"log.csv: line 3: timestamp is 'soon', must be a number$"):
        open_log([path])
