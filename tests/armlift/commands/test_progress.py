"""Progress on stderr: bars on a terminal, a line a stage elsewhere."""

import io
import re
from contextlib import suppress

import pytest
from rich.console import Console

from armlift.arm import ArmConfig
from armlift.commands import progress
from armlift.commands.progress import progress_bar, training_progress
from armlift.fitting import Epoch

CONFIG = ArmConfig(name="mine", model="sasrec")
FOLD = Epoch("fold1", 1, 1, 5.25, {}, 0, {}, 0.1)
FIRST = Epoch("train", 1, 9, 4.5, {"HR@10": 0.2, "NDCG@10": 0.1}, 1, {"HR@10": 0.2, "NDCG@10": 0.1}, 0.1)
SECOND = FIRST._replace(number=2, loss=4.25, figures={"HR@10": 0.1, "NDCG@10": 0.05})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Give what is written on a terminal of 100 columns."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "_console", lambda: console)
    return written


def test_elsewhere_a_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress(CONFIG) as tell:
        assert tell is not None
        tell(FOLD)
        tell(FIRST)
        assert capsys.readouterr() == ("", "mine fold1: 1/1 loss 5.250\n")
        tell(SECOND)
    best = "HR@10 0.1000 NDCG@10 0.0500 best 1: HR@10 0.2000 NDCG@10 0.1000"
    assert capsys.readouterr() == ("", f"mine train: 2/9 loss 4.250 {best}\n")


def test_elsewhere_nothing_is_said_of_what_was_broken_off_or_has_no_stages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with training_progress(CONFIG):
        pass
    with suppress(KeyboardInterrupt), training_progress(CONFIG) as tell:
        assert tell is not None
        tell(FIRST)
        raise KeyboardInterrupt
    with progress_bar("generating") as told:
        told(1, 2)
    assert capsys.readouterr() == ("", "")


def test_one_of_several_processes_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, shows in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        with training_progress(CONFIG) as tell:
            assert (tell is not None) == shows


def test_a_terminal_shows_a_bar_a_stage(terminal: io.StringIO) -> None:
    with training_progress(CONFIG) as tell:
        assert tell is not None
        for epoch in (FOLD, FIRST, SECOND):
            tell(epoch)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"mine fold1 \S+ +1/1 loss 5\.250 ", text)
    best = "HR@10 0.1000 NDCG@10 0.0500 best 1: HR@10 0.2000"
    assert re.search(rf"mine train \S+ +2/9 loss 4\.250 {best}", text), text


def test_a_bar_appears_when_it_is_told(terminal: io.StringIO) -> None:
    with progress_bar("replaying") as tell:
        assert terminal.getvalue() == ""
        tell(50, 200)
    assert "50 of 200" in terminal.getvalue()
