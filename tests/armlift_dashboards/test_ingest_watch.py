"""The watch over a stream answers soon, whatever the stream does, and makes none."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker
from sqlalchemy import Engine

from armlift.lab import Lab, init_lab
from armlift.streams.opening import open_stream
from armlift_dashboards import ingest_watch
from armlift_dashboards.ingest_watch import IngestWatch, Look


@contextmanager
def watching(lab: Lab, engine: Engine) -> Iterator[IngestWatch]:
    watch = IngestWatch(lab, engine)
    try:
        yield watch
    finally:
        watch.close()


def until(watch: IngestWatch, done: Callable[[Look], bool]) -> Look:
    """Look again and again, as a page does."""
    deadline = time.monotonic() + 20
    while not done(look := watch.look(0.2)):
        assert time.monotonic() < deadline, look
        time.sleep(0.1)
    return look


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_lab(tmp_path / "lab")
    return tmp_path / "lab"


@pytest.fixture(autouse=True)
def every_look_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_watch, "KEPT", 0.3)


def test_a_stream_that_is_not_there_yet_is_missing_until_it_is(engine: Engine, folder: Path) -> None:
    lab = Lab(folder)
    with watching(lab, engine) as watch:
        look = watch.look(20)
        assert (look.missing, look.trouble, look.status.partitions) == (True, None, [])
        assert not (folder / "stream").exists()
        with open_stream(lab) as stream:
            stream.publish("u1", b"x")
            stream.flush()
        found = until(watch, lambda one: one.trouble is None and not one.missing)
        assert (found.trouble, found.status.lag) == (None, 1)
        with open_stream(lab) as stream:
            stream.publish("u1", b"y")
            stream.flush()
        assert until(watch, lambda one: one.status.lag == 2).trouble is None


def test_a_stream_made_again_is_opened_anew(engine: Engine, folder: Path) -> None:
    lab = Lab(folder)
    open_stream(lab).close()
    with watching(lab, engine) as watch:
        first = watch.look(20).status.stream_id
        shutil.rmtree(folder / "stream")
        assert "was deleted" in str(until(watch, lambda one: one.trouble is not None).trouble)
        open_stream(lab).close()
        found = until(watch, lambda one: one.trouble is None and not one.missing)
        assert found.status.stream_id not in ("", first)


def test_an_answer_serves_all_who_look_meanwhile(engine: Engine, folder: Path) -> None:
    with watching(Lab(folder), engine) as watch:
        first = watch.look(20)
        assert watch.look(0) is first


def test_brokers_that_do_not_answer_hold_up_nobody(engine: Engine, folder: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, and says nothing
        lab = Lab(folder, stream=f"kafka://127.0.0.1:{silent.getsockname()[1]}/events")
        with watching(lab, engine) as watch:
            begun = time.monotonic()
            look = watch.look(0.5)
            assert time.monotonic() - begun < 2.0
            assert (look.trouble, look.missing) == ("it has not answered within 0.5 s", False)
            found = until(watch, lambda one: "no broker answers" in str(one.trouble))
    assert found.status.partitions == []
    assert "within 3 s" in str(found.trouble)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_topic_is_watched_and_never_made(engine: Engine, folder: Path, broker: Broker) -> None:
    lab = Lab(folder, stream=broker.url(f"watched-{uuid4().hex}"))
    with watching(lab, engine) as watch:
        assert watch.look(20).missing
        with open_stream(lab) as stream:
            stream.publish("u1", b"x")
            stream.flush()
            found = until(watch, lambda one: one.trouble is None and not one.missing)
            assert (found.trouble, found.status.lag) == (None, 1)
            assert found.status.stream_id == stream.stream_id
