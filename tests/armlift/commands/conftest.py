"""Fixtures of the command line's tests: a lab, and a call that must be refused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.cli import run
from armlift.lab import init_lab

EXPERIMENT = """\
name: baselines
arms: {popularity: 1, covisitation: 1, random: 1}
control: popularity
layer: {name: feed, slice: [0, 1]}
phases:
  - traffic: 1.0
metrics:
  primary: [click_rate]
  secondary: [clicks]
  guardrails: [hate_rate]
analysis: {alpha: 0.05}
replay:
  session_gap: 30
"""
COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,"
    "long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
START = 1_649_347_200_000  # 2022-04-08 00:00 in Asia/Shanghai
DAY = 86_400_000

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]


@pytest.fixture(scope="session")
def lab_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one lab that tests copy; its one experiment is fixed here, whatever the stock ones say."""
    folder = tmp_path_factory.mktemp("template") / "lab"
    init_lab(folder)
    (folder / "experiments" / "baselines.yaml").write_text(EXPERIMENT)
    (folder / "experiments" / "demo.yaml").unlink()
    return folder


@pytest.fixture
def lab(lab_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a lab folder to spoil, where no setting comes from the environment."""
    for name in os.environ:
        if name.upper().startswith("ARMLIFT_"):
            monkeypatch.delenv(name)
    return shutil.copytree(lab_template, tmp_path / "lab")


@pytest.fixture
def edit(lab: Path) -> Edit:
    """Give the function that replaces a text, which must be there, in a file of the lab."""

    def replace(file: str, old: str, new: str) -> Path:
        path = lab / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1))
        return path

    return replace


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Give the function that calls a command, asserts that its input is refused, and returns the one line."""

    def call(*arguments: str | Path) -> str:
        capsys.readouterr()
        code = run(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), err
        assert err.startswith("armlift: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err.removeprefix("armlift: ").removesuffix("\n")

    return call


@pytest.fixture(scope="session")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a log of four days, six users and five videos, all randomly exposed."""
    path = tmp_path_factory.mktemp("logs") / "log.csv"
    rows = [
        f"{user},{video},20220408,0,{START + day * DAY + user * 60_000 + video},"
        f"{int(video < 3)},0,0,0,0,0,0,{1000 * video},9000,0,0,0,1,1"
        for day in range(4)
        for user in range(6)
        for video in range(5)
    ]
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")
    return path
