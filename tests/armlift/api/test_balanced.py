"""Several processes answer as one: beside PostgreSQL and Kafka they share nothing, and any of them may go.

Broker, database, HAProxy and `armlift serve` are real; a name server stands in for that of the containers.
"""

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest
import yaml
from brokers import Broker
from databases import free_port
from pressure import Asked, figures, pressure
from serving_lab import NAME, Answering, command, promote_newer, ready, serving, size_of, wait_for
from sqlalchemy import Engine, NullPool, create_engine, make_url, select, text

from armlift import keys
from armlift.client import Client
from armlift.lab import Lab
from armlift.store.database import open_database, writing
from armlift.store.tables import exposures

PATIENCE = 40.0
THREADS = 4
HOSTS = ("127.0.0.2", "127.0.0.3")
CONFIG = Path("docs") / "haproxy.cfg"


class Balanced(NamedTuple):
    """Two processes behind HAProxy: their lab, its database, the URL before them, a key, and who they are."""

    lab: Lab
    engine: Engine
    url: str
    key: str
    processes: tuple[Answering, Answering]

    def client(self, url: str | None = None) -> Client:
        """Give a client of HAProxy, or of one process."""
        return Client(url or self.url, self.key)

    @property
    def clients(self) -> list[Client]:
        """Give a client of each process."""
        return [self.client(one.url) for one in self.processes]


@contextmanager
def names(addresses: list[str]) -> Iterator[str]:
    """Answer every question for a name with these addresses, as Docker does for a service."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while (asked := server.recvfrom(4096))[0]:
                query, whom = asked
                end = query.index(0, 12) + 5
                found = addresses if query[end - 3] == 1 else []
                head = query[:2] + struct.pack("!5H", 0x8180, 1, len(found), 0, 0)
                rows = [struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(one) for one in found]
                server.sendto(head + query[12:end] + b"".join(rows), whom)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.sendto(b"", server.getsockname())
            thread.join()


def program() -> str:
    """Give the path of HAProxy, which no user's PATH need hold; skips where it is not installed."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("haproxy is not installed")
    return found


