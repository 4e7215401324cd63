"""Played: users who meet arms through the API give the report of the same users simulated in process."""

from pathlib import Path

import pytest
from played import compare
from serving_lab import ARMS, NAME, begin, make_lab, serving, size_of

from armlift.client import Client
from armlift.errors import InputError
from armlift.simulation.played import Play
from armlift.store.database import open_database

USERS, DAYS = 120, 2


def test_the_report_is_that_of_the_same_users_in_process(tmp_path: Path) -> None:
    found = compare(tmp_path, USERS, DAYS, arms=ARMS)
    assert found.fallbacks == {}
    assert found.requests > 300
    for count, differing in (found.slots, found.feedback, found.exposures, found.comparisons):
        assert count > 0
        assert differing == 0


def test_forced_fallbacks_are_shown_and_counted(tmp_path: Path) -> None:
    found = compare(tmp_path, USERS, DAYS, share=0.05, arms=ARMS)
    assert set(found.fallbacks) == {"rehearsed"}
    share = found.fallbacks["rehearsed"] / found.requests
    assert 0.03 < share < 0.07
    # Each is an event, whether its unit was exposed before or not.
    assert found.by_fallback["exposures"] == found.fallbacks["rehearsed"]
    assert found.by_fallback["slots"] / found.slots[0] == pytest.approx(share, abs=0.02)
    assert found.slots[1] > 0


def test_what_does_not_run_cannot_be_played(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    with serving(lab) as answering, Client(answering.url) as client:
        with pytest.raises(
            InputError, match=f"experiment {NAME}: is not started at the API, must be running"
        ):
            Play(lab, lab.experiment(NAME), size_of(5, 1), client)
        begin(lab, open_database(lab), size_of(5, 1))
        client.pause(NAME, "not now")
        with pytest.raises(InputError, match="is paused at the API, must be running"):
            Play(lab, lab.experiment(NAME), size_of(5, 1), client)
