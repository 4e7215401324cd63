"""Which of the processes that torchrun started this is."""

import pytest

from armlift import processes
from armlift.errors import InputError


@pytest.mark.parametrize(
    ("world", "rank", "found"),
    [(None, None, (1, True)), ("1", "0", (1, True)), ("2", "0", (2, True)), ("2", "1", (2, False))],
)
def test_the_environment_tells(
    monkeypatch: pytest.MonkeyPatch, world: str | None, rank: str | None, found: tuple[int, bool]
) -> None:
    for name, value in (("WORLD_SIZE", world), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert (processes.count(), processes.is_first()) == found


@pytest.mark.parametrize("told", ["", "two", "0", "-1", "1.5"])
def test_a_number_that_is_none(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", told)
    with pytest.raises(InputError, match=f"^WORLD_SIZE: '{told}' must be the number of processes"):
        processes.count()


def test_each_process_has_a_place_and_all_one_address() -> None:
    first, second = processes.places(2)
    assert first | {"RANK": "1", "LOCAL_RANK": "1"} == second
    assert (first["RANK"], first["WORLD_SIZE"], first["MASTER_ADDR"]) == ("0", "2", "127.0.0.1")