@contextmanager
def haproxy(config: Path, **environment: str) -> Iterator[None]:
    """Run HAProxy with the configuration of the containers."""
    with subprocess.Popen([program(), "-f", str(config)], env=environment, stderr=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.terminate()
            process.communicate(timeout=20)


@pytest.fixture(scope="module")
def database(postgresql_url: str) -> str:
    name = f"balanced_{time.monotonic_ns()}"
    once = create_engine(postgresql_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with once.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return make_url(postgresql_url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def balanced(
    root: Path, database: str, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Balanced]:
    """Serve two labs that share what the settings name and nothing else, and ingest beside."""
    folder = tmp_path_factory.mktemp("balanced")
    serve = {"require_keys": True, "budget_ms": 20_000}
    stream = broker.url(f"balanced-{uuid4().hex}")
    lab = ready(folder / "first", size_of(200, 1), database=database, stream=stream, serve=serve)
    (other := folder / "second").mkdir()
    for name in ("arms", "experiments"):
        shutil.copytree(lab.folder / name, other / name)
    settings = (lab.folder / "armlift.toml").read_text()
    assert 'artefact_url = "models"' in settings
    (other / "armlift.toml").write_text(settings.replace('"models"', f'"{lab.folder / "models"}"'))
    (other / "metrics.yaml").write_text((lab.folder / "metrics.yaml").read_text())
    engine = open_database(lab)
    with writing(engine) as connection:
        key = keys.create(connection, "shop", keys.SCOPES, by="me", at=0).text
    port, front = str(free_port()), free_port()
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        stack.enter_context(command(lab, "ingest"))
        first, second = (
            stack.enter_context(serving(each, "--host", host, "--port", port))
            for each, host in zip((lab, Lab(other)), HOSTS, strict=True)
        )
        dns = stack.enter_context(names(list(HOSTS)))
        listen = f"127.0.0.1:{front}"
        stack.enter_context(haproxy(root / CONFIG, API=f"api:{port}", DNS=dns, LISTEN=listen))
        url = f"http://{listen}"
        wait_for(lambda: both_answer(url), PATIENCE)
        yield Balanced(lab, engine, url, key, (first, second))


def both_answer(url: str) -> bool:
    """Tell whether HAProxy has found both: it then never fails, whomever it takes."""
    try:
        found = [httpx.get(f"{url}/readyz", trust_env=False).status_code for _ in range(4)]
    except httpx.TransportError:
        return False
    return found == [200] * 4


def items_of(client: Client, unit: str) -> list[str]:
    """Ask for a unit's slate."""
    answer = client.recommend(unit, experiment=NAME)
    assert answer.fallback is None
    return [one.item_id for one in answer.items]


def version(client: Client, unit: str) -> str:
    """Ask which version answers a unit."""
    return client.recommend(unit, experiment=NAME).arm_version


def test_a_unit_is_assigned_alike_and_exposed_once(balanced: Balanced) -> None:
    units, (one, other) = [f"sticky{number}" for number in range(30)], balanced.clients
    first = {unit: one.recommend(unit, experiment=NAME).arm for unit in units}

    def exposed() -> Counter[tuple[str, str]]:
        with balanced.engine.connect() as connection:
            found = connection.execute(select(exposures.c.unit_id, exposures.c.arm)).all()
        return Counter((row.unit_id, row.arm) for row in found if row.unit_id in first)

    wait_for(lambda: len(exposed()) == len(units), PATIENCE)
    assert {unit: other.recommend(unit, experiment=NAME).arm for unit in units} == first
    assert {unit: other.assignments(unit, experiment=NAME)[0].arm for unit in units} == first
    assert len(set(first.values())) == 2
    time.sleep(1.0)
    assert exposed() == Counter(first.items()), "who asks the other one is no new exposure"


def test_what_a_unit_does_is_known_to_the_other_soon(balanced: Balanced) -> None:
    one, other = balanced.clients
    answer = one.recommend("follows", experiment=NAME)
    taken = {item.item_id for item in answer.items[:3]}
    assert taken <= set(items_of(other, "follows"))
    one.send([one.feedback(answer, place, "click") for place in range(3)])
    assert not taken & set(items_of(one, "follows")), "at once where it was told"
    began = time.monotonic()
    wait_for(lambda: not taken & set(items_of(other, "follows")), PATIENCE)
    print(f"the other process knew after {time.monotonic() - began:.2f} s")


def test_behind_haproxy_a_units_own_events_count_in_its_next_slate(balanced: Balanced) -> None:
    with balanced.client() as client:
        for number in range(10):
            unit = f"next{number}"
            answer = client.recommend(unit, experiment=NAME)
            client.send([client.feedback(answer, place, "click") for place in range(3)])
            taken = {item.item_id for item in answer.items[:3]}
            assert not taken & set(items_of(client, unit)), unit


def test_versions_and_hidden_items_reach_both(balanced: Balanced) -> None:
    one, other = balanced.clients
    hidden = items_of(one, "hidden")[0]
    told = {"items": [{"item_id": hidden, "available": False}]}
    headers = {"Authorization": f"Bearer {balanced.key}"}
    assert httpx.post(f"{balanced.url}/v1/items", json=told, headers=headers, trust_env=False).is_success
    for client in (one, other):
        wait_for(lambda client=client: hidden not in items_of(client, "hidden"), PATIENCE)  # type: ignore[misc]

    given = (one.recommend(f"version{number}", experiment=NAME) for number in range(100))
    before = next(answer for answer in given if answer.arm == "popularity")
    newer = promote_newer(balanced.lab, balanced.engine, [item.item_id for item in before.items])
    assert newer != before.arm_version
    for client in (one, other):
        wait_for(lambda client=client: version(client, before.unit_id) == newer, PATIENCE)  # type: ignore[misc]


def test_one_that_is_killed_takes_nothing_but_what_it_had_in_hand(balanced: Balanced) -> None:
    """And a client that asks again misses not even that. The last test that needs both processes."""
    key = {"Authorization": f"Bearer {balanced.key}"}

    def ask(number: int) -> Asked:
        unit = f"killed{number}"
        body = {"unit_id": unit, "experiment": NAME}
        return Asked("POST", "/v1/recommend", body, headers={**key, "X-Unit": unit})

    answered = 0
    with pressure([balanced.url], ask, threads=THREADS) as replies, balanced.client() as client:
        wait_for(lambda: len(replies) > 100, PATIENCE)
        killed = time.monotonic()
        balanced.processes[0].process.kill()
        while len(replies) < 300 or answered < 50:
            client.recommend(f"again{answered}", experiment=NAME)
            answered += 1
    print(figures(replies))
    lost = [reply for reply in replies if reply.status != 200]
    assert len(lost) <= THREADS
    assert {reply.status for reply in lost} <= {0, 502}
    assert all(reply.sent < killed + 1 for reply in lost)


def test_the_containers_scale_behind_a_configuration_that_haproxy_takes(root: Path) -> None:
    services = yaml.safe_load((root / "compose.yaml").read_text())["services"]
    for name in ("ingest", "api"):
        assert not {"container_name", "ports", "hostname", "network_mode"} & set(services[name]), name
    (published,) = services["haproxy"]["ports"]
    (mounted,) = services["haproxy"]["volumes"]
    assert mounted == f"./{CONFIG}:/usr/local/etc/haproxy/haproxy.cfg:ro"
    config = (root / CONFIG).read_text()
    port = published.rpartition(":")[2]
    assert f"presetenv LISTEN *:{port}\n" in config
    assert "presetenv API api:8000\n" in config, "the service, at the port of `armlift serve`"
    assert "--port" not in services["api"]["command"]
    for name in ("ingest", "schedule", "api", "dashboard"):
        assert int(services[name]["environment"]["ARMLIFT_KAFKA__PARTITIONS"]) >= 16
    checked = subprocess.run([program(), "-c", "-f", str(root / CONFIG)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
