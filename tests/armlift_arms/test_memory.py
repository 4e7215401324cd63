"""The memory that training takes: what does not fit is refused before anything is learnt."""

from pathlib import Path

import psutil
import pytest
from torch import nn

from armlift.arm import Behaviour, History, ItemTable, arm_class, new_arm
from armlift.errors import InputError
from armlift_arms import memory


def test_a_model_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(1000, 1000, bias=False)
    monkeypatch.setattr(memory, "available", lambda: 24_000_000)
    memory.check(model, "train")
    monkeypatch.setattr(memory, "available", lambda: 23_900_000)
    with pytest.raises(InputError) as caught:
        memory.check(model, "train")
    assert str(caught.value) == (
        "train: training 0.0 GB of weights takes 0.0 GB more, must fit the 0.0 GB of memory that are free; "
        "take a smaller dim, or fewer items"
    )
    monkeypatch.setattr(memory, "available", lambda: 47_000_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"0\.0 GB of weights in 2 processes takes 0\.0 GB more"):
        memory.check(model, "train")


def test_a_container_may_have_less_than_the_machine(tmp_path: Path) -> None:
    machine = psutil.virtual_memory().total
    assert 0 < memory.available() <= machine
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) > 4000
    (tmp_path / "memory.max").write_text("7000\n")
    assert memory.available(tmp_path) == 4000


def test_nothing_is_learnt_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    config = arm_class("sasrec").config_class(name="arm", model="sasrec", history_kinds=("click",))
    history = History("u", [Behaviour(item, "click", 1.0, 0) for item in "abc"])
    with pytest.raises(InputError, match=r"^train: training 0\.0 GB of weights takes "):
        new_arm(config).fit([history], ItemTable(["a", "b", "c"]), until=1)
