"""What commands say of a stream that cannot be opened: one line, soon, and no password."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker

from armlift.cli import run
from armlift.streams.kafka import KafkaStream

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait 2 seconds for a broker instead of 10."""
    assert KafkaStream.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(KafkaStream.__init__.__kwdefaults__, "connect_seconds", 2.0)


@pytest.mark.usefixtures("impatient")
def test_a_stream_that_does_not_answer_is_one_line(refused: Refused, lab: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        url = f"kafka://127.0.0.1:{silent.getsockname()[1]}/events"
        start = time.monotonic()
        line = refused("ingest", "--once", "--lab", lab, "--stream", url)
    assert line.startswith(f"{url}: no broker answers within 2 s: ")
    assert line.endswith("REFUSED")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("kafka://", "'kafka://' is no stream, must be local://FOLDER or kafka://HOST:PORT/TOPIC"),
        ("kafka://host/topic", "names no topic, must be like kafka://HOST:PORT[,HOST:PORT]/TOPIC"),
        ("kafka://host:9092", "names no topic"),
        ("kafka://host:9092/a topic", "names no topic"),
        ("kafka://host:9092/..", "names no topic"),
        ("kafka://me:hidden@host:9092/topic", "holds user or password, must be kafka://HOST:PORT/TOPIC"),
    ],
)
def test_a_kafka_url_is_checked_before_anything_is_done(
    refused: Refused, lab: Path, url: str, complaint: str
) -> None:
    line = refused("ingest", "--once", "--lab", lab, "--stream", url)
    assert line.startswith("--stream: ")
    assert complaint in line
    assert "hidden" not in line


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            'security = "SASL_PLAINTEXT"',
            "SASL_PLAINTEXT takes kafka.user and kafka.password, both must be given",
        ),
        ('user = "me"', "PLAINTEXT takes neither, they must not be given"),
        ('ca_file = "ca.pem"', "kafka.ca_file: PLAINTEXT takes none"),
        ('security = "SSL"\nca_file = "ca.pem"', "ca.pem, must be a PEM file"),
        ("password = 12345678", "kafka.password: must be text, in quotes"),
        (
            'security = "TLS"',
            "kafka.security: 'TLS' must be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_line(
    refused: Refused, lab: Path, edit: Edit, settings: str, complaint: str
) -> None:
    edit("armlift.toml", 'security = "PLAINTEXT"', settings)
    line = refused("ingest", "--once", "--lab", lab, "--stream", "kafka://127.0.0.1:1/events")
    assert complaint in line
    assert "12345678" not in line


def test_a_missing_topic_is_an_error_where_none_may_be_made(
    refused: Refused, lab: Path, edit: Edit, broker: Broker
) -> None:
    edit("armlift.toml", "create_topic = true", "create_topic = false")
    url = broker.url(f"missing-{uuid4().hex}")
    line = refused("ingest", "--once", "--lab", lab, "--stream", url)
    assert line == f"{url}: there is no such topic, must be made first (kafka.create_topic is false)"


@pytest.mark.usefixtures("impatient")
def test_the_password_comes_from_the_environment_and_is_not_shown(
    refused: Refused,
    lab: Path,
    edit: Edit,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not broker.durable:
        pytest.skip(f"{broker.name} is started without SASL")
    url = broker.url(f"secret-{uuid4().hex}", sasl=True)
    command = ["ingest", "--once", "--lab", str(lab), "--stream", url]
    edit("armlift.toml", '"PLAINTEXT"', '"SASL_PLAINTEXT"')
    monkeypatch.setenv("ARMLIFT_KAFKA__USER", "armlift")
    monkeypatch.setenv("ARMLIFT_KAFKA__PASSWORD", "guessed-wrong")
    line = refused(*command)
    assert line.startswith(f"{url}: ")
    assert "kafka.password" in line
    assert "guessed-wrong" not in line
    monkeypatch.setenv("ARMLIFT_KAFKA__PASSWORD", "armlift-test")
    assert run(command) == 0
    assert "0 records" in capsys.readouterr().out


def test_kafka_is_loaded_for_its_streams_alone(lab: Path) -> None:
    code = f"import sys; from armlift.cli import run; run(['ingest', '--once', '--lab', {str(lab)!r}])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('kafka' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
