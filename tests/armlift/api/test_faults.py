"""The API under faults: brokers that go away, signals. What a 202 accepted is in SQL, once."""

import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker
from pressure import Asked, Reply, figures, pressure
from serving_lab import Answering, command, ready, serving, size_of, wait_for
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


def batch(number: int) -> Asked:
    """Make the n-th batch of events; its ids are told by what it says."""
    now, rows, ids = time.time_ns() // 1_000_000, [], []
    for place in range(A_BATCH):
        unit = f"b{number}-{place}"
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


@pytest.mark.parametrize("clean_stop", [True, False])
def test_no_event_is_lost_while_the_broker_is_away(
    durable: Broker, lab: Lab, clean_stop: bool
) -> None:
    stream = ("--stream", durable.url(f"faults-{uuid4().hex}"))
    T=time.monotonic()
    with command(lab, "ingest", *stream), serving(lab, *stream) as one, serving(lab, *stream) as two:
        print("up", time.monotonic()-T)
        with pressure([one.url, two.url], batch) as replies:
            time.sleep(1.0)
            (durable.stop if clean_stop else durable.kill)()
            away = time.monotonic()
            time.sleep(2.0)
            back = time.monotonic()
            durable.start()
            print("broker", time.monotonic()-back)
            time.sleep(1.0)
        print("before", figures([reply for reply in replies if reply.sent < away]))
        print("away  ", figures([reply for reply in replies if away <= reply.sent < back]))
        print("all   ", figures(replies))
        assert {reply.status for reply in replies} == {202}
        t=time.monotonic()
        check_stored(lab, replies)
        print("stored after", time.monotonic()-t)
        print(one.log)
        T=time.monotonic()
    print("down", time.monotonic()-T)


