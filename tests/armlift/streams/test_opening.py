"""A lab's stream is opened as its settings say, made or not, and again and again."""

import socket
import time
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker

from armlift.errors import StreamError
from armlift.lab import Lab, init_lab
from armlift.streams import opening
from armlift.streams.opening import open_existing_stream, open_stream, stream_opener


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


def test_an_embedded_stream_that_is_not_there_is_not_made(lab: Lab) -> None:
    folder = lab.folder / "stream"
    assert open_existing_stream(lab, seconds=1.0) is None
    assert not folder.exists()
    with open_stream(lab) as made:
        found = open_existing_stream(lab, seconds=1.0)
        assert found is not None
        with found:
            assert found.stream_id == made.stream_id


def test_a_topic_that_is_not_there_is_not_made(lab: Lab, broker: Broker) -> None:
    opened = Lab(lab.folder, stream=broker.url(f"missing-{uuid4().hex}"))
    assert opened.settings.kafka.create_topic
    for _ in range(2):
        assert open_existing_stream(opened, seconds=10.0) is None
    with open_stream(opened) as made:
        found = open_existing_stream(opened, seconds=10.0)
        assert found is not None
        with found:
            assert found.stream_id == made.stream_id


def test_an_opener_opens_the_same_stream_again(lab: Lab, broker: Broker) -> None:
    for url in (None, broker.url(f"opened-{uuid4().hex}")):
        opened = Lab(lab.folder, stream=url)
        opener = stream_opener(opened)
        with opener() as first, opener() as second, open_stream(opened) as other:
            assert first is not second
            assert first.stream_id == second.stream_id == other.stream_id


def test_an_opener_gives_brokers_seconds_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        opener = stream_opener(Lab(lab.folder, stream=f"kafka://127.0.0.1:{silent.getsockname()[1]}/events"))
        start = time.monotonic()
        with pytest.raises(StreamError, match=r"no broker answers within 0\.5 s"):
            opener()
        assert time.monotonic() - start < 5
