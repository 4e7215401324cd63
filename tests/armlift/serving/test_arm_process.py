"""Arms in a process of their own: the same answers, and what breaks there is begun anew."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nightly_lab import change
from serving_lab import NAME, ready, size_of, wait_for

from armlift.arm import Behaviour, Request
from armlift.events import request_identity
from armlift.lab import Lab
from armlift.serving.arm_process import ArmProcess, ArmProcessError
from armlift.serving.arms import Arms, Key
from armlift.serving.filters import FilterFile, Filters
from armlift.store.database import open_database

AT = 1_700_000_000_000
COVISITATION: Key = (NAME, "covisitation")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return ready(tmp_path_factory.mktemp("arms") / "lab", size_of(50, 1), users=50)


@pytest.fixture
def process(lab: Lab) -> Iterator[ArmProcess]:
    made = ArmProcess(lab, stuck_seconds=1.0)
    made.start()
    try:
        yield made
    finally:
        made.close()


def asks(count: int) -> list[Request]:
    return [
        Request(
            request_identity(AT, str(number)),
            f"u{number}",
            AT,
            5,
            [Behaviour(f"00{number}", "click", 1.0, AT - 9)],
        )
        for number in range(count)
    ]


def test_answers_are_those_of_arms_in_this_process(lab: Lab, process: ArmProcess) -> None:
    here = Arms(lab, open_database(lab), filters=lambda: Filters(FilterFile(), {}))
    standing = process.prepare([COVISITATION, (None, "sasrec")])
    assert standing.versions == here.prepare([COVISITATION]).versions
    assert list(standing.missing) == [(None, "sasrec")]
    assert "arm sasrec: has no promoted version in scope *" in standing.missing[None, "sasrec"]
    assert process.answer(COVISITATION, asks(8)) == here.answer(COVISITATION, asks(8))
    with pytest.raises(ArmProcessError, match="InputError: arm sasrec: has no promoted version"):
        process.answer((None, "sasrec"), asks(1))
    here.close()


def test_a_process_that_ends_is_begun_anew(process: ArmProcess) -> None:
    before = process.answer(COVISITATION, asks(2))
    process.start()
    assert process.begun == 1, "it lives"
    process._process.kill()
    wait_for(lambda: not process._process.is_alive())
    with pytest.raises(ArmProcessError, match="has gone"):
        process.answer(COVISITATION, asks(2))
    process.start()
    assert process.begun == 2
    assert process.answer(COVISITATION, asks(2)) == before


def test_an_arm_that_does_not_answer_holds_up_nobody_and_is_ended(tmp_path: Path) -> None:
    lab = ready(tmp_path / "lab", size_of(50, 1), users=50)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        remote = lab.folder / "arms" / "remote.yaml"
        change(remote, {"timeout": 600, "retries": 0})
        text = remote.read_text().replace("127.0.0.1:8900", f"127.0.0.1:{silent.getsockname()[1]}")
        remote.write_text(text)
        process = ArmProcess(lab, stuck_seconds=1.0)
        process.start()
        failures: list[Exception] = []

        def hang() -> None:
            try:
                process.answer((None, "remote"), asks(1))
            except ArmProcessError as error:
                failures.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        time.sleep(0.2)
        assert process.answer(COVISITATION, asks(1)), "others are answered meanwhile"
        process.start()
        assert process.begun == 1, "it may still answer"
        time.sleep(1.1)
        process.start()
        thread.join(10)
        assert (process.begun, [str(one) for one in failures]) == (2, ["the process of arms has gone"])
        assert process.answer(COVISITATION, asks(1))
        process.close()
