"""The API under faults: brokers that go away, signals. What a 202 accepted is in SQL, once."""

import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker
from pressure import Asked, Reply, figures, pressure
from serving_lab import command, ready, serving, size_of, wait_for
from sqlalchemy import func, select

from armlift.events import feedback_identity, impression_identity, request_identity
from armlift.lab import Lab
from armlift.store.database import open_database
from armlift.store.tables import dead_letters, feedback, impressions

A_BATCH = 10
"""Requests of a batch, each with an impression and two feedbacks."""
PATIENCE = 60.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a lab whose experiment runs, to be copied."""
    return ready(tmp_path_factory.mktemp("served") / "lab", size_of(200, 2)).folder


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Lab:
    return Lab(shutil.copytree(template, tmp_path / "lab"))


def batch(number: int, prefix: str = "b") -> Asked:
    """Make the n-th batch of events; its ids are told by what it says."""
    now, rows, ids = time.time_ns() // 1_000_000, [], []
    for place in range(A_BATCH):
        unit = f"{prefix}{number}-{place}"
        named = request_identity(now, unit)
        common = {"request_id": named, "unit_id": unit, "item_id": "v1"}
        shown = {"type": "impression", "arm": "popularity", "arm_version": "1", "position": 0}
        rows.append({**common, **shown})
        ids.append(impression_identity(named, "v1"))
        for ordinal in range(2):
            rows.append({**common, "type": "feedback", "kind": "click", "ordinal": ordinal})
            ids.append(feedback_identity(named, "v1", "click", ordinal))
    return Asked("POST", "/v1/events", {"events": rows}, ids)


def accepted(replies: Iterable[Reply]) -> set[str]:
    return {one for reply in replies if reply.status == 202 for one in reply.what}


def stored(lab: Lab) -> list[str]:
    engine = open_database(lab)
    with engine.connect() as connection:
        found = [
            name for table in (impressions, feedback) for name in connection.scalars(select(table.c.event_id))
        ]
        assert connection.scalar(select(func.count()).select_from(dead_letters)) == 0
    engine.dispose()
    return found


def check_stored(lab: Lab, replies: list[Reply]) -> None:
    """Check that all that was accepted is stored, once, and nothing that was never sent."""
    wanted, sent = accepted(replies), {one for reply in replies for one in reply.what}
    assert wanted
    wait_for(lambda: wanted <= set(stored(lab)), PATIENCE)
    found = stored(lab)
    assert len(found) == len(set(found))
    assert set(found) <= sent


def test_no_event_is_lost_while_the_broker_is_away(durable: Broker, lab: Lab) -> None:
    """Of three processes one is told to end meanwhile and one is killed: the third brings what they kept."""
    stream = ("--stream", durable.url(f"faults-{uuid4().hex}"))
    with ExitStack() as stack:
        stack.enter_context(command(lab, "ingest", *stream))
        one, two, three = (stack.enter_context(serving(lab, *stream)) for _ in range(3))
        with pressure([three.url], batch, threads=2, pause=0.01) as lasting:
            with pressure([one.url, two.url], partial(batch, prefix="ends"), pause=0.01) as replies:
                time.sleep(1.0)
                away = time.monotonic()
                durable.kill()
                time.sleep(2.5)
                one.process.terminate()
                two.process.kill()
                assert one.process.wait(30) == 0
                ended = time.monotonic()
            back = time.monotonic()
            durable.start()
            time.sleep(1.0)
        print(f"events, until the broker went: {figures([one for one in lasting if one.sent < away])}")
        print(f"while it was away: {figures([one for one in lasting if away <= one.sent < back])}")
        print(f"in all: {figures(lasting)}; a process ended within {ended - away - 2.5:.1f} s")
        assert {reply.status for reply in lasting} == {202}
        assert {reply.status for reply in replies} == {202, 0}
        check_stored(lab, [*lasting, *replies])
        assert not [*(lab.folder / "spill").glob("*/[0-9]*")], "all of it is in the stream"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_accepted_outlives_a_signal(lab: Lab, number: signal.Signals) -> None:
    with serving(lab) as api:
        with pressure([api.url], batch) as replies:
            time.sleep(1.5)
            api.process.send_signal(number)
            began = time.monotonic()
            code = api.process.wait(30)
            print(f"ended after {time.monotonic() - began:.2f} s")
            time.sleep(0.1)
        print(figures(replies))
        assert code == (0 if number == signal.SIGTERM else -number)
        assert accepted(replies)
        assert not [line for line in api.log if "Error" in line], api.log
    with command(lab, "ingest"), serving(lab):
        check_stored(lab, replies)
