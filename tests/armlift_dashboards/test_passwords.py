"""Passwords and the throttle of attempts."""

from time import perf_counter

import pytest

from armlift_dashboards import passwords
from armlift_dashboards.passwords import FORGOTTEN, FREE, FREE_IN_ALL, LONGEST, Attempts, hash_of, right


@pytest.fixture(scope="module")
def hashes() -> dict[str, str]:
    return {"ann": hash_of("correct horse battery")}


def test_only_a_names_own_password_is_right(hashes: dict[str, str]) -> None:
    assert hashes["ann"].startswith("$argon2id$")
    assert hash_of("correct horse battery") != hashes["ann"]
    assert right(hashes, "ann", "correct horse battery")
    assert not right(hashes, "ann", "correct horse batterY")
    assert not right(hashes, "ann", "")
    assert not right(hashes, "bob", "correct horse battery")
    assert not right({"ann": "$argon2id$nonsense"}, "ann", "correct horse battery")


def test_an_unknown_name_takes_as_long(hashes: dict[str, str]) -> None:
    def seconds(name: str) -> float:
        found = []
        for _ in range(7):
            start = perf_counter()
            right(hashes, name, "a wrong password")
            found.append(perf_counter() - start)
        return min(found)

    right(hashes, "bob", "warm")
    assert seconds("bob") == pytest.approx(seconds("ann"), rel=0.5)


def test_failures_of_a_name_make_it_wait_longer_up_to_a_minute() -> None:
    attempts = Attempts()
    for _ in range(FREE):
        assert attempts.wait("ann", 0.0) == 0
        attempts.failed("ann", 0.0)
    waits = []
    for _ in range(12):
        waits.append(attempts.wait("ann", 0.0))
        attempts.failed("ann", 0.0)
    assert waits[:7] == [1, 2, 4, 8, 16, 32, LONGEST]
    assert set(waits[6:]) == {LONGEST}
    assert attempts.wait("ann", 59.0) == 1
    assert attempts.wait("ann", 61.0) == 0
    assert attempts.wait("bob", 0.0) == 0
    attempts.passed("ann")
    assert attempts.wait("ann", 0.0) == 0


def test_failures_are_forgotten() -> None:
    attempts = Attempts()
    for _ in range(FREE + 3):
        attempts.failed("ann", 0.0)
    attempts.failed("ann", FORGOTTEN + 1)
    assert attempts.wait("ann", FORGOTTEN + 1) == 0


def test_guesses_spread_over_names_wait_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_NAMES", 10)
    attempts = Attempts()
    for n in range(FREE_IN_ALL):
        assert attempts.wait(f"n{n}", 0.0) == 0
        attempts.failed(f"n{n}", 0.0)
    assert attempts.wait("somebody else", 0.0) == 1
    assert len(attempts._failures) == 10
