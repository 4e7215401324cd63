"""Readers: Open Bandit files, CSV under other names, packed and several files, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from armlift.errors import InputError
from armlift.offpolicy.policies import told_by
from armlift.offpolicy.readers import is_video_log, read_rows

OBD = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,"
    "user_feature_3,user-item_affinity_0"
)
OBD_ROWS = [
    "0,2019-11-24 00:01:03.979311+00:00,2,2,0,0.25,x,y,z,w,0.0",
    "1,2019-11-24 00:01:04.979311+00:00,3,1,1,0.5,x,y,z,w,0.0",
    "2,2019-11-24 00:01:05.979311+00:00,3,1,1,0.5,x,y,z,v,0.0",
    "3,2019-11-24 00:01:06.979311+00:00,3,1,1,,x,y,z,v,0.0",
]
CSV = "unit,item,position,reward,propensity\nu,a,1,1,0.5\nv,b,1,0,0.25\n"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_open_bandit_files_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "obd.csv", OBD, *OBD_ROWS)
    rows = read_rows([path])
    assert (rows.source, rows.unit, len(rows)) == ("Open Bandit", "combinations of user features", 3)
    assert (rows.catalogue, rows.positions) == (("2", "3"), (1, 2))
    assert rows.logged.tolist() == [0.25, 0.5, 0.5]
    assert rows.rewards.tolist() == [0.0, 1.0, 1.0]
    assert rows.dropped == {"bad_propensity": 1}
    assert len(np.unique(rows.units)) == 2
    assert len(np.unique(read_rows([path, path], unit="row").units)) == 6


def test_csv_is_read_under_other_names_packed_and_in_parts(tmp_path: Path) -> None:
    first = tmp_path / "first.csv.gz"
    first.write_bytes(gzip.compress(CSV.replace("unit", "who").replace("reward", "play").encode()))
    second = tmp_path / "second.csv"
    second.write_text("propensity,who,play,position,item\n1,w,3.5,1,7\n")
    rows = read_rows([first, second], reward="play", columns={"unit": "who"})
    assert rows.catalogue == ("7", "a", "b")
    assert rows.rewards.tolist() == [1.0, 0.0, 3.5]
    assert rows.requests is None
    (tmp_path / "slates.csv").write_text(
        CSV.replace("propensity\n", "propensity,request\n")
        .replace("0.5\n", "0.5,r\n")
        .replace("0.25\n", "0.25,s\n")
    )
    found = read_rows([tmp_path / "slates.csv"]).requests
    assert found is not None
    assert len(np.unique(found)) == 2


def test_a_video_log_is_known_by_its_columns(tmp_path: Path) -> None:
    assert is_video_log([write(tmp_path / "log.csv", "user_id,video_id,time_ms,is_click,is_rand")])
    assert not is_video_log([write(tmp_path / "rows.csv", CSV)])


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_rows([tmp_path / "none.csv"])
    bad = write(tmp_path / "bad.csv", "unit,item,position,reward\nu,a,1,1")
    with pytest.raises(
        InputError, match=r"column propensity is missing, must be an Open Bandit file, a Kuai"
    ):
        read_rows([bad])
    rows = write(tmp_path / "rows.csv", *CSV.splitlines())
    with pytest.raises(InputError, match=r"--column what: is no column of rows with propensities, must be"):
        read_rows([rows], columns={"what": "unit"})
    with pytest.raises(InputError, match="column request_id is missing"):
        read_rows([rows], columns={"request": "request_id"})
    with pytest.raises(InputError, match=r"bad.csv: line 1: column propensity is missing, .*rows.csv has it"):
        read_rows([rows, bad])
    text = write(tmp_path / "text.csv", *CSV.splitlines(), "u,a,1,much,0.5")
    with pytest.raises(InputError, match="line 4: reward is 'much', must be a number"):
        read_rows([text])
    empty = write(tmp_path / "empty.csv", CSV.splitlines()[0])
    with pytest.raises(InputError, match="has a header but no rows"):
        read_rows([empty])
    obd = write(tmp_path / "obd.csv", OBD, *OBD_ROWS)
    with pytest.raises(InputError, match="--reward like: an Open Bandit file tells of click alone"):
        read_rows([obd], reward="like")
    short = write(tmp_path / "short.csv", "item_id,position,click,propensity_score", "1,1,0,0.5")
    with pytest.raises(InputError, match="column user_feature_0 is missing; --unit row does without"):
        read_rows([short])
    assert len(read_rows([short], unit="row")) == 1


def test_the_shop_samples_are_read(shared_data: Path) -> None:
    random = read_rows([shared_data / "obd" / "random_men.csv"])
    own = read_rows([shared_data / "obd" / "bts_men.csv"])
    assert (len(random), len(own), len(random.catalogue), random.positions) == (10_000, 10_000, 34, (1, 2, 3))
    assert random.dropped == own.dropped == {}
    assert (len(np.unique(random.units)), len(np.unique(own.units))) == (230, 238)
    assert set(random.logged.tolist()) == {1 / 34}
    policy, _ = told_by(own, random, "bts_men.csv")
    # Thompson sampling learns: an item's propensity at a position changes with time.
    assert "vary within 102 of 102 items and positions" in policy.notes[0]
    assert policy.table.sum(axis=1) == pytest.approx(1.0)
